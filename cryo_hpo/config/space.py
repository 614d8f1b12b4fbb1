"""Define search spaces as values, the same in YAML and in Python."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from .frozen import ConstraintErrors, Frozen, Problem, format_value

if TYPE_CHECKING:
    import optuna

Scalar = str | bool | int | float
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def _refuse_others(value: object) -> object:
    if not isinstance(value, str | bool | int | float):
        message = f"Must be a number, text, true or false, got {format_value(value)}."
        raise ValueError(message)
    if isinstance(value, float) and not math.isfinite(value):
        message = f"Must be a finite number, got {value}."
        raise ValueError(message)
    return value


Value = Annotated[Scalar, BeforeValidator(_refuse_others)]


class Float(Frozen):
    """A real parameter between two bounds, both included."""

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["float"] = "float"
    low: float = Field(description="Lowest value, included.")
    high: float = Field(description="Highest value, included.")
    log: bool = Field(default=False, description="Sample on a logarithmic scale.")

    @model_validator(mode="after")
    def _laws(self) -> Self:
        _refuse_bounds(self.low, self.high, log=self.log)
        return self

    def holds(self, value: object) -> bool:
        """Return whether a value lies between the bounds."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]

    def edges(self) -> tuple[Scalar, ...]:
        """Return the values whose legality implies that of all between them."""
        return (self.low, self.high)


class Int(Frozen):
    """An integer parameter between two bounds, both included."""

    kind: Literal["int"] = "int"
    low: int = Field(description="Lowest value, included.")
    high: int = Field(description="Highest value, included.")
    log: bool = Field(default=False, description="Sample on a logarithmic scale; step must be 1.")
    step: int = Field(default=1, ge=1, description="Distance between neighboring values.")

    @model_validator(mode="after")
    def _laws(self) -> Self:
        _refuse_bounds(self.low, self.high, log=self.log)
        if self.log and self.step != 1:
            message = (
                f"step does not apply to a log scale, got step={self.step}. Drop step, or log."
            )
            raise ValueError(message)
        rest = (self.high - self.low) % self.step
        if rest:
            message = (
                f"high must be low plus a multiple of step, got low={self.low}, high={self.high}, "
                f"step={self.step}. Nearest: {self.high - rest}, {self.high - rest + self.step}."
            )
            raise ValueError(message)
        return self

    def holds(self, value: object) -> bool:
        """Return whether a value is one of the steps between the bounds."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def edges(self) -> tuple[Scalar, ...]:
        """Return the values whose legality implies that of all between them."""
        return (self.low, self.high)


class Choice(Frozen):
    """A categorical parameter: one of a few values, without order."""

    kind: Literal["choice"] = "choice"
    values: tuple[Value, ...] = Field(min_length=1, description="Values to choose from.")

    @model_validator(mode="after")
    def _laws(self) -> Self:
        twins = [v for i, v in enumerate(self.values) if v in self.values[:i]]
        if twins:  # 1, 1.0 and true are one value to Optuna
            message = f"Value {format_value(twins[0])} is repeated. Drop one."
            raise ConstraintErrors([Problem(("values",), message)])
        return self

    def holds(self, value: object) -> bool:
        """Return whether a value is one of the choices."""
        return any(
            value == v and isinstance(value, bool) == isinstance(v, bool) for v in self.values
        )

    def edges(self) -> tuple[Scalar, ...]:
        """Return the values that must be legal."""
        return self.values


class When(Frozen):
    """A condition: the parameter exists only if an earlier parameter has one of these values."""

    param: str = Field(description="Name of a parameter that comes earlier in `params`.")
    is_in: tuple[Value, ...] = Field(
        min_length=1,
        description="Values of that parameter for which the conditional parameter exists.",
    )


Param = Annotated[Float | Int | Choice, Field(discriminator="kind")]


class SearchSpace(Frozen):
    """Search space: the hyperparameters to vary, named by their recipe path, such as optim.lr."""

    params: dict[str, Param] = Field(
        description="Recipe path -> range: {optim.lr: {kind: float, low: 1e-6, high: 1e-2, log: true}}."
    )
    when: dict[str, When] = Field(
        default={},
        description="Recipe path -> condition under which the parameter exists; a parameter without condition always exists.",
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = [*self._name_problems(), *self._when_problems()]
        if problems:
            raise ConstraintErrors(problems)
        return self

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Scalar]:
        """Draw a point of the space: an Optuna define-by-run function.

        Args:
            trial: Anything with Optuna's `suggest_float`, `suggest_int`, `suggest_categorical`.

        Returns:
            Name -> value of the parameters that exist at this point, in the order of `params`.
        """
        point: dict[str, Scalar] = {}
        for name, param in self.params.items():
            if self._exists(name, point):
                point[name] = _suggest(trial, name, param)
        return point

    def contains(self, params: Mapping[str, Scalar]) -> bool:
        """Return whether a point holds exactly the parameters that exist there, at legal values."""
        names = [name for name in self.params if self._exists(name, params)]
        return set(names) == set(params) and all(self.params[n].holds(params[n]) for n in names)

    def __or__(self, other: SearchSpace) -> SearchSpace:
        """Return the union of both spaces; the right one's parameters and conditions win."""
        when = {name: w for name, w in self.when.items() if name not in other.params} | other.when
        both = self.params | other.params
        ordered: dict[str, Float | Int | Choice] = {}
        for name in both:
            chain = [name]
            while chain[-1] in when:  # a parameter follows the one it depends on
                chain.append(when[chain[-1]].param)
            ordered |= {n: both[n] for n in reversed(chain)}
        return SearchSpace(params=ordered, when=when)

    def _exists(self, name: str, point: Mapping[str, Scalar]) -> bool:
        condition = self.when.get(name)
        if condition is None:
            return True
        return condition.param in point and _among(point[condition.param], condition.is_in)

    def _name_problems(self) -> Iterator[Problem]:
        if not self.params:
            yield Problem(("params",), "The search space is empty. Add a parameter.")
        for name in self.params:
            if not NAME.fullmatch(name):
                message = f"'{name}' is not a recipe path. Name the parameter like 'optim.lr'."
                yield Problem(("params", name), message)

    def _when_problems(self) -> Iterator[Problem]:
        order = list(self.params)
        for name, condition in self.when.items():
            above = order[: order.index(name)] if name in self.params else order
            if name not in self.params:
                message = f"Condition of '{name}', which is not in `params`. Known: {', '.join(order)}. Rename it, or add the parameter."
                yield Problem(("when", name), message)
            elif condition.param not in above:
                message = (
                    f"'{condition.param}' does not come before '{name}' in `params`, and a condition "
                    f"needs an earlier parameter. {_names(above)}"
                )
                yield Problem(("when", name, "param"), message)
            else:
                parent = self.params[condition.param]
                for i, value in enumerate(condition.is_in):
                    if not parent.holds(value):
                        message = (
                            f"'{condition.param}' never has the value {format_value(value)}, so the condition is "
                            f"never met. Its values: {_range(parent)}."
                        )
                        yield Problem(("when", name, "is_in", i), message)


def _suggest(trial: optuna.trial.BaseTrial, name: str, param: Float | Int | Choice) -> Scalar:
    if isinstance(param, Float):
        return trial.suggest_float(name, param.low, param.high, log=param.log)
    if isinstance(param, Int):
        return trial.suggest_int(name, param.low, param.high, step=param.step, log=param.log)
    return trial.suggest_categorical(name, param.values)  # type: ignore[return-value]  # never None


def _among(value: Scalar, values: tuple[Scalar, ...]) -> bool:
    return Choice.model_construct(values=values).holds(value)


def _refuse_bounds(low: float, high: float, *, log: bool) -> None:
    problems = []
    if low > high:
        message = f"low must not exceed high, got low={low:g}, high={high:g}. Swap them."
        problems.append(Problem((), message))
    if log and low <= 0:
        message = f"A log scale needs low above 0, got low={low:g}. Raise low, or drop log."
        problems.append(Problem((), message))
    if problems:
        raise ConstraintErrors(problems)


def _names(names: list[str]) -> str:
    return f"Earlier ones: {', '.join(names)}." if names else "There is no earlier one."


def _range(param: Float | Int | Choice) -> str:
    if isinstance(param, Choice):
        return ", ".join(map(format_value, param.values))
    return f"{param.low:g} to {param.high:g}"
