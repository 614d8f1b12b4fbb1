"""Draw Halton points of a search space: evenly, or more densely where a prior is high."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

if TYPE_CHECKING:
    from ..config import Prior
    from ..config.space import Scalar

NO_BELIEFS: Mapping[str, Prior] = MappingProxyType({})
FINEST = 2e-16  # resolution of a position in [0, 1]: the last bit of a float
NARROWEST = 1e-3  # least standard deviation of a prior, as a share of the range


def stratum(
    suggest: Callable[[Any], dict[str, Any]],
    *,
    seed: int,
    index: int,
    prior: Mapping[str, Prior] = NO_BELIEFS,
) -> dict[str, Scalar]:
    """Return one point of a Halton sequence, every prefix of which covers the space evenly.

    Without a prior, a parameter's distribution is uniform over its range, or over the range's
    logarithm. A search may end at any time, so a Latin hypercube, which is even only as a whole,
    is unsuitable.

    Source: Halton 1960, Numerische Mathematik 2; digits permuted at random as in Owen 2017,
    arXiv:1706.02808. The first parameter of a space uses base 2, the second base 3, and so on.
    """
    trial = _Stratum(seed, index, prior)
    suggest(trial)
    return trial.drawn


def known_point(
    suggest: Callable[[Any], dict[str, Any]],
    values: Mapping[str, Scalar],
    *,
    seed: int,
    index: int,
) -> dict[str, Scalar]:
    """Return a point of a space with given values; a parameter without one gets the Halton point's.

    Args:
        suggest: The space as an Optuna define-by-run function.
        values: Values by the names that the space suggests them by.
        seed: Seeds the sequence.
        index: Number of the point in the sequence.
    """
    trial = _Known(seed, index, values)
    suggest(trial)
    return trial.drawn


def prior_quantile(share: float, belief: Prior, low: float, high: float, *, log: bool) -> float:
    """Return the quantile `share` of a prior's mixture, as a position in the range, in [0, 1].

    The mixture is `weight` of a normal distribution, truncated to the range, and the rest
    uniform; on a logarithmic range both are over the logarithm.

    Source: a mixture of prior and uniform, as in Mallik et al., "PriorBand", NeurIPS 2023,
    arXiv:2306.12370, section 5.
    """
    if high <= low or not 0 < share < 1:
        return share
    scale = math.log if log else float
    width = scale(high) - scale(low)
    center = (scale(min(max(belief.center, low), high)) - scale(low)) / width
    sigma = max((math.log(belief.spread) if log else belief.spread) / width, NARROWEST)
    start, end = scipy.special.ndtr(-center / sigma), scipy.special.ndtr((1 - center) / sigma)

    def excess(place: float) -> float:
        inside = (scipy.special.ndtr((place - center) / sigma) - start) / (end - start)
        return float((1 - belief.weight) * place + belief.weight * inside) - share

    return float(scipy.optimize.brentq(excess, 0.0, 1.0, xtol=FINEST))


class _Stratum:
    """Suggest one point of a Halton sequence, with the methods of an Optuna trial."""

    def __init__(self, seed: int, index: int, prior: Mapping[str, Prior]) -> None:
        self._seed, self._index, self._prior = seed, index, prior
        self._columns: dict[str, int] = {}
        self.drawn: dict[str, Any] = {}

    def _share(self, name: str) -> float:
        """Return this point's position in a parameter's range, in [0, 1)."""
        column = self._columns.setdefault(name, len(self._columns))
        chance = np.random.default_rng([self._seed, *name.encode()])
        points = scipy.stats.qmc.Halton(d=column + 1, scramble=True, rng=chance).random(
            self._index + 1
        )
        return float(points[-1, column])

    def _place(self, name: str, bounds: tuple[float, float], *, log: bool) -> float:
        """Return this point's position in a numeric range, under the parameter's prior if any."""
        share = self._share(name)
        belief = self._prior.get(name)
        return share if belief is None else prior_quantile(share, belief, *bounds, log=log)

    def _keep(self, name: str, value: Any) -> Any:
        return self.drawn.setdefault(name, value)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        share = self._place(name, (low, high), log=log)
        if log:
            return float(self._keep(name, min(high, low * (high / low) ** share)))
        value = low + (high - low) * share
        if step is not None:
            value = low + step * math.floor((value - low) / step)
        return float(self._keep(name, value))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        share = self._place(name, (low, high + 1), log=log)
        if log:
            return int(self._keep(name, min(high, int(low * ((high + 1) / low) ** share))))
        return int(self._keep(name, low + step * int(share * ((high - low) // step + 1))))

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        return self._keep(name, choices[int(self._share(name) * len(choices))])


class _Known(_Stratum):
    """Suggest given values, and a Halton point where there is none."""

    def __init__(self, seed: int, index: int, values: Mapping[str, Scalar]) -> None:
        super().__init__(seed, index, NO_BELIEFS)
        self._values = values

    def _keep(self, name: str, value: Any) -> Any:
        return super()._keep(name, self._values.get(name, value))
