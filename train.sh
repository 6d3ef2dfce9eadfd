#!/usr/bin/env bash
# Imports a pipeline's YAML file and runs it in one step: ./train.sh config.yaml [override ...]
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: ./train.sh config.yaml [override ...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
python=python
[ -x "$here/.venv/bin/python" ] && python=$here/.venv/bin/python
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
name=$("$python" -m arc_experiments.import_config "$1")
exec "$python" -m arc_experiments experiment="$name" "${@:2}"
