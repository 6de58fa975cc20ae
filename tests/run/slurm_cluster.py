"""A Slurm cluster of one node on this machine, started and stopped by the tests. No test is in here."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
NEEDED = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue", "scancel")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=60
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    absent = [name for name in NEEDED if shutil.which(name, path=SEARCH) is None]
    absent += [] if importlib.util.find_spec("submitit") else ["submitit"]
    if absent:
        return f"needs {', '.join(absent)} (Debian: slurm-wlm and munge; pip install 'ssl3d[slurm]')"
    return "" if os.geteuid() == 0 else "slurmd has to be started by root"


class Cluster:
    """A running cluster.

    Attributes:
        environment: of commands that use it.
    """

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "PATH": SEARCH, "SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *command: str) -> str:
        """Run a command of Slurm, and return what it prints."""
        done = subprocess.run(command, env=self.environment, text=True, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    @property
    def host(self) -> str:
        """Name of the only node."""
        return socket.gethostname().partition(".")[0]

    def states(self) -> list[str]:
        """States of all jobs that are not over."""
        return self("squeue", "--noheader", "--array", "--format=%T").split()

    def go_on(self, *jobs: str) -> None:
        """Let requeued jobs start at once: Slurm lets them wait for two minutes."""
        for job in jobs:
            self("scontrol", "update", f"jobid={job}", "starttime=now")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Configure and start a cluster; stop it with the block."""
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    ports = [_free_port() for _ in range(2)]
    here = Cluster(folder)
    text = CONFIGURATION.format(host=here.host, folder=folder, controller=ports[0], daemon=ports[1])
    (folder / "slurm.conf").write_text(text)
    munge = [f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"]
    munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    daemons = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", here.host]]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(daemons):
            with (folder / f"daemon{number}.out").open("wb") as out:
                started.append(subprocess.Popen(command, env=here.environment, stdout=out, stderr=out))
            if number == 0:
                until((folder / "munge.socket").exists)
        until(lambda: _idle(here))
        yield here
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)


def until(holds: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


def _idle(here: Cluster) -> bool:
    command = ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(command, env=here.environment, text=True, capture_output=True, check=False)
    return "idle" in done.stdout


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
