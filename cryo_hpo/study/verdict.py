"""Build the `Result` of a finished study, with its verdict, from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.metric import MIOU
from ..config.protocol import PROTOCOLS
from ..config.seeds import SeedLimit
from ..errors import StorageError
from ..evaluation.field_metrics import compute_metrics
from ..evaluation.metrics import Scores
from ..results import epochs as recording
from ..results.extensions import read_extensions
from ..results.files import CONFIRM, TEST_SCORES
from ..results.grant import read_grant
from ..results.lr_response import divergence_edge
from ..results.provenance import environment
from ..results.study import (
    ArmResult,
    ConstantMap,
    Costs,
    Result,
    RungStep,
    SeedResult,
    TrialResult,
)
from ..results.weak_runs import name_weak_runs
from ..search.confirm import Arm, job
from ..search.importance import importance
from ..search.replay import suggest_of
from ..search.source import BASELINE, key
from ..stats import Improvement, Interval, Stopping, over_scenes, relative_improvement
from ..storage.plain_files import parse_json
from ..training.build import band_plan, dataset_of, sampled_ids, scenes_of
from ..training.checkpoints import has_score
from ..training.losses import even_guess
from . import holdout as testsplit
from .calibrated import read_calibrated
from .initial_weights import provenance_of_weights
from .reuse import Origin, read_origins
from .start import describe_kept

LEVEL = 0.95  # confidence level of every interval

if TYPE_CHECKING:
    from ..config import Recipe, Site, Study
    from ..results.ensembles import EnsembleResult
    from ..search.trials import Record


def experiment(study: Study) -> str:
    """Return the name of the MLflow experiment that holds a study."""
    return f"cryo/{study.project}"


def score_arms(arms: list[Arm], path: Path, scores: Mapping[str, Any]) -> list[ArmResult]:
    """Return every arm's scores on the test split, one entry per seed.

    Args:
        arms: The recipes compared.
        path: The study's folder.
        scores: Training's name -> its test scores as JSON; one that is missing scored 0.
    """
    epochs, origins = recording.by_key(path), read_origins(path / CONFIRM)
    learned = {name: arm.problems for name, arm in read_calibrated(path).items()}
    return [
        _score_arm(arm, epochs, scores, origins).model_copy(
            update={"calibrated_on": learned.get(arm.name, ())}
        )
        for arm in arms
    ]


def _score_arm(
    arm: Arm,
    recorded: Mapping[str, list[dict[str, Any]]],
    scores: Mapping[str, Any],
    origins: Mapping[str, Origin],
) -> ArmResult:
    seeds = tuple(_seed(arm, seed, recorded, scores, origins) for seed in arm.seeds)
    return ArmResult(
        name=arm.name,
        recipe=_json(arm.recipe),
        bands=str(band_plan(arm.recipe)),
        mean_test_miou=sum(s.test_miou for s in seeds) / len(seeds),
        even_guess_loss=_even_guess(arm.recipe),
        seeds=seeds,
        trainings="" if arm.trainings == arm.name else arm.trainings,
    )


def _seed(
    arm: Arm,
    seed: int,
    recorded: Mapping[str, list[dict[str, Any]]],
    scores: Mapping[str, Any],
    origins: Mapping[str, Origin],
) -> SeedResult:
    """Return one training's scores; 0 if it diverged before its first checkpoint."""
    name = job(arm, seed, Path()).key
    epochs = recorded.get(name, [])
    reached = max((e["epoch"] for e in epochs), default=0)
    if name not in scores and has_score(epochs):
        message = (
            f"The scores of the test split lack training '{name}', which has a model. Remove "
            f"'{TEST_SCORES}' from the study's folder and run the same command again: it "
            "scores the models again."
        )
        raise StorageError(message)
    test = Scores.from_json(scores[name]) if name in scores else None
    iou = {} if test is None else dict(zip(test.classes, test.iou.tolist(), strict=True))
    return SeedResult(
        seed=seed,
        test_miou=0.0 if test is None else test.miou,
        val_miou=epochs[-1]["best_val_miou"] if epochs else 0.0,
        val_score=epochs[-1].get(recording.SCORE) if epochs else None,
        test_metrics={} if test is None else compute_metrics(test),
        test_iou={k: None if v != v else v for k, v in iou.items()},
        collapsed=test is None or test.predicts_one_class,
        diverged=reached < arm.recipe.epochs,
        epochs=reached,
        seconds=sum(e["seconds"] for e in epochs),
        train_loss=epochs[-1].get("train_loss") if epochs else None,
        late_gain=_late_gain(epochs),
        micro_batch=_micro_batch(epochs, arm.recipe),
        reused=origins[name].source if name in origins else None,
    )


def _even_guess(recipe: Recipe) -> float:
    num = len(dataset_of(recipe.data).classes)
    return even_guess(recipe.loss.name, num_classes=num, focal_gamma=recipe.loss.focal_gamma)


def _late_gain(epochs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the rise of the best validation score over the last tenth of the epochs.

    At least the last epoch; None if no epoch before them has a score.
    """
    if not epochs:
        return None
    last = epochs[-1]
    late = max(1, round(last["epoch"] / 10))
    before = [e["best_val_miou"] for e in epochs if e["epoch"] <= last["epoch"] - late]
    return float(last["best_val_miou"] - before[-1]) if before and before[-1] > 0 else None


def _constant_map(path: Path) -> ConstantMap | None:
    """Return the best map of one class everywhere, scored on the test pixels as all maps are."""
    file = path / TEST_SCORES
    scores = parse_json(file.read_bytes()) if file.exists() else {}
    scored = next(filter(None, scores.values()), None)  # None: it diverged without a model
    if scored is None:
        return None
    label, miou = Scores.from_json(scored).best_constant()
    return ConstantMap(label=label, test_miou=miou)


def result(  # noqa: PLR0913 (the parts of a result)
    study: Study,
    site: Site,
    path: Path,
    *,
    trials: list[Record],
    best: Record | None,
    arms: list[ArmResult],
    ensembles: tuple[EnsembleResult, ...] = (),
) -> Result:
    """Assemble the result of a finished study."""
    epochs = recording.by_key(path)
    tried = tuple(_trial(trial, study, epochs.get(key(trial.number), [])) for trial in trials)
    winner = None if best is None else best.number
    built = Result(
        study=study.name,
        project=study.project,
        spec=_json(study),
        dataset=dataset_of(study.base.data).name,
        data_split=dataset_of(study.base.data).split_name,
        classes=dataset_of(study.base.data).classes,
        data_fingerprints={
            split: scenes_of(study.base, split, site).fingerprint
            for split in ("train", "val", "test")
        },
        winner=winner,
        sampled_ids=sampled_ids(study.base, site),
        winner_is_baseline=best is not None and best.number == BASELINE,
        best_recipe=_json(study.base if best is None else study.recipe(best.params)),
        trials=tried,
        divergence_edge=divergence_edge(tried, winner),
        importance=_importance(study, trials),
        search_start=describe_kept(path, trials),
        proof=study.proof,
        arms=tuple(arms),
        ensembles=ensembles,
        extensions=read_extensions(path),
        constant_map=_constant_map(path),
        improvement=_improvement(study, arms, best, path),
        costs=_costs(study, path, len(tried)),
        provenance={**environment(), **provenance_of_weights(path)},
        mlflow_experiment=experiment(study),
        mlflow_run_id=None,
        mlflow_pending=0,
    )
    return built.model_copy(update={"weak_runs": name_weak_runs(built)})


def _importance(study: Study, trials: Sequence[Record]) -> dict[str, float]:
    return importance(trials, suggest_of(study.search)) if study.search else {}


def _trial(record: Record, study: Study, epochs: Sequence[dict[str, Any]]) -> TrialResult:
    assert record.state != "running", "a finished search has no running trials"
    return TrialResult(
        number=record.number,
        params=record.params,
        lr=study.recipe(record.params).optim.lr,
        state=record.state,
        epochs=record.epochs,
        best_val_miou=_best_miou(record, study, epochs),
        collapsed=bool(epochs and epochs[-1]["collapsed"]),
        seconds=sum(e["seconds"] for e in epochs),
        curve=record.curve,
        message=record.message,
        steps=tuple(RungStep(**step._asdict()) for step in record.steps),
        micro_batch=_micro_batch(epochs, study.recipe(record.params)),
    )


def _best_miou(record: Record, study: Study, epochs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the validation mIoU of a trial's best checkpoint; None before its first epoch."""
    if study.metric == MIOU:
        return record.score if record.curve else None
    return float(epochs[-1]["best_val_miou"]) if epochs else None


def _micro_batch(epochs: Sequence[dict[str, Any]], recipe: Recipe) -> int | None:
    """Return the micro-batch if memory was too small for the recipe's batch, else None."""
    sizes = [int(e["micro_batch"]) for e in epochs if "micro_batch" in e]
    return min(sizes) if sizes and min(sizes) < recipe.batch_size else None


def _improvement(
    study: Study, arms: list[ArmResult], best: Record | None, path: Path
) -> Improvement | None:
    """Compare tuned with baseline on the same seeds; the baseline with itself if it won."""
    if best is None or study.proof != "full":
        return None
    baseline = next(arm for arm in arms if arm.name == "baseline")
    tuned = next((arm for arm in arms if arm.name == "tuned"), baseline)
    scores = ([seed.test_miou for seed in arm.seeds] for arm in (tuned, baseline))
    at_most = study.seeds.at_most if isinstance(study.seeds, SeedLimit) else None
    improvement = relative_improvement(*scores, level=LEVEL, at_most=at_most)
    return replace(
        improvement,
        scenes_pct=_over_scenes(tuned, path),
        stopped=_stopping(improvement.stopped, path),
    )


def _stopping(stopped: Stopping | None, path: Path) -> Stopping | None:
    """Return how a comparison ended; one may end because its campaign has no repeats for it."""
    grant = read_grant(path)
    if stopped is None or stopped.decision != "undecided" or grant is None or not grant.is_spent:
        return stopped
    return replace(stopped, decision="spent")


def _over_scenes(tuned: ArmResult, path: Path) -> Interval | None:
    """Return the interval over seeds and scenes; None if scene scores are missing."""
    if tuned.name != "tuned":
        return None
    both = testsplit.paired(
        path, [s.seed for s in tuned.seeds], tuned=tuned.trainings or tuned.name
    )
    if both is None:
        return None
    zero = PROTOCOLS[tuned.recipe.get("protocol", "corrected")].absent_is_zero
    return over_scenes(*both, LEVEL, absent_is_zero=zero)


def _costs(study: Study, path: Path, trials: int) -> Costs:
    epochs = list(recording.read(path))
    searched = {key(number) for number in range(trials)}  # a named baseline may be "trial-x"
    search = [e for e in epochs if e["key"] in searched]
    taken = {name: origin.source.epochs for name, origin in read_origins(path / CONFIRM).items()}
    compared = [e for e in epochs if e["key"] not in searched]
    confirm = [e for e in compared if e["epoch"] > taken.get(e["key"], 0)]
    return Costs(
        epochs_search=len(search),
        epochs_confirm=len(confirm),
        epochs_full_grid=trials * study.base.epochs,
        seconds_search=sum(e["seconds"] for e in search),
        seconds_confirm=sum(e["seconds"] for e in confirm),
        seconds_data=sum(e["data_seconds"] for e in (*search, *confirm)),
        epochs_reused=len(compared) - len(confirm),
    )


def _json(value: Recipe | Study) -> dict[str, Any]:
    data: dict[str, Any] = value.model_dump(mode="json")
    return data
