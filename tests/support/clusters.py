"""Run a real Ray head and MLflow server for tests: on loopback, ended by process group."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from .fakes import fake_folder

BIN = Path(sys.executable).parent
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else drivers of tests beside starve workers
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
SCRUBBED = ("CRYO_", "MLFLOW_", "RAY_")


@dataclass(frozen=True, slots=True)
class Head:
    """A running head, and what a client needs to connect."""

    address: str  # of its dashboard, which accepts jobs
    gcs: str
    mlflow: str
    env: Mapping[str, str]
    logs: Path

    @property
    def joined(self) -> dict[str, str]:
        """The variables with which a driver joins the cluster."""
        names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
        return {"RAY_ADDRESS": self.gcs, **{name: self.env[name] for name in names}}

    def ray(self, *words: str, cwd: Path | None = None, timeout_s: float = 600) -> Done:
        """Run `ray job ...` as a user would."""
        return run("ray", "job", *words, env=self.env, cwd=cwd, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    output: str


def environment(**more: str) -> dict[str, str]:
    """Return the environment without the user's settings, with the venv's programs first."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED)}
    return {**kept, **QUIET, "PATH": f"{BIN}:{os.environ['PATH']}", **more}


def run(
    *words: str | Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    timeout_s: float = 600,
) -> Done:
    """Run a program to its end, whatever its exit code."""
    done = subprocess.run(
        [str(word) for word in words],
        env=dict(env),
        cwd=cwd,
        timeout=timeout_s,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Done(done.returncode, done.stdout)


def free_ports(num: int) -> list[int]:
    """Return distinct ports on which no process listens."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(num)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def until(what: Callable[[], Any], *, timeout_s: float = 300, every_s: float = 0.2) -> Any:
    """Poll until the answer is true, and return it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(every_s)
    message = f"nothing happened within {timeout_s:g} s"
    raise TimeoutError(message)


def answers(url: str, headers: Mapping[str, str] = {}) -> int:
    """Return the HTTP status of a server, 0 for no answer."""
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def members(mark: str) -> dict[int, str]:
    """Return the living processes with a text in their environment: id -> command line.

    A job's driver has its own session, so neither group nor session finds them all.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark.encode() in (folder / "environ").read_bytes():
                line = (folder / "cmdline").read_bytes()
                found[int(folder.name)] = line.replace(b"\0", b" ").decode()
    return found


def listening(pids: set[int]) -> set[str]:
    """Return the addresses that processes listen on, as Linux writes them: "127.0.0.1:80"."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_rest = line.split()
            if state == "0A" and f"socket:[{line.split()[9]}]" in sockets:
                host, port = local.split(":")
                found.add(f"{_ip(host)}:{int(port, 16)}")
    return found


def _ip(text: str) -> str:
    """Parse an address of /proc/net/tcp: words of four bytes, each in reverse order."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    if len(words) == 1 or words[:3] == [bytes(4), bytes(4), b"\0\0\xff\xff"]:
        return socket.inet_ntop(socket.AF_INET, words[-1])
    return socket.inet_ntop(socket.AF_INET6, b"".join(words))


@contextlib.contextmanager
def started(
    *words: str | Path, env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in its own session, and end the whole session."""
    with log.open("wb") as file:
        server = subprocess.Popen(
            [str(word) for word in words],
            env=dict(env),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        # The leader first: Ray's ends its children in the right order.
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(5)


def check_nothing_left(mark: str) -> None:
    """End the processes that carry a mark, and fail if any outlives the servers."""
    with contextlib.suppress(TimeoutError):
        until(lambda: not members(mark), timeout_s=15)
    left = members(mark)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"processes are left over: {left}"


@contextlib.contextmanager
def head(folder: Path, *, num_cpus: int = 2, **env: str) -> Iterator[Head]:
    """Run a Ray head that requires a token, and an MLflow server with a database."""
    gcs, dashboard, client, tracking = free_ports(4)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    auth = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        **env,
    }
    scratch = Path(tempfile.mkdtemp(prefix="cr-", dir="/tmp"))  # sockets take short paths only
    ray_words = (
        *(BIN / "ray", "start", "--head", "--block", "--include-dashboard", "true"),
        *("--node-ip-address", "127.0.0.1", "--port", str(gcs)),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--dashboard-agent-listen-port", "0", "--ray-client-server-port", str(client)),
        *("--num-cpus", str(num_cpus), "--num-gpus", "0", "--temp-dir", scratch),
        *("--object-store-memory", str(100 * 2**20), "--disable-usage-stats"),
    )
    mlflow_words = (
        *(BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(tracking)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", folder / "mlartifacts"),
    )
    address, mlflow = f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{tracking}"
    try:
        with (
            started(*ray_words, env=environment(**auth), log=folder / "ray.log") as ray,
            started(*mlflow_words, env=environment(**auth), log=folder / "mlflow.log"),
        ):
            log = folder / "ray.log"  # the GCS answers before its node has started or failed to
            until(lambda: "runtime started" in log.read_text() or ray.poll(), timeout_s=300)
            assert ray.poll() is None, log.read_text()
            until(lambda: answers(f"{address}/api/gcs_healthz") == 200)
            until(lambda: answers(f"{mlflow}/health") == 200, timeout_s=300)
            logs = scratch / "session_latest" / "logs"
            yield Head(address, f"127.0.0.1:{gcs}", mlflow, environment(**auth), logs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        check_nothing_left(str(token))


def below(pid: int) -> dict[int, str]:
    """Return a process's living descendants: id -> command line."""
    parents, lines = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = status.read_text().split(" (", 1)
            parents[int(number)] = int(rest.rsplit(") ", 1)[1].split()[1])
            lines[int(number)] = status.with_name("cmdline").read_bytes().decode(errors="replace")

    def descends(one: int) -> bool:
        while one in parents and one != pid:
            one = parents[one]
        return one == pid

    return {one: line for one, line in lines.items() if one != pid and descends(one)}


def workers(pid: int) -> list[int]:
    """Return the processes below a driver or a node that train."""
    return [one for one, line in below(pid).items() if line.startswith("ray::ImplicitFunc")]


def tiny_study(folder: Path, data: Path, *, name: str, **changes: Any) -> Path:
    """Write a study of seconds into a folder of its own, and its scenes below a data root."""
    card = fake_folder(data, num=(4, 2, 2), size=(32, 32))
    study: dict[str, Any] = {
        "name": name,
        "project": "jobs",
        "base": {
            "data": {"card": json.loads(card.model_dump_json()), "crop": 32},
            "model": {"encoder": "unet", "decoder": "unet", "width": 4},
            "optim": {"lr": 1e-5},
            "batch_size": 1,
            "epochs": 4,
        },
        "search": {
            "space": {
                "params": {"optim.lr": {"kind": "float", "low": 3e-3, "high": 3e-2, "log": True}}
            },
            "trials": 3,
            "scheduler": {"kind": "none"},
            "sampler": "random",
            "parallel": 1,
        },
        "seeds": [1, 2],
        "reuse": False,
        "resources": {"cpus": 1, "gpus": 0},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = study
        for parent in parents:
            place = place[parent]
        place[last] = value
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "study.yaml"
    file.write_text(json.dumps(study))
    return file


def runs(uri: str, study: str) -> dict[str, Run]:
    """Return the runs of a study by the names of its trainings; the study's own is ""."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("cryo/jobs")
    if experiment is None:
        return {}
    found = [
        (run.data.tags["cryo.key"], run)
        for run in client.search_runs([experiment.experiment_id], max_results=1000)
        if run.data.tags.get("cryo.study") == study
    ]
    keys: Sequence[str] = [key for key, _ in found]
    assert len(keys) == len(set(keys)), f"a run was made twice: {keys}"
    return {key.removeprefix(study).lstrip("/"): run for key, run in found}
