"""The configuration of a private Slurm."""

import socket
from collections.abc import Mapping
from pathlib import Path

_CONF = """\
ClusterName=picas
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PluginDir={plugins}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
# Nothing of the machine that would need systemd, cgroups or a database:
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
# The nodes have the cores that we say, not those of the machine:
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
# Tests wait for all of these:
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
CompleteWait=0
KillWait=30
# A test that makes a partition of a higher tier takes nodes from jobs in this one:
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=5
BatchStartTimeout=10
JobRequeue=1
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
"""

_NODE = (
    "NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs={cpus} Boards=1 "
    "SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN"
)


def slurm_conf(
    root: Path,
    *,
    user: str,
    plugins: str,
    controller_port: int,
    nodes: Mapping[str, int],
    cpus: int,
) -> str:
    """The text of ``slurm.conf``.

    Args:
        root: The folder of all of its files.
        user: As whom the daemons run.
        plugins: The folder of Slurm's plug-ins.
        controller_port: Where the controller listens.
        nodes: The port of each node by its name.
        cpus: Cores of each node.
    """
    host = socket.gethostname().split(".")[0]
    lines = [
        _NODE.format(name=name, host=host, port=port, cpus=cpus) for name, port in nodes.items()
    ]
    return _CONF.format(
        host=host,
        port=controller_port,
        user=user,
        root=root,
        plugins=plugins,
        nodes="\n".join(lines),
    )
