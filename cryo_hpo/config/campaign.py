"""Define a campaign of many studies: encoders x datasets x regimes x label fractions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .baselines import Baseline
from .frozen import ConstraintErrors, Frozen, Problem
from .recipe import DataSpec, ModelSpec
from .resources import FROZEN, pack_problems
from .rivals import Rivals, rival_study
from .seeds import FEWEST_SIGNS, CampaignSeeds, SharedSeedLimit
from .study import SLUG, Resources, Search, name_problems

Regime = Literal["full", "frozen", "lora"]
NAME = Annotated[str, Field(pattern=SLUG)]


class Matrix(Frozen):
    """Axes of a campaign: every encoder on every dataset, in every regime, with every label fraction."""

    encoders: dict[NAME, ModelSpec] = Field(
        min_length=1,
        description="Name in tables -> keys of `model`, which override those of `base`.",
    )
    datasets: dict[NAME, DataSpec] = Field(
        min_length=1,
        description="Name in tables -> keys of `data`, which override those of `base`.",
    )
    regimes: tuple[Regime, ...] = Field(
        default=("full",),
        min_length=1,
        description="Fine-tuning regimes: full, frozen, lora; see `tune` of a model.",
    )
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(1.0,),
        min_length=1,
        description="Fractions of the training scenes to learn from: [1.0, 0.1].",
    )


class Skip(Frozen):
    """Cells to leave out: those that match every given key."""

    encoder: str | None = Field(default=None, description="Name of an encoder of the matrix.")
    dataset: str | None = Field(default=None, description="Name of a dataset of the matrix.")
    regime: Regime | None = Field(
        default=None, description="Fine-tuning regime: full, frozen or lora."
    )
    label_fraction: float | None = Field(
        default=None, description="A label fraction of the matrix."
    )


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold one combination of the matrix, or a rival of those with its dataset and label fraction."""

    encoder: str
    dataset: str
    regime: Regime
    label_fraction: float
    is_rival: bool = False


class Campaign(Frozen):
    """A campaign: many studies from one matrix, searched and compared alike."""

    name: str = Field(
        pattern=SLUG,
        description="Name of the campaign: lower-case letters, digits, '.', '_' and '-'.",
    )
    project: str = Field(
        default="cryo",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="MLflow experiment, as cryo/<project>.",
    )
    matrix: Matrix = Field(
        description="Encoders, datasets, regimes and label fractions to combine."
    )
    skip: tuple[Skip, ...] = Field(default=(), description="Cells to leave out of the matrix.")
    rivals: Rivals = Field(
        default={},
        description=(
            "Models without pretraining that are tuned and proven likewise on every dataset, and "
            "that every cell is compared with, paired by seed: [unet], or {unet: {width: 32}}."
        ),
    )
    base: dict[str, Any] = Field(
        default={}, description="Recipe keys that all cells share; see `base` of a study."
    )
    search: Search = Field(description="Hyperparameter search of every cell.")
    transfer: bool = Field(
        default=False,
        description="Start the search of later cells at good values of finished ones.",
    )
    seeds: CampaignSeeds = Field(
        default=(1, 2, 3, 4, 5),
        description="Seeds on which each cell retrains its baseline and its winner, a repeat for each: a list, or {at_most: 16} to stop each cell as soon as it is decided, or {at_most: 16, total: 36} to limit the repeats of all cells together as well.",
    )
    proof: Literal["full"] = Field(
        default="full",
        description="Final comparison of every cell; the campaign's table is of its scores, so it is always full.",
    )
    reuse: bool = Field(
        default=True,
        description="Take trainings of the final comparisons that earlier studies or cells have finished; see `reuse` of a study.",
    )
    baselines: dict[str, Baseline] = Field(
        default={},
        description="Further baselines of each cell: name -> values that differ from base, or `calibrated`; see `baselines` of a study.",
    )
    resources: Resources = Field(default=Resources(), description="Cores and GPUs of one trial.")
    log_model: bool = Field(
        default=True, description="Attach each cell's winning model to its MLflow run."
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = [
            *name_problems(self.name),
            *self._axis_problems(),
            *self._skip_problems(),
            *self._rule_problems(),
            *self._rival_problems(),
            *self._pack_problems(),
        ]
        if problems:
            raise ConstraintErrors(problems)
        if not self.cells():
            problems.append(Problem(("skip",), "All cells are skipped. Drop a line of skip."))
        names = [self.study_name(cell) for cell in self.cells()]
        twins = sorted({name for name in names if names.count(name) > 1})
        if twins:
            message = (
                f"Two cells would have the same name: {', '.join(twins)}. Names of datasets and "
                "encoders are joined with '.': rename one."
            )
            problems.append(Problem(("matrix",), message))
        problems += self._total_problems(len(names))
        if problems:
            raise ConstraintErrors(problems)
        return self

    def cells(self) -> tuple[Cell, ...]:
        """Return the cells that are not skipped, one dataset after the other, its rivals last."""
        return tuple(cell for dataset in self.matrix.datasets for cell in self._cells_on(dataset))

    def _cells_on(self, dataset: str) -> Iterator[Cell]:
        m = self.matrix
        every = [
            Cell(encoder, dataset, regime, share)
            for encoder, regime, share in product(m.encoders, m.regimes, m.label_fractions)
        ]
        cells = [cell for cell in every if not any(_covers(s, cell) for s in self.skip)]
        yield from cells
        for rival, share in product(self.rivals, m.label_fractions):
            if any(cell.label_fraction == share for cell in cells):
                yield Cell(rival, dataset, "full", share, is_rival=True)

    def row(self, cell: Cell) -> str:
        """Return a cell's row in a table of datasets: its name without the dataset."""
        parts = [cell.encoder]
        if len(self.matrix.regimes) > 1:
            parts.append(cell.regime)
        if len(self.matrix.label_fractions) > 1:
            parts.append(f"{100 * cell.label_fraction:g}pct")
        return ".".join(parts)

    def study_name(self, cell: Cell) -> str:
        """Return the name of a cell's study."""
        return f"{self.name}.{cell.dataset}.{self.row(cell)}"

    def study(self, cell: Cell) -> dict[str, Any]:
        """Return a cell's study as a spec's raw mapping."""
        raw = self.model_dump(mode="json", exclude_unset=True)
        base = dict(raw.get("base", {}))
        data = {**base.get("data", {}), **raw["matrix"]["datasets"][cell.dataset]}
        if len(self.matrix.label_fractions) > 1 or cell.label_fraction != 1:
            data["label_fraction"] = cell.label_fraction
        own = {} if cell.is_rival else raw["matrix"]["encoders"][cell.encoder]
        model = {**base.get("model", {}), **own}
        model["tune"] = cell.regime
        if cell.regime != "lora":  # the base's adapters are only for cells with LoRA
            model.pop("lora", None)
        if isinstance(self.seeds, SharedSeedLimit):
            raw["seeds"] = {"at_most": self.seeds.at_most}  # `campaign` shares the total
        if cell.regime != FROZEN:  # its trainings share no encoder; those of other cells may
            raw.get("resources", {}).pop("pack", None)
        shared = ("project", "search", "seeds", "baselines", "resources", "log_model", "reuse")
        study = {
            "name": self.study_name(cell),
            **{key: raw[key] for key in shared if key in raw},
            "base": {**base, "data": data, "model": model},
        }
        if not cell.is_rival:
            return study
        spec = next(spec for name, spec in self.rivals.items() if name == cell.encoder)
        return rival_study(study, cell.encoder, spec)

    def _axis_problems(self) -> Iterator[Problem]:
        for axis in ("regimes", "label_fractions"):
            values = getattr(self.matrix, axis)
            if len(set(values)) < len(values):
                message = (
                    f"Values are repeated: {', '.join(map(str, values))}. Drop the repetitions."
                )
                yield Problem(("matrix", axis), message)

    def _skip_problems(self) -> Iterator[Problem]:
        m = self.matrix
        values: Mapping[str, Any] = {
            "encoder": tuple(m.encoders),
            "dataset": tuple(m.datasets),
            "regime": m.regimes,
            "label_fraction": m.label_fractions,
        }
        for i, skip in enumerate(self.skip):
            wanted = {key: value for key, value in skip if value is not None}
            if not wanted:
                yield Problem(
                    ("skip", i),
                    "This skip names no axis, so it would match every cell. Drop it, or name one.",
                )
            for key, value in wanted.items():
                if value not in values[key]:
                    names = ", ".join(map(str, values[key]))
                    message = f"The matrix has no {key} '{value}'. It has: {names}."
                    yield Problem(("skip", i, key), message)

    def _rule_problems(self) -> Iterator[Problem]:
        rule = self.search.scheduler
        if rule.kind == "asha" and rule.rule == "stop":
            message = (
                "Rule 'stop' does not work in a campaign, whose cells share one queue of paused "
                "trials. Use rule: promote, or scheduler: {kind: none}."
            )
            yield Problem(("search", "scheduler", "rule"), message)

    def _pack_problems(self) -> Iterator[Problem]:
        regimes = [cell.regime for cell in self.cells() if not cell.is_rival]
        if FROZEN not in regimes:
            yield from pack_problems(self.resources, regimes, self.search.space)

    def _total_problems(self, cells: int) -> Iterator[Problem]:
        if not cells or not isinstance(self.seeds, SharedSeedLimit):
            return
        from ..stats.shared_repeats import count_first_round, least_total

        most, total = self.seeds.at_most, self.seeds.total
        least = least_total(cells, fewest=FEWEST_SIGNS, at_most=most)
        if total < least:
            message = (
                f"A total of {total} repeats cannot decide any of {cells} cells: each trains "
                f"{count_first_round(most)} in its first round, and {FEWEST_SIGNS} equal signs decide. "
                f"Raise it to {least} or more; {FEWEST_SIGNS * cells} give every cell {FEWEST_SIGNS}."
            )
            yield Problem(("seeds", "total"), message)

    def _rival_problems(self) -> Iterator[Problem]:
        for rival in self.rivals:
            if rival in self.matrix.encoders:
                message = (
                    f"The matrix has an encoder that is named '{rival}' too. Rename that one, or "
                    "drop it if it is the rival."
                )
                yield Problem(("rivals",), message)


def _covers(skip: Skip, cell: Cell) -> bool:
    return all(value is None or getattr(cell, key) == value for key, value in skip)
