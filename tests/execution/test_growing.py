"""A cluster that grows: Ray's own autoscaler, with a provider that starts nodes on this machine."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..support.clusters import (
    BIN,
    answers,
    check_nothing_left,
    environment,
    free_ports,
    run,
    started,
    tiny_study,
    until,
)
from ..support.recorded import recorded_events

pytestmark = pytest.mark.ray
KINDS = {
    "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 1, "max_workers": 4},
}


NOTHING = (
    *("cluster_synced_files", "file_mounts_sync_continuously", "rsync_exclude", "rsync_filter"),
    *("initialization_commands", "setup_commands", "head_setup_commands"),
    *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
)


@contextmanager
def growing(folder: Path) -> Iterator[dict[str, str]]:
    """A head without cores whose autoscaler may add four nodes; yields what a driver needs."""
    port, dashboard, client = free_ports(3)
    (folder / "token").write_text(secrets.token_hex(32))
    mark = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    config = {
        "cluster_name": "fake",
        **{name: [] for name in NOTHING},
        **{name: {} for name in ("file_mounts", "auth", "docker")},
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "max_workers": 4,
        "provider": {
            "type": "fake_multinode",
            "disable_node_updaters": True,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": KINDS,
        "head_node_type": "ray.head.default",
    }
    (folder / "grows.json").write_text(json.dumps(config))
    scratch = tempfile.mkdtemp(prefix="cr-", dir="/tmp")  # sockets take short paths only
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=0", "--num-gpus=0"]
    words += [f"--dashboard-port={dashboard}", f"--temp-dir={scratch}", "--disable-usage-stats"]
    words += ["--node-ip-address=127.0.0.1", f"--autoscaling-config={folder / 'grows.json'}"]
    words += ["--dashboard-agent-listen-port=0", f"--ray-client-server-port={client}"]
    mark["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    env = environment(**mark, AUTOSCALER_UPDATE_INTERVAL_S="1", RAY_FAKE_CLUSTER="1")
    try:
        with started(BIN / "ray", *words, env=env, log=folder / "head.log"):
            until(lambda: answers(f"http://127.0.0.1:{dashboard}/api/gcs_healthz") == 200)
            yield {**env, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        check_nothing_left(str(folder / "token"))


def alive(env: dict[str, str]) -> int:
    """Return how many nodes the cluster has, the head among them."""
    listed = run("ray", "list", "nodes", "--format", "json", env=env).output
    return listed.count('"ALIVE"')


@pytest.mark.timeout(1200)  # 800 epochs on two nodes, and a busy machine may be slow
def test_a_study_gets_the_nodes_that_it_asks_for(tmp_path: Path) -> None:
    """One node is there; `search.parallel: 2` has a second one started, and no third."""
    more = {"search__parallel": 2, "search__trials": 4, "base__epochs": 200, "seeds": [1]}
    study = tiny_study(tmp_path / "sent", tmp_path / "data", name="grown", **more)
    places = {f"CRYO_{n.upper()}": str(tmp_path / n) for n in ("data", "storage", "cache")}
    with growing(tmp_path) as env:
        until(lambda: alive(env) == 2)
        done = run("cryo-hpo", "run", study, env={**env, **places}, timeout_s=1000)
        assert done.code == 0, done.output
        nodes = alive(env)
    epochs = recorded_events(tmp_path / "storage/grown", "epoch")
    assert len({event["pid"] for event in epochs}) >= 2
    assert nodes == 3, "the head and two"
