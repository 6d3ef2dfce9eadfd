#!/usr/bin/env bash
# Cancels all jobs of the cluster that up.sh started in a folder, and stops it: tests/slurm/down.sh <folder>
set -uo pipefail
S=$(realpath -m "$1")
[ -f "$S/env.sh" ] || exit 0
. "$S/env.sh"
scancel -Q --user="$(id -un)" 2>/dev/null
for _ in $(seq 1 100); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
for file in "$S"/run/slurmd.*.pid "$S/run/slurmctld.pid" "$S/run/munged.pid"; do
    pid=$(cat "$file" 2>/dev/null) || continue
    case "$(cat "/proc/$pid/comm" 2>/dev/null)" in slurmd | slurmctld | munged) kill "$pid" ;; esac
    for _ in $(seq 1 100); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null
done
exit 0
