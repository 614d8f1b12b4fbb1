"""A budget of hours with real trainings: it ends inside them, with a winner of full length."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cryo_hpo.config import Site, Study
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.search.source import winner
from cryo_hpo.search.trials import ties
from cryo_hpo.search.winner import load_winner
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import folder as folders
from cryo_hpo.study import hours
from cryo_hpo.study.folder import CONFIRM
from cryo_hpo.study.plan import plan
from cryo_hpo.study.reuse import read_origins
from cryo_hpo.study.run import open_records
from cryo_hpo.study.timing import workload_of
from cryo_hpo.study.trainings import Trainings
from cryo_hpo.study.winner import score_constant
from cryo_hpo.training import loop

from ..support.fakes import fake_folder
from ..support.recorded import recorded_events
from ..support.sandbox import LR, RULES

pytestmark = pytest.mark.slow

TICK_S = 0.5
EPOCHS = 2


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look at the clock take a tick: epochs are alike, and far slower than a timed step."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: TICK_S * next(ticks)))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    names = ("DATA", "STORAGE", "CACHE", "WEIGHTS")
    return Site.from_env({f"CRYO_{n}": str(tmp_path / n.lower()) for n in names})


def _study(site: Site, seconds: float, **fields: Any) -> Study:
    """Return a study with so many core-seconds."""
    card = fake_folder(site.data, num=(4, 2, 2), size=(32, 32), bands=3, dtype="uint8")
    base = {
        "data": {"card": json.loads(card.model_dump_json()), "crop": 16},
        "model": {"encoder": "unet", "decoder": "unet", "width": 4},
        "optim": {"lr": 1e-7, "schedule": "constant"},
        "batch_size": 2,
        "epochs": EPOCHS,
    }
    search = {"space": {"params": {"optim.lr": LR}}, "scheduler": RULES["promote"], "parallel": 1}
    limits = {"budget": {"core_hours": seconds / 3600}, "resources": {"cpus": 1, "gpus": 0}}
    every = {"name": "hours", "base": base, "search": search, **limits, "reuse": False, **fields}
    return Study.model_validate_json(json.dumps(every))


def _train_all(
    study: Study, site: Site, left: list[float] | None = None
) -> tuple[Trainings, Path, list[str]]:
    """Run what a study runs besides MLflow and the report; return also the lines that it prints.

    `left` takes the epochs that are left after each, as the time left counts them.
    """
    lines: list[str] = []
    left = [] if left is None else left
    path, executor = folders.claim(study, site), InlineExecutor()
    shares = hours.plan_hours(study, site)
    study = hours.resolve(study, shares)
    hours.keep(shares, path)
    folders.keep_spec(study, path)
    with closing(EventLog(path / folders.EVENTS)) as log, executor.cluster():
        records = open_records(study, cast(Any, SimpleNamespace(events=log)), site, path)
        work = workload_of(study, plan(study, site=site), site)
        log.subscribe(work.see)
        log.subscribe(lambda e: left.append(work.epochs_left) if e["event"] == "epoch" else None)
        trainings = Trainings(
            study,
            site,
            path,
            slots=executor.slots(study.resources, 1),
            records=records,
            work=work,
            print_line=lines.append,
        )
        trainings.run(executor)
    return trainings, path, lines


@pytest.mark.parametrize(
    ("fields", "seconds", "least"),
    [({"proof": "quick"}, 50.0, 40.0), ({"seeds": [1, 2, 3, 4, 5, 6]}, 150.0, 110.0)],
)
def test_a_study_ends_inside_its_hours(site, fields, seconds, least):
    study = _study(site, seconds, **fields)
    left: list[float] = []
    trainings, path, lines = _train_all(study, site, left)
    origins = read_origins(path / CONFIRM)
    events = [
        event
        for event in recorded_events(path, "epoch")
        if event["key"] not in origins or event["epoch"] > origins[event["key"]].source.epochs
    ]
    spent = sum(event["seconds"] for event in events)
    promised = [done + more for done, more in enumerate(left[1:], start=2)]
    assert max(promised) * spent / len(events) <= 1.1 * seconds, "the time left is in the hours"
    assert least <= spent <= seconds, [(event["key"], event["epoch"]) for event in events]
    trained = Counter((event["key"], event["epoch"]) for event in events)
    assert max(trained.values()) == 1, "nothing is trained twice"
    assert len(trainings.trials) >= 2
    won = winner(trainings.trials)
    assert (won.state, won.epochs) == ("complete", EPOCHS)
    (over,) = [line for line in lines if line.startswith("The search is over: trial ")]
    assert ("tie on" in over) == bool(ties(trainings.trials)), over
    least = score_constant(study, site)[1]
    doubted = any(line.startswith(f"Warning: trial {won.number} of") for line in lines)
    assert doubted == (load_winner(path).val_miou <= least)
    of_winner = [epoch for key, epoch in trained if key == f"trial-{won.number:04d}"]
    assert of_winner == list(range(1, EPOCHS + 1)), "the leader resumes from where it paused"
    kept = hours.read_plan(path / hours.NAME)
    assert kept.epoch_s < min(event["seconds"] for event in events) / 2, (
        "the timed step told too little"
    )
    pairs = {key for key, _ in trained if key.startswith("tuned-")}
    assert len(pairs) == (0 if study.proof == "quick" else len(study.comparison_seeds))
