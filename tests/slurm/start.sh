#!/bin/sh
# Starts a Slurm of two nodes on this machine, each with two CPUs and two GPUs that do not exist.
# A job goes to the node that has least to do (LLN).
#
#     apt-get install --no-install-recommends slurm-wlm munge
#     tests/slurm/start.sh         start it; does nothing where it runs
#     tests/slurm/start.sh stop    end it
#
# Needs root, but no systemd. It has no accounting database, and its files are in /etc/slurm,
# /run/mpd-slurm and /etc/munge: do not run it on a machine that belongs to a cluster.
set -eu
state=/run/mpd-slurm
PATH="$PATH:/usr/sbin:/sbin"

stop() {
    for name in n1.pid n2.pid ctld.pid munged.pid; do
        if [ -e "$state/$name" ]; then
            kill "$(cat "$state/$name")" 2> /dev/null || true
            rm -f "$state/$name"
        fi
    done
}

if [ "${1:-}" = stop ]; then
    stop
    exit
fi
if sinfo > /dev/null 2>&1; then
    exit
fi
if [ -e /etc/slurm/slurm.conf ] && ! grep -q "^ClusterName=mpd-test$" /etc/slurm/slurm.conf; then
    echo "/etc/slurm/slurm.conf is another cluster's" >&2
    exit 1
fi
stop

as_munge() {
    setpriv --reuid=munge --regid=munge --clear-groups "$@"
}

mkdir -p "$state" /etc/slurm /etc/munge /run/munge /var/lib/munge /var/log/munge
chown munge:munge /etc/munge /run/munge /var/lib/munge /var/log/munge
chmod 755 /run/munge
as_munge sh -c 'umask 077; cd /etc/munge; [ -e munge.key ] || head -c 1024 /dev/urandom > munge.key'
if ! munge -n > /dev/null 2>&1; then
    as_munge munged
    cp /run/munge/munged.pid "$state/munged.pid"
fi

cat > /etc/slurm/slurm.conf << END
ClusterName=mpd-test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=500
ReturnToService=2
MinJobAge=300
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=5
SlurmdTimeout=10
MpiDefault=none
GresTypes=gpu
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/%n
SlurmctldPidFile=$state/ctld.pid
SlurmdPidFile=$state/%n.pid
SlurmctldLogFile=$state/ctld.log
SlurmdLogFile=$state/%n.log
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=8000 Gres=gpu:2
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=8000 Gres=gpu:2
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP LLN=YES
END
printf 'NodeName=%s Name=gpu File=%s\n' n1 /dev/null n1 /dev/zero n2 /dev/null n2 /dev/zero \
    > /etc/slurm/gres.conf
# Those of an earlier start name nodes and ports that may be others'.
rm -rf "$state/ctld"
mkdir -p "$state/ctld" "$state/n1" "$state/n2"
slurmctld -c
slurmd -N n1
slurmd -N n2
for _ in $(seq 100); do
    if [ "$(sinfo --noheader --format=%D --states=idle 2> /dev/null)" = 2 ]; then
        exit
    fi
    sleep 0.1
done
echo "no two nodes after 10 s; see $state/*.log" >&2
exit 1
