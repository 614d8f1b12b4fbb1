"""Where a submitted study's driver runs: on a head with no core and no GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.clusters import Done, run, tiny_study, until
from ..support.nodes import DASHBOARD, Hosts, hosts, why_not
from ..support.recorded import nodes_of_epochs

pytestmark = [
    pytest.mark.machines,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can"),
]
HEAD = ("--num-cpus", "0", "--resources", '{"driver": 1}', "--labels", "role=driver")
# Ray believes in this GPU, torch does not: nothing is shown of a training on it.
TRAINER = ("--num-cpus", "2", "--num-gpus", "1")

ASKED: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "resource": ("--entrypoint-resources", '{"driver": 1}'),
    "label": ("--entrypoint-label-selector", '{"role": "driver"}'),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(tmp_path_factory.mktemp("hosts"), *HEAD, num=2) as made:
        made.start(1, *TRAINER)
        until(lambda: made.address(1) in made.run("ray", "list", "nodes").output)
        yield made


def submit(two: Hosts, folder: Path, job: str, *options: str, **changes: Any) -> Done:
    """Send a study from the head's host, as a user would."""
    small = {"base__epochs": 2, "search__trials": 2, "seeds": [1], **changes}
    study = tiny_study(folder / "sent", folder / "data", name="placed", **small)
    places = {f"CRYO_{n.upper()}": str(folder / n) for n in ("data", "storage", "weights")}
    there = ("--address", f"http://{two.address(0)}:{DASHBOARD}", "--submission-id", job)
    words = ("cryo-hpo", "submit", study.name, *there, *options)
    host = ("ip", "netns", "exec", two.names[0])
    return run(*host, *words, env={**two.env, **places}, cwd=study.parent, timeout_s=300)


def driver_of(two: Hosts, job: str) -> str:
    """Return the address of the host that a job's driver ran on."""
    token = Path(two.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    url = f"http://{two.address(0)}:{DASHBOARD}/api/jobs/{job}"
    job_info = json.loads(two.run("curl", "-s", "-H", f"Authorization: Bearer {token}", url).output)
    return str(job_info["driver_info"]["node_ip_address"])


@pytest.mark.parametrize("asked", ASKED)
def test_the_driver_stays_on_the_head_and_trials_do_not(two, tmp_path, asked):
    done = submit(two, tmp_path, asked, *ASKED[asked])
    assert done.code == 0, done.output
    assert (tmp_path / "storage/placed/result.json").exists()
    assert driver_of(two, asked) == two.address(0)
    assert nodes_of_epochs(tmp_path / "storage/placed") == {two.address(1)}


def test_a_driver_without_a_gpu_sends_trials_to_the_node_that_has_one(two, tmp_path):
    done = submit(two, tmp_path, "gpu", resources={"cpus": 1, "gpus": 1})
    assert driver_of(two, "gpu") == two.address(0)
    # the driver found a GPU in the cluster and gave it to a trial, which then looked for the card
    assert done.code == 1
    assert "no GPU is visible here" in done.output
