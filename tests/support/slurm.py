"""Run a real Slurm on this machine for tests: munge, a controller and two nodes, in one folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .clusters import BIN, environment, free_ports, run, started, until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONF = """\
ClusterName=cryo
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=30
JobRequeue=1
SchedulerParameters=requeue_delay=1
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={node1} CPUs=2 RealMemory=4000
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={node2} CPUs=2 RealMemory=4000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True)
class Slurm:
    """A running Slurm, and the environment of its commands."""

    env: Mapping[str, str]

    def __call__(self, *words: str | Path, cwd: Path | None = None) -> str:
        """Run a Slurm command, and return its output."""
        done = run(*words, env=self.env, cwd=cwd, timeout_s=60)
        assert done.code == 0, done.output
        return done.output

    def state(self, job: str) -> str:
        """Return Slurm's state of a job: RUNNING, COMPLETED, ..."""
        words = self("scontrol", "show", "job", job).split()
        return next(w.removeprefix("JobState=") for w in words if w.startswith("JobState="))


def why_not() -> str:
    """Return why Slurm cannot run here; empty if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd and munged are started by root"


@contextlib.contextmanager
def slurm() -> Iterator[Slurm]:
    """Start Slurm on its own loopback ports, with two nodes on this host; end it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # munge refuses an open folder
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    control, node1, node2 = free_ports(3)
    host = socket.gethostname().split(".")[0]
    conf = CONF.format(host=host, folder=folder, control=control, node1=node1, node2=node2)
    (folder / "slurm.conf").write_text(conf)
    env = environment(SLURM_CONF=str(folder / "slurm.conf"))
    munge = [f"--{name}-file={folder / name}" for name in ("pid", "log", "seed")]
    munge += [f"--key-file={folder / 'munge.key'}", f"--socket={folder / 'munge.sock'}", "--force"]
    try:
        with (
            started("munged", "--foreground", *munge, env=env, log=folder / "munged.out"),
            _after(lambda: (folder / "munge.sock").exists()),
            started("slurmctld", "-D", env=env, log=folder / "slurmctld.out"),
            started("slurmd", "-D", "-N", "n1", env=env, log=folder / "slurmd1.out"),
            started("slurmd", "-D", "-N", "n2", env=env, log=folder / "slurmd2.out"),
        ):
            until(
                lambda: run("sinfo", "-h", "-t", "idle", "-o", "%D", env=env).output.strip() == "2"
            )
            yield Slurm(env)
    finally:
        subprocess.run(["pkill", "-KILL", "-f", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _after(what: object) -> Iterator[None]:
    until(what)  # type: ignore[arg-type]
    yield


__all__ = ["BIN", "Slurm", "slurm", "why_not"]
