"""One study on three hosts: its trials spread, a host joins and one dies, the result is the same."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.clusters import environment, run, tiny_study, until
from ..support.nodes import Hosts, hosts, why_not
from ..support.outcomes import outcome
from ..support.recorded import nodes_of_epochs, recorded_epochs, recorded_events, trains_on

pytestmark = [
    pytest.mark.machines,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can"),
]
TRIALS, EPOCHS = 8, 300  # long enough that a worker on another host has started


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(tmp_path_factory.mktemp("hosts"), num=3) as made:
        yield made


def examined(three: Hosts, places: dict[str, str]) -> list[str]:
    """Return the hosts that the doctor sees, once it finds nothing wrong with them."""
    well = three.run("cryo-hpo", "doctor", "--json", **places)
    found = json.loads(well.output[well.output.index("{") :])
    assert (well.code, found["problems"]) == (0, []), well.output
    return [node["address"] for node in found["nodes"]]


@pytest.mark.timeout(1200)  # two whole studies, and a busy machine may be slow
def test_hosts_come_and_go_and_the_result_is_that_of_one(three: Hosts, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "base__epochs": EPOCHS,
        "search__trials": TRIALS,
        "search__parallel": None,
    }
    changes |= {"seeds": [1]}
    study = tiny_study(tmp_path / "sent", tmp_path / "data", name="three", **changes)
    places = {"CRYO_DATA": str(tmp_path / "data"), "CRYO_STORAGE": str(tmp_path / "storage")}
    folder = tmp_path / "storage/three"
    three.start(1)
    (tmp_path / "storage").mkdir()
    until(lambda: len(examined(three, places)) == 2)
    words = ("ip", "netns", "exec", three.names[0], "cryo-hpo", "run", study)
    env = {**three.env, **places, "CRYO_CACHE": str(three.cache(0))}
    log = tmp_path / "log.txt"
    with log.open("w") as out:
        driver = subprocess.Popen(words, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        until(lambda: len(nodes_of_epochs(folder)) == 2, timeout_s=240)
        three.start(2)  # joins while the study runs, and gets work
        until(lambda: three.address(2) in nodes_of_epochs(folder), timeout_s=240)
        assert "ray_cryo_hpo_epochs" in until(
            lambda: "ray_cryo_hpo_epochs" in (page := three.metrics()) and page, timeout_s=60
        )
        until(
            lambda: trains_on(folder, three.address(1), before=EPOCHS // 2),
            timeout_s=120,
            every_s=0.05,
        )
        three.kill(1)
        assert driver.wait(600) == 0, log.read_text()
    finally:
        driver.kill()
    events = recorded_events(folder, "epoch")
    assert nodes_of_epochs(folder) == {three.address(host) for host in range(3)}
    epochs = recorded_epochs(folder)
    assert len(epochs) == len(set(epochs)), "no epoch is told twice"
    # Every host that trained has decoded each split once, into a cache of its own.
    for host in range(3):
        splits = list(three.cache(host).rglob("index.json"))
        assert len(splits) >= 2, f"host {host} trained from a cache that is not its own"
    moved = {e["key"] for e in events if e["node"] == three.address(1)}
    assert moved & {e["key"] for e in events if e["node"] != three.address(1)}, (
        "what the dead host was training continues on another"
    )

    alone = tmp_path / "alone"
    here = {**places, "CRYO_STORAGE": str(alone), "CRYO_CACHE": str(tmp_path / "cache")}
    done = run("cryo-hpo", "run", "--inline", study, env=environment(**here), timeout_s=900)
    assert done.code == 0, done.output
    assert outcome(folder / "result.json") == outcome(alone / "three/result.json")
