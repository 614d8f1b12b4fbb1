"""Simulate workers that train packs: take packs of jobs and replay given curves, with faults."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from cryo_hpo.config import Recipe
from cryo_hpo.errors import StorageError
from cryo_hpo.execution.attempts import Attempts
from cryo_hpo.execution.packs import Pack, Packs, keyed
from cryo_hpo.results.epochs import EPOCH, MIOU_SCORE
from cryo_hpo.search.jobs import MESSAGE, OUTCOME, Source, fields_of

from .pool import Crash, Curves, Disk, Refused

Reports = Generator[dict[str, Any], None, None]


class Replay:
    """Train jobs by replaying curves, alone or together; checkpoints are in `disk`.

    Attributes:
        starts: Keys of the jobs of each worker that was started.
    """

    def __init__(self, curves: Curves, disk: Disk | None = None) -> None:
        self.curves, self.disk = curves, disk or Disk()
        self.starts: list[tuple[str, ...]] = []
        self._open: set[str] = set()

    def train(self, config: Mapping[str, Any], **_: Any) -> Reports:
        """Yield the reports of one job, as `worker.train_job`."""
        self.starts.append((config["key"],))
        yield from self._reports(config)

    def train_pack(
        self, configs: Sequence[Mapping[str, Any]], **_: Any
    ) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """Yield the reports of several jobs in lockstep, as `worker.train_pack`."""
        self.starts.append(tuple(config["key"] for config in configs))
        with contextlib.ExitStack() as stack:
            members = {config["key"]: self._reports(config) for config in configs}
            for reports in members.values():
                stack.callback(reports.close)
            left = {config["key"]: config for config in configs}
            while left:
                for key, config in tuple(left.items()):
                    report = next(members[key])
                    yield key, report
                    if OUTCOME in report or report[EPOCH] >= _stop(config):
                        members[key].close()
                        del left[key]

    def _reports(self, config: Mapping[str, Any]) -> Reports:
        key = config["key"]
        assert key not in self._open, f"{key} is trained by two workers at once"
        self._open.add(key)
        try:
            yield from self._epochs(config)
        except Refused as error:
            yield {OUTCOME: "refused", MESSAGE: str(error)}
        except StorageError as error:
            yield {OUTCOME: "unwritable", MESSAGE: str(error)}
        finally:
            self._open.discard(key)

    def _epochs(self, config: Mapping[str, Any]) -> Reports:
        recipe = Recipe.model_validate_json(config["recipe"])
        scores = self.disk.scores.setdefault(config["workdir"], [])
        for epoch in range(min(config["recorded"] + 1, max(len(scores), 1)), len(scores) + 1):
            yield {EPOCH: epoch, MIOU_SCORE: scores[epoch - 1]}
        while len(scores) < recipe.epochs:
            score = self.curves(recipe)[len(scores)]
            if math.isnan(score):
                yield {OUTCOME: "diverged", MESSAGE: f"Loss became nan at epoch {len(scores) + 1}"}
                return
            scores.append(max([score, *scores]))
            self.disk.trained.append((config["key"], len(scores)))
            yield {EPOCH: len(scores), MIOU_SCORE: scores[-1]}


def _stop(config: Mapping[str, Any]) -> int:
    epochs = Recipe.model_validate_json(config["recipe"]).epochs
    start = max(config["cleared"], config["recorded"])
    return min([e for e in (*config["decisions"], epochs) if e > start], default=epochs)


def run_packs(
    source: Source,
    replay: Replay,
    *,
    most: int,
    workers: int = 1,
    order: int = 0,
    deaths: float = 0.0,
    crash_after: int | None = None,
    share: Callable[[Recipe], str | None] = lambda recipe: str(recipe.seed),
) -> None:
    """Run a source's jobs in packs until it has no more, as workers of a cluster do.

    Args:
        source: Hands out jobs and decides.
        replay: Trains.
        most: The most jobs of a pack.
        workers: Number of packs at a time.
        order: Seed of the order in which workers report, and die.
        deaths: Share of new epochs after whose checkpoint a worker dies, before it reports them.
        crash_after: Number of reports after which the driver crashes.
        share: Key of the recipes that can be trained together.
    """
    packs, chance = Packs(Attempts(source), most=most, share=share), random.Random(order)
    busy: list[tuple[Pack, Any]] = []
    over, reports = False, 0
    with contextlib.ExitStack() as stack:
        while busy or not over:
            while len(busy) < workers and not over:
                pack = packs.next()
                if pack == "wait":
                    assert busy, "nobody is at work, so nobody is worth waiting for"
                    break
                if pack is None:
                    over = True
                    break
                busy.append((pack, _start(replay, pack)))
                stack.callback(busy[-1][1].close)
            if not busy:
                continue
            pack, worker = chance.choice(busy)
            reports += 1
            if crash_after is not None and reports > crash_after:
                raise Crash
            trained = len(replay.disk.trained)
            report = next(worker, None)
            is_new = len(replay.disk.trained) > trained
            if is_new and chance.random() < deaths:
                worker.close()
                packs.ended(pack, "died", "killed")
                busy.remove((pack, worker))
            elif report is None or not packs.report(pack, *report):
                worker.close()
                packs.ended(pack, "done", "")
                busy.remove((pack, worker))


def _start(replay: Replay, pack: Pack) -> Any:
    if pack.is_single:
        return keyed(pack.jobs[0].key, replay.train(fields_of(pack.jobs[0])))
    return replay.train_pack(fields_of(pack.jobs))
