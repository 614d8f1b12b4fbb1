"""Fill a named baseline with a good default: the mean of the learning rates that were best elsewhere.

Only recorded problems with other data than the study's own count, so the default has not seen what it
is compared on.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from ..config.frozen import Frozen
from ..config.optim import ADAMW
from ..config.space import Value
from ..errors import SpecError, concerning
from .portfolio import FEWEST, RATE, alike, portfolio_of, problem_of

if TYPE_CHECKING:
    from ..config import Study


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
    rate = statistics.geometric_mean(float(lesson.best[RATE]) for lesson in lessons)
    problems = dict.fromkeys(lesson.problem for lesson in lessons)
    return Calibrated(values={RATE: float(f"{rate:.3g}")}, problems=tuple(problems))


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
