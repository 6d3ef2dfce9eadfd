#!/usr/bin/env bash
# A real SLURM cluster of two nodes on this machine, on loopback alone, for the tests marked `slurm`: Debian, as root.
#   tests/slurm/up.sh <folder>      installs SLURM if it is missing, starts what is not running; then: source <folder>/env.sh
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "up.sh: must be root" >&2; exit 1; }
S=$(realpath -m "$1")
NODES=2 CPUS=4 FIRST_PORT=26820 CONTROL_PORT=26817

if ! { command -v slurmctld && command -v slurmd && command -v munged && command -v sbatch; } >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurmctld slurmd slurm-client munge >/dev/null
fi

# Daemons bind to the addresses that host and node names resolve to.
H=$(hostname -s)
for name in "$H" n1 n2; do
    case "$(getent ahostsv4 "$name" | awk 'NR==1{print $1}')" in 127.*) ;; *) echo "127.0.0.1 $name # slurm tests" >>/etc/hosts ;; esac
done

umask 022
mkdir -p "$S"/{etc,log,run,state,spool/n1,spool/n2,munge,dev}
chmod 711 "$S/munge"
[ -s "$S/munge/munge.key" ] || (umask 077; dd if=/dev/urandom of="$S/munge/munge.key" bs=128 count=1 status=none)
[ -c "$S/dev/gpu0" ] || mknod "$S/dev/gpu0" c 1 3  # a GPU must be a character device, and without cgroups any is one
MEMORY=$(awk '/^MemTotal/{print int($2/1024*0.9)}' /proc/meminfo)

cat >"$S/etc/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire: so many seconds a requeued job waits (120 by default)
AuthInfo=socket=$S/munge/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$CONTROL_PORT
SrunPortRange=30001-34000
SlurmctldPidFile=$S/run/slurmctld.pid
SlurmctldLogFile=$S/log/slurmctld.log
StateSaveLocation=$S/state
SlurmdPidFile=$S/run/slurmd.%n.pid
SlurmdLogFile=$S/log/slurmd.%n.log
SlurmdSpoolDir=$S/spool/%n
# no cgroups: limits of CPUs and memory are booked, not enforced
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
MinJobAge=86400
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
OverTimeLimit=0
KillWait=5
CompleteWait=0
InactiveLimit=0
Waittime=0
ReturnToService=2
SlurmdTimeout=20
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2,requeue_setup_env_fail
PriorityType=priority/basic
EnforcePartLimits=ALL
GresTypes=gpu
NodeName=n[1-$NODES] NodeHostname=$H NodeAddr=127.0.0.1 Port=[$((FIRST_PORT + 1))-$((FIRST_PORT + NODES))] CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEMORY Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE DefaultTime=60 State=UP PriorityTier=10 PreemptMode=OFF
CONF
echo "NodeName=n[1-$NODES] Name=gpu File=$S/dev/gpu0" >"$S/etc/gres.conf"
: >"$S/etc/plugstack.conf"
echo "export SLURM_CONF=$S/etc/slurm.conf" >"$S/env.sh"
. "$S/env.sh"

runs() { # runs PIDFILE NAME
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}
runs "$S/run/munged.pid" munged || munged --socket="$S/munge/munge.socket" --key-file="$S/munge/munge.key" \
    --log-file="$S/munge/munged.log" --pid-file="$S/run/munged.pid" --seed-file="$S/munge/munged.seed" --num-threads=2
runs "$S/run/slurmctld.pid" slurmctld || slurmctld
for node in n1 n2; do runs "$S/run/slurmd.$node.pid" slurmd || slurmd -N "$node"; done

for _ in $(seq 1 150); do
    # The exact states: `sinfo -t idle` also names drained nodes.
    up=$(sinfo -h -N -p main -o '%N %T' 2>/dev/null | grep -cE ' (idle|mixed|allocated|completing)$' || true)
    [ "$up" = "$NODES" ] && { echo "slurm is up: source $S/env.sh"; exit 0; }
    sleep 0.2
done
echo "up.sh: $up of $NODES nodes came up" >&2
tail -n 5 "$S"/log/slurm*.log >&2 || true
exit 1
