"""Define a study: baseline, search and seeds of the final comparison."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from .baselines import Baseline
from .frozen import ConstraintErrors, Frozen, Problem, format_value
from .hours import Hours, Length
from .metric import MIOU, MetricName
from .prior import Prior, prior_problems
from .protocol import PROTOCOLS
from .recipe import Recipe
from .resources import TUNE, pack_problems
from .resources import Resources as Resources
from .seeds import NO_TOTAL, Proof, Seeds, SharedSeedLimit
from .seeds import SeedLimit as SeedLimit
from .space import Scalar, SearchSpace, Value
from .start import Start, start_problems
from .variation import arm_problems, explain_unsearchable

SLUG = r"^[a-z0-9][a-z0-9._-]*$"
MAX_NAME = 200  # characters: a folder, an MLflow run and a database's study carry the name
STORED = ("mlflow.db", "mlartifacts", "mlruns")  # beginnings of files beside the studies' folders
RESERVED = ("baseline", "tuned")  # the two arms that every comparison has

# Measured, see docs/search-benchmark.md: after one short epoch a score predicts little.
FIRST_RUNG = 3


class Asha(Frozen):
    """Early stopping by rungs: trials compare at grace, grace * reduction, ... epochs."""

    kind: Literal["asha"] = "asha"
    rule: Literal["promote", "stop"] = Field(
        default="promote",
        description="What happens to a trial below the top fraction of a rung. promote: it pauses and may be promoted later; stop: it ends.",
    )
    grace_epochs: int = Field(
        default=FIRST_RUNG,
        ge=1,
        le=100_000,
        description="Epochs before the first rung; a ninth of `epochs` is a good value.",
    )
    reduction: int = Field(
        default=3,
        ge=2,
        le=1_000,
        description="Reduction factor: one trial in this many is promoted at each rung.",
    )


class NoStopping(Frozen):
    """No early stopping: every trial trains to full length."""

    kind: Literal["none"]


class DefineByRun(Frozen):
    """A search space as a function: `def space(trial) -> dict[str, Scalar]`, as Optuna calls it."""

    file: str = Field(
        pattern=r"\.py$",
        description="Python file that holds the function, relative to the working directory.",
    )
    function: str = Field(
        min_length=1, description="Name of the function, which takes an Optuna trial."
    )


def _space_kind(value: object) -> str:
    by_function = isinstance(value, DefineByRun) or (
        isinstance(value, Mapping) and ("file" in value or "function" in value)
    )
    return "DefineByRun" if by_function else "SearchSpace"


class Search(Frozen):
    """Hyperparameter search: space, number of trials, early stopping and sampler."""

    space: Annotated[
        Annotated[SearchSpace, Tag("SearchSpace")] | Annotated[DefineByRun, Tag("DefineByRun")],
        Discriminator(_space_kind),
    ] = Field(description="Search space: the hyperparameters to vary, and their ranges.")
    trials: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Number of configurations to try, the baseline included; or give `budget`.",
    )
    budget: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Cost of the whole search in full trainings, in place of `trials`: 2 or 1.5.",
    )
    scheduler: Annotated[Asha | NoStopping, Field(discriminator="kind")] = Field(
        default=Asha(), description="Early-stopping rule: asha, or none."
    )
    sampler: Literal["tpe", "random", "gp"] = Field(
        default="tpe", description="Optuna sampler that proposes configurations: tpe, random or gp."
    )
    metric: MetricName = MIOU
    parallel: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Largest number of trials at once; left out: as many as fit the cluster.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seeds the sampler's proposals.")
    prior: dict[str, Prior] = Field(
        default={},
        description="Prior knowledge of good values: {optim.lr: {center: 3e-4, spread: 3}}, or {from: result.json}.",
    )
    start: Start = Field(
        default="even",
        description="First configurations. even: spread over the whole range; calibrated: the mean of the learning rates that were best on other, recorded problems, a third and three times of it, each to full length, then the even spread; known: two points that were good on recorded problems, then the even spread if they are not; {kind: calibrated, from: portfolio.json}: likewise, with a portfolio of your own beside the shipped one.",
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        promotes = isinstance(self.scheduler, Asha) and self.scheduler.rule == "promote"
        problems = [
            *(
                Problem(("prior", *p.loc), p.message)
                for p in prior_problems(self.prior, self.space)
            ),
            *start_problems(self.start, self.space, promotes=promotes),
        ]
        if problems:
            raise ConstraintErrors(problems)
        return self


class Study(Frozen):
    """A study: search the hyperparameters of one recipe, then compare winner and baseline."""

    name: str = Field(
        pattern=SLUG, description="Name of the study: lower-case letters, digits, '.', '_' and '-'."
    )
    project: str = Field(
        default="cryo",
        max_length=MAX_NAME,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="MLflow experiment, as cryo/<project>.",
    )
    base: Recipe = Field(
        description="Recipe of the fixed-learning-rate baseline, which is also trial 0."
    )
    search: Search | None = Field(
        default=None, description="Hyperparameter search; left out: only train `base` on `seeds`."
    )
    budget: Hours | None = Field(
        default=None,
        description="Hours for search and final comparison together, in place of `search.trials`: {gpu_hours: 6} or {core_hours: 6}.",
    )
    seeds: Seeds = Field(
        default=(1, 2, 3, 4, 5),
        description="Seeds on which baseline and winner are retrained, a repeat for each: a list, or {at_most: 16} to stop as soon as the comparison is decided.",
    )
    proof: Proof = Field(
        default="full",
        description="Final comparison. full: retrain baseline and winner on `seeds`; quick: one repeat on the search's own seed, which proves nothing; none: end after the search.",
    )
    reuse: bool = Field(
        default=True,
        description="Take trainings of the final comparison that an earlier study has finished with the same recipe, data, code and device; false: train all.",
    )
    baselines: dict[str, Baseline] = Field(
        default={},
        description="Further baselines, as name -> values that differ from base: {paper: {optim.lr: 1e-4}}; or {known: calibrated}: the mean of the learning rates that were best on other, recorded problems.",
    )
    resources: Resources = Field(default=Resources(), description="Cores and GPUs of one trial.")
    log_model: bool = Field(
        default=True, description="Attach the winning model to its MLflow run, ready to be loaded."
    )
    registered_as: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$",
        description="Name of the winning model in MLflow's model registry; left out: not registered.",
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = [
            *name_problems(self.name),
            *self._model_problems(),
            *self._seed_problems(),
            *self._space_problems(),
            *self._baseline_problems(),
            *self._length_problems(),
            *self._rung_problems(),
            *self._budget_problems(),
            *self._pack_problems(),
        ]
        if problems:
            raise ConstraintErrors(problems)
        return self

    def recipe(
        self, params: Mapping[str, Scalar] | None = None, *, seed: int | None = None
    ) -> Recipe:
        """Return the recipe of a point of the space; without a point, the baseline's.

        Args:
            params: Recipe path -> value.
            seed: Replaces the base's seed.

        Raises:
            SpecError: The recipe has no such path, or the value is not legal there.
        """
        changes = {**(params or {}), **({} if seed is None else {"seed": seed})}
        return self.base.replace(changes) if changes else self.base

    @property
    def given_baselines(self) -> dict[str, dict[str, Value]]:
        """Named baselines whose values the study gives; those that are `calibrated` are left out."""
        return {arm: over for arm, over in self.baselines.items() if not isinstance(over, str)}

    @property
    def metric(self) -> str:
        """Name of the validation metric that selects."""
        return MIOU if self.search is None else self.search.metric

    @property
    def stops_when_decided(self) -> bool:
        """True if the final comparison stops at the repeat that decides it."""
        return self.proof == "full" and isinstance(self.seeds, SeedLimit)

    @property
    def comparison_seeds(self) -> tuple[int, ...]:
        """All seeds that the final comparison may use, in order.

        None is the search's under `proof: full`; that one alone under `quick`.
        """
        if self.proof != "full":
            return (self.base.seed,) if self.proof == "quick" else ()
        if not isinstance(self.seeds, SeedLimit):
            return self.seeds
        numbers = (seed for seed in count(1) if seed != self.base.seed)
        return tuple(islice(numbers, self.seeds.at_most))

    def _model_problems(self) -> Iterator[Problem]:
        if self.registered_as is not None and not self.log_model:
            message = (
                "Cannot register a model that is not logged: log_model is false. "
                "Drop one of the two."
            )
            yield Problem(("registered_as",), message)

    def _seed_problems(self) -> Iterator[Problem]:
        if self.search is None and self.proof != "full":
            message = (
                f"A study without a search is its trainings on `seeds`, got proof: {self.proof}. "
                "Drop the key, or add a search."
            )
            yield Problem(("proof",), message)
        if isinstance(self.seeds, SharedSeedLimit):
            yield Problem(("seeds", "total"), NO_TOTAL)
        if isinstance(self.seeds, SeedLimit):
            if self.search is None:
                message = (
                    "Without a search there is no tuned recipe to compare, so nothing decides when "
                    "to stop. List the seeds: [1, 2, 3]."
                )
                yield Problem(("seeds", "at_most"), message)
            return
        twins = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twins:
            message = (
                f"Seeds are repeated: {', '.join(map(str, twins))} in {format_value(self.seeds)}. "
                "A repeated seed is no new evidence. Drop it."
            )
            yield Problem(("seeds",), message)
        if self.search is not None and self.base.seed in self.seeds:
            message = (
                f"Seed {self.base.seed} is base.seed, which the search uses; the final comparison "
                "needs seeds that the search has not seen. Drop it here, or change base.seed."
            )
            yield Problem(("seeds", self.seeds.index(self.base.seed)), message)

    def _space_problems(self) -> Iterator[Problem]:
        if self.search is None or not isinstance(self.search.space, SearchSpace):
            return
        for name, param in self.search.space.params.items():
            loc = ("search", "space", "params", name)
            messages = (explain_unsearchable(self.base, name, value) for value in param.edges())
            yield from (Problem(loc, m) for m in dict.fromkeys(filter(None, messages)))

    def _baseline_problems(self) -> Iterator[Problem]:
        for arm in self.baselines:
            if arm in RESERVED or len(arm) > MAX_NAME or not re.fullmatch(SLUG, arm):
                message = (
                    f"'{arm}' cannot name a baseline. Use at most {MAX_NAME} lower-case letters, "
                    f"digits, '.', '_' and '-', and not {' or '.join(map(repr, RESERVED))}."
                )
                yield Problem(("baselines", arm), message)
        for arm, changes in self.given_baselines.items():
            yield from arm_problems(self.base, ("baselines", arm), changes)

    def _length_problems(self) -> Iterator[Problem]:
        if self.search is None:
            if self.budget is not None:
                message = (
                    "A budget is for a search and its proof, and this study has no search. Drop it."
                )
                yield Problem(("budget",), message)
            return
        search = self.search
        yield from Length(search.trials, search.budget, self.budget, self.resources.gpus).problems()

    def _rung_problems(self) -> Iterator[Problem]:
        rule = None if self.search is None else self.search.scheduler
        # a training shorter than the default first rung has no rung, and no trial is paused
        if isinstance(rule, Asha) and rule.grace_epochs > max(self.base.epochs, FIRST_RUNG):
            message = (
                f"The first rung is beyond the end of a training: epoch {rule.grace_epochs} of "
                f"{self.base.epochs}. Lower it, or use scheduler: {{kind: none}}."
            )
            yield Problem(("search", "scheduler", "grace_epochs"), message)
        every = PROTOCOLS[self.base.protocol].score_every
        if isinstance(rule, Asha) and rule.grace_epochs % every:
            message = (
                f"There is no validation score at epoch {rule.grace_epochs}: protocol "
                f"'{self.base.protocol}' scores every {every} epochs. Use {every} or a multiple, or "
                "scheduler: {kind: none}."
            )
            yield Problem(("search", "scheduler", "grace_epochs"), message)

    def _budget_problems(self) -> Iterator[Problem]:
        if self.search is None or self.search.budget is None:
            return
        rule, epochs = self.search.scheduler, self.base.epochs
        first = epochs
        if isinstance(rule, Asha) and rule.rule == "promote":
            first = min(rule.grace_epochs, epochs)
        if self.search.budget * epochs + 1e-9 < epochs + first:
            message = (
                f"A budget of {self.search.budget:g} trainings compares nothing: trials pause at "
                f"epoch {first} of {epochs} at the earliest, so two of them and a winner of full "
                f"length cost {(epochs + first) / epochs:.3g}. Raise it, or lower grace_epochs."
            )
            yield Problem(("search", "budget"), message)

    def _pack_problems(self) -> Iterator[Problem]:
        base = self.base.model.tune
        regimes = [base, *(over.get(TUNE, base) for over in self.given_baselines.values())]
        space = None if self.search is None else self.search.space
        yield from pack_problems(self.resources, regimes, space)


def format_length(search: Search) -> str:
    """Format the length of a search for people: 12, or "a budget of 2 trainings"."""
    if search.budget is None:
        return str(search.trials)
    return f"a budget of {search.budget:g} trainings"


def name_problems(name: str) -> Iterator[Problem]:
    """Yield why a name cannot be the folder of a study or a campaign in the storage."""
    if len(name) > MAX_NAME:
        message = f"The name has {len(name)} characters. Use at most {MAX_NAME}."
        yield Problem(("name",), message)
    if name.startswith(STORED):
        message = (
            f"'{name}' is a name of MLflow's files in the storage folder. Use a name that does not "
            f"begin with {' or '.join(STORED)}."
        )
        yield Problem(("name",), message)
