"""Define `result.json`: the results, costs and provenance of a study.

The layout is versioned: readers refuse an unknown version, and fields are only ever added within a
version.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..config.frozen import Frozen
from ..config.metric import MIOU
from ..config.seeds import Proof
from ..config.site import Site
from ..errors import DataError
from ..storage.atomic import write_text
from .ensembles import EnsembleResult
from .extensions import Extension
from .improvement import StoredImprovement
from .load import load_json
from .required import Fraction, Rate, RecipeFields, StudyFields, Value, require_baseline
from .version_1 import Decision as Decision
from .version_1 import upgrade_study
from .views import views

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

VERSION: Literal[2] = 2
NAME = "result.json"
VERDICT = "verdict"  # key of the file that no field holds, for readers in other languages
Word = Literal["improved", "not shown", "worse", "unproven", "no search"]


class RungStep(Frozen):
    """Hold the decision about a trial at a rung, with the rank that led to it."""

    rung: int = Field(description="Epoch")
    decision: Decision
    place: int = Field(description="Among those that had reached the rung, 1 is the best")
    of: int = Field(description="How many had reached it then")


class TrialResult(Frozen):
    """Hold the results of one trial of the search."""

    number: int = Field(description="Optuna's trial number; 0 is the fixed-LR baseline")
    params: dict[str, str | bool | int | float] = Field(description="Recipe paths and values")
    lr: Rate = Field(description="Learning rate of the decoder")
    state: Literal["complete", "pruned", "diverged", "failed"]
    epochs: int = Field(description="Epochs trained")
    best_val_miou: Fraction | None = Field(
        description="Of the best checkpoint, a fraction; null before the first epoch"
    )
    collapsed: bool = Field(description="Its last validation predicted one class everywhere")
    seconds: float = Field(description="Training and validation")
    curve: dict[int, Value] = Field(
        description="Epoch -> best validation score so far by `search.metric`, more is better: an "
        "error is negative"
    )
    message: str = ""
    steps: tuple[RungStep, ...] = Field(default=(), description="Decisions at rungs, in order")
    micro_batch: int | None = Field(
        default=None,
        description="Samples at a time where the recipe's batch did not fit into memory; else null",
    )

    @property
    def score(self) -> float | None:
        """Best validation score by `search.metric`, more is better; None before any epoch."""
        return self.curve[max(self.curve)] if self.curve else self.best_val_miou


class Reused(Frozen):
    """Name the training that one of the comparison was taken from, in place of training it."""

    study: str = Field(description="Study that trained it")
    training: str = Field(description="Its name there")
    date: str = Field(description="Day on which it was trained, ISO 8601")
    epochs: int = Field(description="Epochs taken; the others were trained here")


class SeedResult(Frozen):
    """Hold the results of one arm's training on one seed."""

    seed: int
    test_miou: Fraction = Field(description="Of the checkpoint that `search.metric` found best")
    val_miou: Fraction = Field(description="Of that checkpoint")
    val_score: Value | None = Field(
        default=None,
        description="Of that checkpoint by `search.metric`, more is better: an error is negative; "
        "null: the metric is mIoU, or there is no score",
    )
    test_iou: dict[str, float | None] = Field(
        description="Per class; null: in neither mask nor map"
    )
    test_metrics: dict[str, float] = Field(
        default={},
        description="Name -> value: f1, accuracy, iou/CLASS, ..., mde_m/FRONT; what cannot be "
        "measured is absent",
    )
    collapsed: bool = Field(description="The map of the test split holds one class everywhere")
    diverged: bool = Field(description="Loss or gradient stopped being finite before the end")
    epochs: int
    seconds: float
    train_loss: float | None = Field(
        default=None, description="Mean of the last epoch; null: not recorded"
    )
    late_gain: float | None = Field(
        default=None,
        description="Rise of the best validation mIoU over the last tenth of the epochs; null: "
        "not recorded, or no score before it",
    )
    micro_batch: int | None = Field(
        default=None,
        description="Samples at a time where the recipe's batch did not fit into memory; else null",
    )
    reused: Reused | None = Field(
        default=None, description="Training that was reused; null: all of it was trained here"
    )

    @property
    def selection(self) -> float:
        """Validation score that selected the checkpoint; more is better."""
        return self.val_miou if self.val_score is None else self.val_score


class ArmResult(Frozen):
    """Hold the results of one recipe in the final comparison."""

    name: str
    recipe: RecipeFields
    bands: str = Field(
        default="", description="The encoder's bands, and what fills each if not its own"
    )
    mean_test_miou: Fraction
    even_guess_loss: float | None = Field(
        default=None,
        description="The recipe's loss where every class has the same probability; for Dice 1",
    )
    seeds: tuple[SeedResult, ...] = Field(min_length=1)
    trainings: str = Field(
        default="",
        description="How the names of its trainings begin; empty: with the arm's name",
    )
    calibrated_on: tuple[str, ...] = Field(
        default=(),
        description="Of a calibrated baseline: the recorded problems whose best learning rates its "
        "own is the mean of; none has the study's data",
    )

    def training(self, seed: int) -> str:
        """Return the name of the training on a seed: its folder, log key and MLflow run."""
        return f"{self.trainings or self.name}-seed{seed}"


class ConstantMap(Frozen):
    """Hold the best score that a map of one class everywhere reaches on the test pixels."""

    label: str = Field(description="Name of the class")
    test_miou: float = Field(description="Computed as the scores of the arms are")


class Costs(Frozen):
    """Hold the costs of a study, and those of a grid of full trainings."""

    epochs_search: int
    epochs_confirm: int
    epochs_full_grid: int = Field(description="Every configuration of the search to full length")
    seconds_search: float = Field(description="Sum over trainings, not wall clock")
    seconds_confirm: float = Field(description="Sum over trainings, not wall clock")
    seconds_data: float = Field(description="Of both, spent waiting for batches")
    epochs_reused: int = Field(
        default=0,
        description="Of the comparison's trainings, not trained and not in the other counts",
    )
    energy_kwh: float | None = Field(
        default=None,
        description="Of the machine while the study ran, whatever else ran; null: not measured",
    )


class Result(Frozen):
    """Hold the results of a finished study."""

    version: Literal[2] = VERSION
    study: str
    project: str
    spec: StudyFields = Field(description="The study as it was resolved")
    dataset: str
    data_split: str = Field(
        default="official", description="The official split, or the one by region and its seed"
    )
    classes: tuple[str, ...]
    data_fingerprints: dict[str, str] = Field(description="Split -> hash of its files' content")
    sampled_ids: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Split -> the scenes that data.label_fraction kept; a split that is whole is absent",
    )
    winner: int | None = Field(description="Trial number; null: the study has no search")
    winner_is_baseline: bool
    best_recipe: RecipeFields
    trials: tuple[TrialResult, ...]
    divergence_edge: float | None = Field(
        default=None,
        description="Lowest learning rate above the winner's that diverged; null: none did",
    )
    importance: dict[str, float] = Field(
        default={},
        description="Parameter -> share of what decides over good and bad trials (PED-ANOVA)",
    )
    search_start: str = Field(
        default="",
        description="Where a search from known points or a calibrated default started, the recorded "
        "problems that these are from, or why it started evenly after all; empty: evenly, as the study asks",
    )
    proof: Proof = Field(
        default="full", description="Final comparison; under quick and none no gain is claimed"
    )
    arms: Annotated[tuple[ArmResult, ...], AfterValidator(require_baseline)] = Field(
        description="Empty under proof: none"
    )
    ensembles: tuple[EnsembleResult, ...] = Field(
        default=(), description="Arms whose trainings map together, scored with the others"
    )
    extensions: tuple[Extension, ...] = Field(
        default=(), description="What was added to the study after it had a result"
    )
    constant_map: ConstantMap | None = Field(
        default=None, description="What doing nothing scores; null: not recorded, or no scores"
    )
    weak_runs: dict[str, tuple[str, ...]] = Field(
        default={},
        description="`below_constant`, `diverged`, `above_even_guess` or `still_rising` -> the "
        "trainings of the comparison; what holds for none is absent",
    )
    improvement: StoredImprovement | None = Field(
        description="Paired comparison of tuned and baseline on test mIoU; null: nothing to compare, "
        "or no proof"
    )
    costs: Costs
    provenance: dict[str, Any] = Field(description="Code, versions, machine")
    mlflow_experiment: str
    mlflow_run_id: str | None
    mlflow_pending: int = Field(description="Records not yet delivered; 0 is all of them")

    @property
    def verdict(self) -> Word:
        """The verdict in one word; "unproven" where a search ended without a proof."""
        if self.improvement is not None:
            return self.improvement.verdict
        return "no search" if self.winner is None else "unproven"

    @property
    def base_recipe(self) -> dict[str, Any]:
        """Recipe of the baseline, which `arms` lack under `proof: none`."""
        recipe: dict[str, Any] = self.arm("baseline").recipe if self.arms else self.spec["base"]
        return recipe

    @property
    def digest(self) -> str:
        """sha256 of the result without its delivery to MLflow; it identifies what was published."""
        text = self.model_dump_json(exclude={"mlflow_run_id", "mlflow_pending"})
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def metric(self) -> str:
        """Name of the validation metric that selected, `search.metric`."""
        return str((self.spec.get("search") or {}).get("metric", MIOU))

    def arm(self, name: str) -> ArmResult:
        """Return one arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def _repr_html_(self) -> str:
        """Return warnings, verdict, scores of the repeats and costs, as notebooks show them."""
        return views().html(self)

    def plot_lr_response(self) -> Axes:
        """Draw the best validation score of every trial against its learning rate.

        Raises:
            CryoError: The study has no search.
        """
        return views().plot_lr_response(self)

    def plot_seeds(self) -> NDArray[Any]:
        """Draw the test scores of every repeat as a pair, and the intervals of the gain.

        Returns:
            Two axes, (2,): the pairs, and the intervals.

        Raises:
            CryoError: The study has no tuned recipe that was compared with the baseline.
        """
        return views().plot_seeds(self)

    def plot_maps(self, folder: Path | str | None = None) -> NDArray[Any]:
        """Draw the test scenes that tuning changes most: image, truth, maps, and their difference.

        Args:
            folder: The study's folder; None: the one of this name in CRYO_STORAGE.

        Returns:
            Axes, (scenes, columns).

        Raises:
            CryoError: The folder keeps no maps, or holds another result.
        """
        place = Site.from_env(os.environ).storage / self.study if folder is None else Path(folder)
        if load_result(place).digest != self.digest:
            message = (
                f"The maps must be of this result, but '{place}' holds another result of "
                f"'{self.study}'. Give the folder of the study: plot_maps('runs/{self.study}')."
            )
            raise DataError(message)
        return views().plot_maps(self, place)

    def to_dataframe(self) -> pd.DataFrame:
        """Return the search as a table: a row per trial and epoch.

        Columns: `trial`, `epoch`, `best_val_miou` (a fraction, best so far; where another metric
        selects, `best_val_score` by that metric, more is better), `lr`, `state`, `winner`, `baseline`, and one for each parameter of the space. A trial that ended before
        its first epoch has one row, of epoch 0 without a score.
        """
        import pandas as pd

        column = "best_val_miou" if self.metric == MIOU else "best_val_score"
        rows = [
            {
                "trial": trial.number,
                "epoch": epoch,
                column: score,
                "lr": trial.lr,
                "state": trial.state,
                "winner": trial.number == self.winner,
                "baseline": trial.number == 0,
                **trial.params,
            }
            for trial in self.trials
            for epoch, score in (trial.curve or {0: float("nan")}).items()
        ]
        first = ["trial", "epoch", column, "lr", "state", "winner", "baseline"]
        return pd.DataFrame(
            rows, columns=list(dict.fromkeys([*first, *(k for r in rows for k in r)]))
        )

    def scores_to_dataframe(self) -> pd.DataFrame:
        """Return the final comparison as a table: a row per arm and seed.

        Columns: `arm`, `seed`, `test_miou`, `val_miou` (fractions), `collapsed`, `diverged`,
        `epochs`, `seconds`, `train_loss`, `late_gain`, `micro_batch`, `val_score`, `test_iou.<class>`
        for each class, and `test.<metric>` for each metric of the test split.
        """
        import pandas as pd

        rows = [
            {
                "arm": arm.name,
                **seed.model_dump(exclude={"test_iou", "test_metrics", "reused"}),
                **{f"test_iou.{name}": iou for name, iou in seed.test_iou.items()},
                **{f"test.{name}": value for name, value in seed.test_metrics.items()},
            }
            for arm in self.arms
            for seed in arm.seeds
        ]
        return pd.DataFrame(rows)


def write(result: Result, folder: Path) -> Path:
    """Write `result.json`, whole or not at all, with the verdict's word first; return its path."""
    raw = json.loads(result.model_dump_json())
    text = json.dumps({VERDICT: result.verdict, **raw}, indent=2, ensure_ascii=False)
    write_text(folder / NAME, text + "\n")
    return folder / NAME


def load_result(path: Path | str) -> Result:
    """Read the result of a finished study.

    Args:
        path: The study's folder, or its `result.json`.

    Raises:
        CryoError: The file is missing, damaged, or of another version.
    """
    return load_json(Result, path, name=NAME, what="study", upgrade=_read_raw)


def _read_raw(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a result; the verdict's word follows from them."""
    return upgrade_study({key: value for key, value in raw.items() if key != VERDICT})
