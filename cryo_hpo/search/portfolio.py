"""Choose known good points for a search from a portfolio: the best trainings of recorded problems."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config.space import Choice, Float, Int, Scalar, SearchSpace
from ..results.portfolio import Lesson, Portfolio, family_of, load_portfolio
from .known_start import KnownStart

if TYPE_CHECKING:
    from ..config import Study

RATE = "optim.lr"
FEWEST = 3  # problems from which a spread can be computed with some right
NARROWEST = 0.5  # decades: least distance of a point from the middle of the best rates
LEAST_LEAD = 0.02  # of the mIoU, below which a lead at the first rung says nothing
MARGIN = 0.5  # of the least lead on the recorded problems, by which known points must lead
KNOWN_POINTS = 2  # trials at which a start at known points begins
PER_DECADE = 3  # candidates of a decade, from which two known rates are chosen
ROUNDED = 1e-6  # decades, by which recorded rates are rounded
NEAR_STEPS = 3.0  # numbers of steps per training that differ by less than this factor are alike
SHIPPED = "portfolio.json"


def shipped_portfolio() -> Portfolio:
    """Return the portfolio in this package, learned from the recorded trainings of its benchmark."""
    return Portfolio.model_validate_json(
        resources.files(__package__).joinpath(SHIPPED).read_bytes()
    )


def portfolio_of(study: Study) -> Portfolio:
    """Return what other data have taught: the shipped portfolio, and the study's own if it names one.

    Lessons of the study's own dataset, by its name, are left out, so that neither a start nor a
    default has seen the data on which it is compared.
    """
    lessons = shipped_portfolio().lessons
    start = "even" if study.search is None else study.search.start
    if not isinstance(start, str):
        lessons = (*lessons, *load_portfolio(Path(start.path)).lessons)
    return Portfolio(lessons=lessons).without(problem=problem_of(study))


def problem_of(study: Study) -> str:
    """Return the name by which a portfolio knows a study's data: that of its dataset."""
    data = study.base.data
    return data.card.name if data.card is not None else str(data.name)


def choose_start(
    portfolio: Portfolio, study: Study, rungs: Sequence[int], *, steps: int | None = None
) -> KnownStart:
    """Choose the points at which a study's search starts.

    The two learning rates are those of which the better one is best on average (`complementary`),
    or lie one standard deviation to either side of the mean of the best ones where a lesson has no
    response; every other parameter has its mean, or its most frequent choice.

    Args:
        portfolio: Lessons to choose from.
        study: Study with a search over ranges.
        rungs: Rungs of the search.
        steps: Optimizer steps of one of its trainings, if known.

    Returns:
        The start; without points, and with the reason, if the portfolio does not apply.
    """
    assert study.search is not None, "a search starts somewhere"
    space, epochs = study.search.space, study.base.epochs
    early = [rung for rung in rungs if 2 * rung <= epochs]
    lessons = alike(portfolio.lessons, study, steps=steps)
    rate = space.params.get(RATE) if isinstance(space, SearchSpace) else None
    if not (early and lessons and isinstance(rate, Float) and rate.log):
        return KnownStart(reason=why_none(study, has_rung=bool(early), lessons=lessons))
    assert isinstance(space, SearchSpace), "it has a learning rate"
    best = [math.log10(float(lesson.best[RATE])) for lesson in lessons]
    places = complementary(lessons, rate) or spread_out(best)
    points = [{**_others(space, lessons), RATE: 10**place} for place in places]
    if not all(rate.holds(point[RATE]) for point in points):
        reason = f"the portfolio's rates, {_rates(places)}, lie outside the range of {RATE}"
        return KnownStart(reason=reason)
    leads = [lead for lesson in lessons if (lead := lead_of(lesson, places, study)) is not None]
    if leads and MARGIN * min(leads) < LEAST_LEAD:
        reason = (
            f"the known points, {_rates(places)}, hardly led {study.base.optim.lr:.2g} early on a recorded "
            "problem, so that an early look would not notice problems of another kind"
        )
        return KnownStart(reason=reason)
    return KnownStart(
        points=tuple(points),
        rung=early[0],
        lead=MARGIN * min(leads) if leads else None,
        at_edge=tuple(
            i for i, x in enumerate(places) if x < min(best) - ROUNDED or x > max(best) + ROUNDED
        ),
        problems=tuple(dict.fromkeys(lesson.problem for lesson in lessons)),
        sources=tuple(dict.fromkeys(lesson.source for lesson in lessons)),
    )


def complementary(lessons: Sequence[Lesson], rate: Float) -> tuple[float, float] | None:
    """Return the two learning rates (log10) of which the better one scores best on average.

    Between recorded rates scores are interpolated on the logarithm; only rates inside the range that
    all lessons have recorded count.

    Args:
        lessons: Lessons of problems like the one at hand.
        rate: Range of the learning rate.

    Returns:
        The pair, or None: a lesson has no response, or fewer than two rates count.
    """
    if not all(lesson.response for lesson in lessons):
        return None
    recorded = [np.log10([lr for lr, *_ in lesson.response]) for lesson in lessons]
    low = max(math.log10(rate.low), *(float(x[0]) for x in recorded)) - ROUNDED
    high = min(math.log10(rate.high), *(float(x[-1]) for x in recorded)) + ROUNDED
    places = [
        k / PER_DECADE
        for k in range(math.ceil(low * PER_DECADE), math.floor(high * PER_DECADE) + 1)
    ]
    scores = np.array(
        [
            np.interp(places, x, [end for *_, end in lesson.response])
            for x, lesson in zip(recorded, lessons, strict=True)
        ]
    )
    pairs = list(combinations(range(len(places)), KNOWN_POINTS))
    if not pairs:
        return None
    first, second = max(pairs, key=lambda pair: scores[:, pair].max(axis=1).mean())
    return places[first], places[second]


def lead_of(lesson: Lesson, places: Sequence[float], study: Study) -> float | None:
    """Return by how much the best of some rates led the study's own early on a recorded problem.

    Args:
        lesson: What the problem taught.
        places: The rates, log10.
        study: The study, whose own rate is its baseline's.

    Returns:
        The lead, a fraction; None: not recorded.
    """
    if not lesson.response:
        return lesson.lead
    rates, scores, _ = zip(*lesson.response, strict=True)
    at_points, own = (
        np.interp(x, np.log10(rates), scores) for x in (places, math.log10(study.base.optim.lr))
    )
    return float(at_points.max() - own)


def spread_out(best: Sequence[float]) -> tuple[float, float]:
    """Return two points around good values: their mean, minus and plus a standard deviation."""
    middle = statistics.fmean(best)
    distance = max(statistics.stdev(best), NARROWEST)
    return middle - distance, middle + distance


def alike(lessons: Iterable[Lesson], study: Study, *, steps: int | None) -> list[Lesson]:
    """Return the lessons of problems like a study's, the nearest that are enough.

    Family of the encoder, regime and optimizer must be the same; the encoder, schedule, loss and steps of a
    training are the same or near where at least `FEWEST` problems are left.
    """
    base = study.base
    family, regime = family_of(base.model.encoder), base.model.tune
    must = (family, regime, base.optim.name)
    kept = [x for x in lessons if (x.family, x.regime, x.optimizer) == must and RATE in x.best]
    tests: list[Callable[[Lesson], bool]] = [
        lambda x: x.encoder == base.model.encoder,
        lambda x: x.schedule == base.optim.schedule,
        lambda x: x.loss == base.loss.name,
        lambda x: _near(x.steps, steps),
    ]
    for test in tests:
        nearer = [lesson for lesson in kept if test(lesson)]
        kept = nearer if _enough(nearer) else kept
    return kept if _enough(kept) else []


def _enough(lessons: Iterable[Lesson]) -> bool:
    return len({lesson.problem for lesson in lessons}) >= FEWEST


def _near(first: int | None, second: int | None) -> bool:
    steps = math.log((first or 1) / (second or 1))
    return bool(first and second) and abs(steps) < math.log(NEAR_STEPS) - ROUNDED


def _others(space: SearchSpace, lessons: Sequence[Lesson]) -> dict[str, Scalar]:
    """Return the values of the parameters beside the learning rate that lessons have."""
    values = {
        name: [lesson.best[name] for lesson in lessons if name in lesson.best]
        for name in space.params
        if name != RATE
    }
    return {name: _middle(space.params[name], v) for name, v in values.items() if v}


def _middle(param: Float | Int | Choice, values: Sequence[Scalar]) -> Scalar:
    if isinstance(param, Choice):
        return Counter(values).most_common(1)[0][0]
    numbers = [min(max(float(value), param.low), param.high) for value in values]
    mean = statistics.geometric_mean(numbers) if param.log else statistics.fmean(numbers)
    if isinstance(param, Float):
        return mean
    return param.low + param.step * round((mean - param.low) / param.step)


def why_none(study: Study, *, has_rung: bool, lessons: Sequence[Lesson]) -> str:
    """Return why a portfolio gives a study no known points."""
    if not has_rung:
        return "no rung lies in the first half of a training"
    if not lessons:
        model, optimizer = study.base.model, study.base.optim.name
        return (
            f"fewer than {FEWEST} recorded problems beside '{problem_of(study)}' have an encoder of the "
            f"family of '{model.encoder}' with tune: {model.tune}, trained with {optimizer}"
        )
    return f"the space has no {RATE} on a logarithmic range"


def _rates(places: Iterable[float]) -> str:
    return " and ".join(f"{10**place:.2g}" for place in places)
