"""A worker's warnings reach the driver with its next report."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from threading import Barrier, Thread, get_ident
from typing import Any

import pytest

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
    ray_worker.work({"key": "a", "workdir": str(tmp_path)}, site=Site.from_env({}), cpus=1, gpus=0)
    assert reports == [{"epoch": 1, "notes": ["'last.pt' is damaged"]}, {"epoch": 2}]
    assert logging.getLogger("cryo_hpo").handlers == before


@pytest.mark.parametrize(("gpus", "threads"), [(0.5, 1), (0, 2)])
def test_trials_on_a_gpu_train_in_one_thread_of_their_process(
    gpus, threads, monkeypatch, tmp_path
) -> None:
    reports: list[dict[str, Any]] = []

    both = Barrier(2)  # threads that live at the same time have different numbers

    def train(*_: object, **__: object) -> Generator[dict[str, Any]]:
        yield {"thread": get_ident()}
        if not gpus:
            both.wait(timeout=60)

    monkeypatch.setattr(ray_worker, "train_job", train)
    monkeypatch.setattr("ray.tune.report", reports.append)

    def work() -> None:  # as Tune does, in a new thread for each trial
        ray_worker.work(
            {"key": "a", "workdir": str(tmp_path)}, site=Site.from_env({}), cpus=1, gpus=gpus
        )

    trials = [Thread(target=work) for _ in range(2)]
    for trial in trials:
        trial.start()
    for trial in trials:
        trial.join()
    assert len(reports) == 2
    assert len({report["thread"] for report in reports}) == threads


def test_reports_of_a_pack_name_the_job_that_they_are_of(monkeypatch, tmp_path) -> None:
    jobs, reports = [{"key": "a"}, {"key": "b"}], list[dict[str, Any]]()

    def train_pack(configs: Any, **given: Any) -> Generator[tuple[str, dict[str, Any]]]:
        assert (configs, given["cpus"], given["gpus"]) == (jobs, 2, 0)
        for epoch in (1, 2):
            yield from ((config["key"], {"epoch": epoch}) for config in configs)

    monkeypatch.setattr(ray_worker, "train_pack", train_pack)
    monkeypatch.setattr("ray.tune.report", reports.append)
    config = {"key": "a+1", "workdir": str(tmp_path), "jobs": jobs}
    ray_worker.work(config, site=Site.from_env({}), cpus=2, gpus=0)
    assert [(report["job"], report["epoch"]) for report in reports] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("b", 2),
    ]
