"""Simulate several hosts on this machine: network namespaces on one bridge, a Ray node in each."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .clusters import BIN, Done, check_nothing_left, environment, run, started, until

PORT, DASHBOARD, METRICS = 6379, 8265, 9100  # each host has its own


def why_not() -> str:
    """Return why network namespaces are unavailable; empty if they work."""
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    if shutil.which("ip") is None:
        return "`ip` is not installed: apt-get install iproute2"
    probe = f"cr{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        return f"this machine allows no network namespaces: {made.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=False)
    return ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(slots=True)
class Hosts:
    """A head on the first host; others join and are killed by number."""

    folder: Path
    names: tuple[str, ...]
    env: Mapping[str, str]
    scratch: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def address(self, host: int) -> str:
        """Return the address of a host."""
        return f"10.97.0.{host + 1}"

    def cache(self, host: int) -> Path:
        """Return the folder that only this host uses for decoded pixels."""
        return self.folder / f"cache-{host}"

    def start(self, host: int, *options: str, hidden: Path | None = None, **env: str) -> None:
        """Start a Ray node of one core, unless options say more; the first is the head.

        Args:
            host: Number of the host.
            options: Further options of `ray start`.
            hidden: A folder that this host does not share with the others: it is empty there.
            env: Environment variables of this node.
        """
        words = ["--node-ip-address", self.address(host), "--num-cpus", "1", "--num-gpus", "0"]
        words += ["--object-store-memory", str(100 * 2**20), "--disable-usage-stats", "--block"]
        words += ["--metrics-export-port", str(METRICS)]
        if host == 0:
            words += ["--head", "--port", str(PORT), "--temp-dir", str(self.scratch)]
            words += ["--include-dashboard", "true", "--dashboard-host", self.address(0)]
        else:
            words += ["--address", f"{self.address(0)}:{PORT}"]
        words += options  # the last occurrence wins
        # `ip netns exec` has its own mounts, invisible to other processes
        apart = ("sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)) if hidden else ()
        self.stack.enter_context(
            started(
                *("ip", "netns", "exec", self.names[host], *self._disk(host), *apart),
                *(str(BIN / "ray"), "start", *words),
                env={**self.env, "CRYO_CACHE": str(self.cache(host)), **env},
                log=self.folder / f"node-{host}.log",
            )
        )

    def _disk(self, host: int) -> tuple[str, ...]:
        """Return a prefix that gives a host its own Ray folder, as separate machines have.

        Nodes that share one remove each other's packages, and confuse their addresses.
        """
        if host == 0:
            return ()
        own = self.folder / f"ray-{host}"
        own.mkdir(exist_ok=True)
        mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
        return ("sh", "-c", mount, str(own), str(self.scratch))

    def run(self, *words: str | Path, **env: str) -> Done:
        """Run a command on the head's host, against the cluster."""
        there = ("ip", "netns", "exec", self.names[0])
        return run(*there, *words, env={**self.env, **env}, timeout_s=600)

    def metrics(self) -> str:
        """Return what Prometheus would scrape on the head."""
        return self.run("curl", "-s", f"http://{self.address(0)}:{METRICS}/metrics").output

    def kill(self, host: int) -> None:
        """Kill everything on a host at once, as a power cut does."""
        pids = run("ip", "netns", "pids", self.names[host], env=self.env).output.split()
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def hosts(folder: Path, *head: str, num: int, **env: str) -> Iterator[Hosts]:
    """Create hosts that reach only each other; the first runs the head, with options `head`."""
    mark = secrets.token_hex(3)
    names = tuple(f"cr{mark}-{host}" for host in range(num))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    everywhere = environment(**auth, RAY_ADDRESS=f"10.97.0.1:{PORT}", **env)
    scratch = Path(tempfile.mkdtemp(prefix="cr-", dir="/tmp"))  # sockets take short paths only
    made = Hosts(folder, names, everywhere, scratch)
    try:
        with _network(names), made.stack:
            made.start(0, *head)
            url = f"http://10.97.0.1:{DASHBOARD}/api/gcs_healthz"
            until(lambda: made.run("curl", "-sf", url).code == 0)
            yield made
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        check_nothing_left(str(token))


@contextlib.contextmanager
def _network(names: tuple[str, ...]) -> Iterator[None]:
    """Create a bridge in the first namespace; every namespace is a host on it."""
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "br0", "type", "bridge")
        _ip("-n", names[0], "addr", "add", "10.97.0.1/24", "dev", "br0")
        _ip("-n", names[0], "link", "set", "br0", "up")
        for host, name in enumerate(names[1:], start=1):
            wire = f"v{host}"
            peer = ("type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", names[0], "link", "add", wire, *peer)
            _ip("-n", names[0], "link", "set", wire, "master", "br0", "up")
            _ip("-n", name, "addr", "add", f"10.97.0.{host + 1}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
