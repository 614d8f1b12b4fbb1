"""A worker's warnings reach the driver with its next report."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from cryo_hpo.config import Site
from cryo_hpo.execution import ray_worker


def test_warnings_are_reported_once_with_the_next_epoch(monkeypatch, tmp_path) -> None:
    log = logging.getLogger("cryo_hpo.training.checkpoints")
    reports: list[dict[str, Any]] = []

    def train(*_: object, **__: object) -> Iterator[dict[str, Any]]:
        log.warning("'%s' is damaged", "last.pt")
        log.info("nothing")
        yield {"epoch": 1}
        yield {"epoch": 2}

    monkeypatch.setattr(ray_worker, "train_job", train)
    monkeypatch.setattr("ray.tune.report", reports.append)
    before = list(logging.getLogger("cryo_hpo").handlers)
    ray_worker.work({"workdir": str(tmp_path)}, site=Site.from_env({}), cpus=1, gpus=0)
    assert reports == [{"epoch": 1, "notes": ["'last.pt' is damaged"]}, {"epoch": 2}]
    assert logging.getLogger("cryo_hpo").handlers == before
