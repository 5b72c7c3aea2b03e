"""A real Slurm of one node, this machine: its daemons, ports and files are a test session's own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import programs
import psutil
from availability import unavailable

from pairsearch.search.engines.contract import Engine
from pairsearch.search.engines.slurm import Slurm
from pairsearch.search.workers.program import MAIN

CORES = 4
"""Tasks that run at once, whatever the machine has."""
REFUSED = {"partition": "nowhere"}, "Invalid partition name specified"
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={daemon}
# The time for which a credential is good is the time for which a requeued task waits: 121 s if it is not given.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=16000
PartitionName=main Nodes={host} Default=YES OverTimeLimit=0
"""


@contextmanager
def engine(folder: Path) -> Iterator[Callable[..., Engine]]:
    """Start it for the block; yields what makes an `Engine` of options."""
    with cluster(folder) as configuration:
        yield partial(made, configuration)


def made(configuration: Path, **options: str) -> Engine:
    """The engine of a cluster."""
    return Slurm(str(configuration), options)


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Start it for the block; its configuration's file. Processes of tasks have ended when this returns."""
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program, path=SEARCHED) is None:
            unavailable(f"no {program} is installed (Debian: apt-get install slurm-wlm munge)")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    # Others may not write where the socket lies.
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    configuration = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    controller, daemon = free_ports(2)
    configuration.write_text(
        CONFIGURATION.format(
            host=host,
            user=getpass.getuser(),
            controller=controller,
            daemon=daemon,
            folder=folder,
            cores=CORES,
        ),
        encoding="utf-8",
    )
    files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
    with ExitStack() as stack:
        start = partial(_daemon, stack, folder)
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        programs.wait_for((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D", "-f", str(configuration))
        start("slurmd", "-D", "-f", str(configuration))
        programs.wait_for(
            lambda: "idle" in ask(configuration, "sinfo", "-h", "-o", "%t"), "a node that is idle", pause=0.2
        )
        try:
            yield configuration
        finally:
            ask(configuration, "scancel", "--user", getpass.getuser())
            programs.wait_for(
                lambda: not ask(configuration, "squeue", "-h"), "Slurm's queue to be empty", pause=0.2
            )


SEARCHED = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def _daemon(stack: ExitStack, folder: Path, *command: str) -> None:
    program = shutil.which(command[0], path=SEARCHED)
    assert program is not None
    log = stack.enter_context((folder / f"{command[0]}.out").open("wb"))
    process = psutil.Popen([program, *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def end() -> None:
        every = [process, *process.children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(every, timeout=30)
        for one in left:
            one.kill()

    stack.callback(end)


def ask(configuration: Path, *command: str) -> str:
    """What one of Slurm's commands prints; empty where it fails."""
    done = subprocess.run(
        command,
        env=os.environ | {"SLURM_CONF": str(configuration)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""


def workers(configuration: Path) -> list[psutil.Process]:
    """The workers that tasks run."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        ours = (process.info["environ"] or {}).get("SLURM_CONF") == str(configuration)
        if ours and (process.info["cmdline"] or [])[2:4] == [MAIN, "worker"]:
            found.append(process)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in found]
