#!/usr/bin/env bash
# Deletes all jobs of the Grid Engine that up.sh started in a folder, and stops it: tests/gridengine/down.sh <folder>
set -uo pipefail
S=$(realpath -m "$1")
[ -f "$S/env.sh" ] || exit 0
. "$S/env.sh"
qdel -f -u '*' >/dev/null 2>&1
for name in sge_execd sge_qmaster; do
    for pid in $(pgrep -x "$name"); do
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "SGE_ROOT=$SGE_ROOT" || continue
        kill "$pid"
        for _ in $(seq 1 100); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null
    done
done
exit 0
