"""Run one study from its spec to its verdict: search, paired retraining, test split, result."""

from __future__ import annotations

import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .. import report
from ..config import Site, Study, load_study
from ..errors import StorageError
from ..execution import executor_for
from ..execution.signals import raise_if_asked
from ..monitoring.heartbeat import Heartbeat, phase
from ..monitoring.recorder import Records
from ..monitoring.terminal import Progress
from ..prediction.model import open_model
from ..results.files import INITIAL_WEIGHTS
from ..results.metrics import seed_metrics
from ..results.provenance import environment
from ..results.study import NAME, Result, write
from ..search import postgres as database
from ..storage.atomic import write_text
from ..storage.no_room import is_full, is_no_room
from ..tracking import Tracker, save_model
from ..training.build import band_plan, dataset_of, sampled_ids, scenes_of
from . import folder as folders
from . import frame
from . import holdout as testsplit
from .data_guard import PRINTS, DataGuard, read_prints, warn_of_other_data
from .energy import meter_of, with_energy
from .ensembles import open_ensembles
from .hours import keep as keep_shares
from .hours import plan_hours, resolve
from .initial_weights import hold_weights
from .own_result import own_result
from .packing import with_packs
from .plan import plan
from .preflight import check
from .proof import Proof, refuse_cell
from .publication import RESULT, Publication
from .reuse import history_of
from .summary import study_metrics, study_tags
from .timing import workload_of
from .trainings import Trainings
from .verdict import experiment, result, score_arms

if TYPE_CHECKING:
    from ..execution.executor import Executor, TrialResources
    from ..monitoring.workload import Workload
    from ..search.trials import Record

MODEL = "mlflow-model"  # the winner in MLflow's format

log = logging.getLogger(__name__)


def run_study(
    study: Study | Path | str,
    site: Site | None = None,
    *,
    console: Console | None = None,
    inline: bool = False,
) -> Result:
    """Run a study to its verdict, resume it, or return the result it already has.

    Data, model, weights and MLflow are checked before anything runs.

    Args:
        study: The study, or the path of its YAML file.
        site: Locations of data, weights, storage, cache and MLflow; None: from the environment.
        console: Console for progress; None: standard output.
        inline: Train in this process, one training after another, without Ray: a breakpoint in
            the training loop works, and RAY_ADDRESS is not used.

    Raises:
        CryoError: The study failed; the message gives the remedy. Computed results are kept.
        Stopped: A signal requested a stop.
    """
    study = study if isinstance(study, Study) else load_study(study)
    site = site or Site.from_env(os.environ)
    path = folders.claim(study, site)
    with folders.driving(path):
        return drive(study, site, path, console=console or Console(), inline=inline)


def drive(study: Study, site: Site, path: Path, *, console: Console, inline: bool) -> Result:
    """Run a study whose folder this process has locked; see `run_study`."""
    with frame.heartbeat(console) as beat:
        if (path / NAME).exists():
            console.print(f"Study '{study.name}' has finished; its result is in {path}.")
            warn_of_other_data(study.base, site, path)
            return complete(study, site, path, console=console)
        return _drive(study, site, path, console=console, inline=inline, beat=beat)


def _drive(
    study: Study, site: Site, path: Path, *, console: Console, inline: bool, beat: Heartbeat
) -> Result:
    refuse_cell(study, path)
    with phase("checking data and models"):
        check(study, site=site)
    if study.search is not None:
        database.require(site.optuna)
    with phase("planning"):
        given, shares = study, None if study.budget is None else plan_hours(study, site)
        study = study if shares is None else resolve(study, shares)
        size, executor = plan(study, site=site), executor_for(inline=inline)
    with phase("connecting to MLflow"):
        named = experiment(study)
        tracker = frame.begin(given, site, path, experiment=named, disk_gib=size.disk_gib)
    if shares is not None:
        keep_shares(shares, path)
    progress, work = Progress(console=console, on_print=beat.reset), workload_of(study, size, site)
    records, meter = open_records(study, tracker, site, path), meter_of(tracker.events, os.environ)
    progress.expect(work)
    progress.follow(tracker.events)
    with (
        phase("starting workers and MLflow's run"),
        frame.running(tracker, executor, console, unfinished=lambda: [records]),
        executor.metered(study.name, tracker.events),
    ):
        open_run(study, site, path, tracker=tracker)
        with progress, beat.through(progress.still), phase("training"):
            result = _run(
                study, site, path, records=records, work=work, executor=executor, console=console
            )
        raise_if_asked()
        result = with_energy(result, path, meter)
        return _finish(result, study, site, path, tracker=tracker, console=console)


def _run(  # noqa: PLR0913 (what a study is run with)
    study: Study,
    site: Site,
    path: Path,
    *,
    records: Records,
    work: Workload,
    executor: Executor,
    console: Console,
) -> Result:
    """Search, retrain winner and baselines, score the test split, compare."""
    slots = executor.slots(study.resources, study.search.parallel if study.search else None)
    slots = with_packs(slots, [study], site)
    trainings = Trainings(
        study,
        site,
        path,
        slots=slots,
        records=records,
        work=work,
        print_line=partial(console.print, highlight=False, soft_wrap=True),
    )
    trainings.run(executor)
    return conclude(
        trainings.study, site, path, trials=trainings.trials, slots=slots, executor=executor
    )


def conclude(
    study: Study,
    site: Site,
    path: Path,
    *,
    trials: list[Record],
    slots: TrialResources,
    executor: Executor,
) -> Result:
    """Score the test split of a study whose trainings are over, and return the result.

    Raises:
        DataError: The data have changed since the study began.
    """
    guard = DataGuard(study.base, site, path)
    proof = Proof.of(study, path, trials)
    given: dict[str, Any] = {"site": site, "slots": slots, "executor": executor}
    with phase("scoring the test split"):
        scores = proof.score(**given)
    with phase("scoring each arm's trainings together"):
        together = open_ensembles(proof.arms, path=path, **given)
    if proof.arms:
        with phase("mapping test scenes"):
            testsplit.map_test(proof.arms, path=path, **given)
    with phase("comparing the data with the study's"):
        guard.check()
    arms = score_arms(proof.arms, path, scores)
    return result(study, site, path, trials=trials, best=proof.best, arms=arms, ensembles=together)


def open_records(study: Study, tracker: Tracker, site: Site, path: Path) -> Records:
    """Return the records of a study's trainings."""
    return Records(
        study,
        tracker.events,
        bands=band_plan,
        history=lambda workdir, *needed: history_of(site, path / workdir, *needed),
    )


def open_run(
    study: Study,
    site: Site,
    path: Path,
    *,
    tracker: Tracker,
    parent: str | None = None,
) -> None:
    """Open the study's own MLflow run and attach spec, environment and data fingerprints.

    Args:
        study: The study that runs.
        site: Locations of the data.
        path: The study's folder.
        tracker: Tracker of the study's log.
        parent: Key of the MLflow run above the study's run.
    """
    prints = {s: scenes_of(study.base, s, site).fingerprint for s in ("train", "val", "test")}
    weights = hold_weights(study, site, path)
    tracker.start(
        study.name,
        name=study.name,
        parent=parent,
        tags={"cryo.kind": "study", "cryo.study": study.name},
        params={k: v for k, v in study.base.flat().items() if v is not None},
        dataset={"name": dataset_of(study.base.data).name, "splits": prints},
    )
    facts: dict[str, object] = {"environment.json": environment()}
    if read_prints(path) is None:  # else a study keeps the data it began with
        facts[PRINTS] = prints
    if weights:
        facts[INITIAL_WEIGHTS] = weights
    if sampled := sampled_ids(study.base, site):
        facts["sampled-scenes.json"] = sampled
    for name, content in facts.items():
        write_text(path / name, json.dumps(content, indent=2) + "\n", durable=False)
    for name in dict.fromkeys((*facts, PRINTS)):
        tracker.artifact(study.name, path / name)
    tracker.artifact(study.name, path / folders.SPEC)


def _finish(
    result: Result, study: Study, site: Site, path: Path, *, tracker: Tracker, console: Console
) -> Result:
    """Write the result and the report, log both, and wait for their delivery."""
    with phase("writing result and report"):
        publish(result, study, site, path, tracker=tracker)
    with phase("delivering to MLflow"):
        pending = tracker.close()
    frame.print_pending(pending, console)
    return publication(study, site, path).record_delivery(result, site, pending=pending)


def publish(result: Result, study: Study, site: Site, path: Path, *, tracker: Tracker) -> None:
    """Write the result and the report, and log both; from here on the study has finished.

    Publishing the same result again adds nothing to MLflow: a study that is killed meanwhile
    publishes it again.
    """
    top = result.study
    tracker.log_once(top, study_metrics(result), step=len(result.extensions))
    for arm in result.arms:
        for seed in arm.seeds:
            run = f"{top}/{arm.training(seed.seed)}"
            scores = {"test_miou": seed.test_miou, **seed_metrics(result, seed)}
            tracker.log_once(run, scores, step=seed.epochs)
            if seed.reused is not None:
                tracker.tag(run, {"cryo.reused": f"{seed.reused.study}/{seed.reused.training}"})
    files = report.write(result, path / "report", folder=path)
    write(result, path)
    for file in files:
        tracker.artifact(top, file, "report")
    tracker.artifact(top, path / "result.json")
    if study.log_model:
        log_winner(result, study, site, path, tracker=tracker)
    tags = {"mlflow.note.content": report.note(result), RESULT: result.digest}
    tracker.tag(top, {**tags, **study_tags(result)})
    tracker.end(top, "FINISHED")


def publication(study: Study, site: Site, path: Path) -> Publication[Result]:
    """Return where and how a study's result is published."""
    return Publication(
        name=study.name,
        experiment=experiment(study),
        folder=path,
        write=write,
        publish=lambda result, tracker: publish(result, study, site, path, tracker=tracker),
    )


def complete(study: Study, site: Site, path: Path, *, console: Console) -> Result:
    """Return the result of a finished study; publish and deliver it if that was interrupted.

    Raises:
        CryoError: The result is damaged, or of another version or study.
    """
    return publication(study, site, path).complete(own_result(study, path), site, console)


def publish_finished(path: Path, site: Site) -> None:
    """Publish and deliver the result of a study's folder, if it has one; see `complete`.

    Raises:
        CryoError: The result or the spec is damaged, or another driver runs the study.
    """
    if (path / NAME).exists() and (path / folders.SPEC).exists():
        with folders.driving(path):
            complete(load_study(path / folders.SPEC), site, path, console=Console(stderr=True))


def log_winner(result: Result, study: Study, site: Site, path: Path, *, tracker: Tracker) -> None:
    """Attach the winner's model to the study's run; a model that torch cannot export is left out.

    Raises:
        StorageError: The disk is full or read-only; publishing again completes it.
    """
    folder = path / MODEL
    try:
        model = open_model(path, site=site)
        side = study.base.data.crop
        save_model(model.native(), folder, shape=(len(model.card.bands), side, side))
    except Exception as error:  # torch cannot export every model, and the result is safe
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if is_no_room(error) or is_full(path):  # torch and MLflow have errors of their own for it
            message = (
                f"The winner's model cannot be written to '{folder}': {reason}. Free space, then run "
                "the same command again: the result is kept, and the model follows."
            )
            raise StorageError(message) from error
        why = f"not logged: {reason}"
        log.warning("The winner of '%s' is %s", result.study, why)
        tracker.tag(result.study, {"cryo.model": why[:500]})
        return
    tracker.model(result.study, folder, name=result.study, register=study.registered_as)
    facts = {"cryo.model": f"{model.card.arm}, seed {model.card.seed}"}
    tracker.tag(result.study, facts)
