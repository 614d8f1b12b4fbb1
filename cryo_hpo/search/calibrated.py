"""Take a good default from elsewhere: the mean of the learning rates that were best on other problems.

It fills a named baseline (`baselines: {known: calibrated}`), or starts a search (`start: calibrated`).
Only recorded problems with other data than the study's own count, so the default has not seen what it
is compared on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..config.frozen import Frozen
from ..config.optim import ADAMW
from ..config.space import Float, Scalar, SearchSpace, Value
from ..config.start import kind_of
from ..errors import SpecError, concerning
from .known_start import KnownStart
from .portfolio import (
    FEWEST,
    LEAST_LEAD,
    MARGIN,
    RATE,
    alike,
    lead_of,
    portfolio_of,
    problem_of,
    why_none,
)
from .rungs import rungs_of

if TYPE_CHECKING:
    from ..config import Study
    from ..results.portfolio import Lesson, Portfolio

NEIGHBORS = (1 / 3, 3.0)  # times the default: rates that a start tries beside it, in this order


class Calibrated(Frozen):
    """Hold a default that was learned elsewhere.

    Attributes:
        values: Values by recipe path.
        problems: Names of the recorded problems whose best rates it is the mean of.
    """

    values: dict[str, Value]
    problems: tuple[str, ...]


def calibrate(study: Study) -> Calibrated:
    """Return the default for a study's encoder and regime.

    Raises:
        SpecError: The portfolio has too few problems like the study's.
    """
    base, own = study.base, problem_of(study)
    if base.optim.name != ADAMW:
        message = (
            f"The recorded problems were trained with adamw, and their learning rates mean nothing "
            f"for {base.optim.name}. Give the values: {{optim.lr: ...}}."
        )
        raise SpecError(message)
    lessons = alike(portfolio_of(study).lessons, study, steps=None)
    if not lessons:
        message = (
            f"'calibrated' needs {FEWEST} recorded problems beside '{own}' with an encoder of the "
            f"family of '{base.model.encoder}' and tune: {base.model.tune}, and there are fewer. Give "
            "the values: {optim.lr: ...}, or a portfolio of your own: `search.start: {from: PATH}`."
        )
        raise SpecError(message)
    problems = dict.fromkeys(lesson.problem for lesson in lessons)
    return Calibrated(values={RATE: good_rate(lessons)}, problems=tuple(problems))


def good_rate(lessons: Sequence[Lesson]) -> float:
    """Return the mean of the best learning rates of lessons, on the logarithm."""
    return _round(statistics.geometric_mean(float(lesson.best[RATE]) for lesson in lessons))


def calibrated_start(portfolio: Portfolio, study: Study, rungs: Sequence[int]) -> KnownStart:
    """Return a start at the default for a study's encoder and regime, and at its neighbors.

    Parameters of the space beside the learning rate have the study's own values where the space
    holds them. A neighbor outside of the space is left out.

    Args:
        portfolio: Lessons to choose from, without those of the study's own data.
        study: Study with a search over ranges.
        rungs: Rungs of the search.

    Returns:
        The start; without points, and with the reason, if the portfolio does not apply.
    """
    assert study.search is not None, "a search starts somewhere"
    space = study.search.space
    early = [rung for rung in rungs if 2 * rung <= study.base.epochs]
    lessons = alike(portfolio.lessons, study, steps=None)
    rate = space.params.get(RATE) if isinstance(space, SearchSpace) else None
    if not (early and lessons and isinstance(rate, Float)):
        return KnownStart(reason=why_none(study, has_rung=bool(early), lessons=lessons))
    assert isinstance(space, SearchSpace), "it has a learning rate"
    default = good_rate(lessons)
    if not rate.holds(default):
        reason = f"the calibrated default, {default:.3g}, lies outside the range of {RATE}"
        return KnownStart(reason=reason)
    rates = [r for r in (default, *(_round(default * n) for n in NEIGHBORS)) if rate.holds(r)]
    own = dict(_own_values(study, space))
    return KnownStart(
        points=tuple({**own, RATE: r} for r in rates),
        goes_on=True,
        rung=early[0],
        lead=_least_lead(lessons, default, study),
        problems=tuple(dict.fromkeys(lesson.problem for lesson in lessons)),
        sources=tuple(dict.fromkeys(lesson.source for lesson in lessons)),
    )


def calibrated_of(study: Study) -> KnownStart:
    """Return the start at a calibrated default; without points or reason for any other start.

    Raises:
        SpecError: The study's own portfolio cannot be read.
    """
    if study.search is None or kind_of(study.search.start) != "calibrated":
        return KnownStart()
    rungs = rungs_of(study.search, study.base.epochs)
    return calibrated_start(portfolio_of(study), study, rungs)


def _least_lead(lessons: Sequence[Lesson], default: float, study: Study) -> float:
    """Return the least early lead over the study's own rate that speaks for a default.

    It is below the usual one where the default hardly led that rate on a recorded problem.
    """
    leads = [lead_of(lesson, [math.log10(default)], study) for lesson in lessons]
    return min(LEAST_LEAD, *(MARGIN * lead for lead in leads if lead is not None), LEAST_LEAD)


def _own_values(study: Study, space: SearchSpace) -> Iterator[tuple[str, Scalar]]:
    base = study.base.flat()
    for name, param in space.params.items():
        value = base.get(name)
        if value is not None and name != RATE and param.holds(value):
            yield name, float(value) if isinstance(param, Float) else value


def _round(rate: float) -> float:
    return float(f"{rate:.3g}")


def calibrated_arms(study: Study) -> dict[str, Calibrated]:
    """Return the default of every named baseline that is `calibrated`.

    Raises:
        SpecError: The portfolio has too few problems like the study's.
    """
    arms = {}
    for name, changes in study.baselines.items():
        if isinstance(changes, str):
            with concerning("baselines", name):
                arms[name] = calibrate(study)
    return arms


def filled(study: Study, arms: dict[str, Calibrated]) -> dict[str, dict[str, Value]]:
    """Return the values of all named baselines, given the defaults of those that are `calibrated`."""
    return {
        name: arms[name].values if isinstance(changes, str) else changes
        for name, changes in study.baselines.items()
    }
