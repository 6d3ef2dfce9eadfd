#!/usr/bin/env bash
# A real Grid Engine of one host on this machine, on loopback alone, for the tests marked `gridengine`: Debian, as root.
#   tests/gridengine/up.sh <folder>      installs it if it is missing, starts what is not running; then: source <folder>/env.sh
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "up.sh: must be root" >&2; exit 1; }
S=$(realpath -m "$1")

if ! { command -v sge_qmaster && command -v sge_execd && command -v qsub; } >/dev/null; then
    apt-get update -qq
    echo "gridengine-common shared/gridengineconfig boolean false" | debconf-set-selections
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gridengine-master gridengine-exec gridengine-client >/dev/null
fi

H=$(hostname -s)
umask 022
mkdir -p "$S"/{root/default/common,spool/qmaster/job_scripts,spool/execd}
for name in bin lib util utilbin; do ln -sfn "/var/lib/gridengine/$name" "$S/root/$name"; done
cat >"$S/env.sh" <<ENV
export SGE_ROOT=$S/root SGE_CELL=default SGE_QMASTER_PORT=26844 SGE_EXECD_PORT=26845 SGE_CLUSTER_NAME=tests
ENV
. "$S/env.sh"
common=$SGE_ROOT/default/common

if [ ! -s "$S/spool/db/sge" ]; then
    echo "$H" >"$common/act_qmaster"
    echo "$H localhost $(getent hosts 127.0.0.1 | cut -d' ' -f2-)" >"$common/host_aliases"
    echo tests >"$common/cluster_name"
    cat >"$common/bootstrap" <<CONF
admin_user              root
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         $S/spool/db
binary_path             /usr/sbin
qmaster_spool_dir       $S/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
CONF
    mkdir -p "$S/spool/db"
    share=/usr/share/gridengine spool=/usr/lib/gridengine
    "$spool/spoolinit" berkeleydb libspoolb "$S/spool/db" init
    # Root may run jobs here, and the host hears soon of a job that is to be stopped.
    sed -e "s|^execd_spool_dir.*|execd_spool_dir $S/spool/execd|" -e 's|^min_uid.*|min_uid 0|' -e 's|^min_gid.*|min_gid 0|' \
        -e 's|^gid_range.*|gid_range 26900-26999|' -e 's|^load_report_time.*|load_report_time 00:00:02|' "$share/default-configuration" >"$S/configuration"
    "$spool/spooldefaults" configuration "$S/configuration"
    "$spool/spooldefaults" complexes "$share/util/resources/centry"
    "$spool/spooldefaults" usersets "$share/util/resources/usersets"
    "$spool/spooldefaults" managers root
fi

runs() { # runs NAME: whether that daemon of this folder runs
    local pid
    for pid in $(pgrep -x "$1"); do
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "SGE_ROOT=$SGE_ROOT" && return 0
    done
    return 1
}
edit() { # edit SED-SCRIPT QCONF-ARGUMENTS: qconf opens an editor
    printf '#!/bin/bash\nexec sed -i -E %s "$1"\n' "$(printf %q "$1")" >"$S/edit"
    chmod +x "$S/edit"
    EDITOR=$S/edit qconf "${@:2}" >/dev/null
}
runs sge_qmaster || sge_qmaster
for _ in $(seq 1 100); do qconf -sh >/dev/null 2>&1 && break; sleep 0.2; done
if ! qconf -sq main.q >/dev/null 2>&1; then
    qconf -as "$H" >/dev/null || true  # it is one already
    edit 's/^(schedule_interval +).*/\10:0:2/; s/^(flush_(submit|finish)_sec +).*/\11/' -msconf || true  # unchanged
    edit "s/^(hostlist +).*/\1$H/; s/^(slots +).*/\14/; s/^(pe_list +).*/\1NONE/; s/^(rerun +).*/\1TRUE/; s/^(load_thresholds +).*/\1NONE/
        s/^(shell_start_mode +).*/\1unix_behavior/; s/^(notify +).*/\10:0:20/" -aq main.q
fi
runs sge_execd || sge_execd
for _ in $(seq 1 150); do
    qstat -f 2>/dev/null | grep -qE '^main.q@.* [0-9/]+ +[0-9.]+ +[^ ]+ *$' && { echo "Grid Engine is up: source $S/env.sh"; exit 0; }
    sleep 0.2
done
echo "up.sh: the host did not come up" >&2
qstat -f >&2 || true
tail -n 5 "$S/spool/qmaster/messages" >&2 || true
exit 1
