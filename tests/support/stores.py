"""Run a real S3 server for tests: moto's, on a loopback port or in a host's namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .clusters import BIN, environment, run, started, until

BUCKET = "cryo"
KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "keeps-this-to-himself"}


def url(address: str, port: int, *, folder: str = "studies") -> str:
    """Return the value of CRYO_CHECKPOINTS for the server."""
    query = f"endpoint_override={address}:{port}&scheme=http&region=us-east-1"
    return f"s3://{BUCKET}/{folder}?{query}"


@contextlib.contextmanager
def server(
    folder: Path, *, port: int, address: str = "127.0.0.1", host: str = ""
) -> Iterator[None]:
    """Run a server with one bucket.

    Args:
        folder: Folder of its log.
        port: Port to listen on.
        address: Address to listen on.
        host: Name of its network namespace; empty: this machine's.
    """
    there = ("ip", "netns", "exec", host) if host else ()
    words = (*there, str(BIN / "moto_server"), "-H", address, "-p", str(port))
    bucket = f"http://{address}:{port}/{BUCKET}"
    with started(*words, env=environment(**KEYS), log=folder / "s3.log"):
        put = (*there, "curl", "-sf", "-X", "PUT", bucket)
        until(lambda: run(*put, env=environment()).code == 0)
        yield
