"""A study on Ray takes what one in this process has trained, and leaves its own for the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cryo_hpo.config import Study
from cryo_hpo.results.study import Result, load_result

from ..support.clusters import Head
from ..support.sandbox import Sandbox, finish

pytestmark = pytest.mark.ray

STORAGE = "shared"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


def _study(sandbox: Sandbox, name: str, *seeds: int) -> Study:
    """Return a study without a search: only the trainings that may be reused."""
    return sandbox.study(name, search=None, seeds=list(seeds), reuse=True)


def _sources(result: Result) -> list[str | None]:
    return [s.reused.study if s.reused else None for s in result.arm("baseline").seeds]


def _weights(folder: Path, study: str, training: str) -> Path:
    return folder / study / "confirm" / training / "best.pt"


def test_trainings_pass_between_a_process_and_a_cluster(sandbox: Sandbox, ray_head: Head) -> None:
    folder = sandbox.root / STORAGE
    sandbox.run(_study(sandbox, "inline", 1), STORAGE)
    on_ray = _study(sandbox, "on-ray", 1, 2)
    output = finish(sandbox.start(on_ray, STORAGE, inline=False, env=ray_head.joined))
    assert "Traceback" not in output
    assert _sources(load_result(folder / "on-ray")) == ["inline", None]
    first = [_weights(folder, name, "baseline-seed1") for name in ("inline", "on-ray")]
    assert first[0].samefile(first[1])
    sandbox.run(_study(sandbox, "after", 1, 2), STORAGE)
    assert _sources(load_result(folder / "after")) == ["inline", "on-ray"]
    second = [_weights(folder, name, "baseline-seed2") for name in ("on-ray", "after")]
    assert second[0].samefile(second[1])
    scores = [
        [s.test_miou for s in load_result(folder / name).arm("baseline").seeds]
        for name in ("on-ray", "after")
    ]
    assert scores[0] == scores[1], "a reused training has the scores that it had"
