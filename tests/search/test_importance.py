from __future__ import annotations

import math

import numpy as np
import pytest

from cryo_hpo.config.space import Choice, Float, SearchSpace
from cryo_hpo.search.importance import importance
from cryo_hpo.search.trials import Record

SPACE = SearchSpace(
    params={
        "optim.lr": Float(low=1e-5, high=1e-1, log=True),
        "loss.name": Choice(values=("ce", "dice")),
    }
)


def records(num: int, *, names: tuple[str, ...] = ("optim.lr", "loss.name")) -> list[Record]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(num):
        lr = float(10 ** rng.uniform(-5, -1))
        drawn = {"optim.lr": lr, "loss.name": ("ce", "dice")[int(rng.integers(2))]}
        score = 0.9 - 0.2 * abs(math.log10(lr) + 3)
        whole = number % 3 == 0
        found.append(
            Record(
                number=number,
                params={n: drawn[n] for n in names},
                drawn={n: drawn[n] for n in names},
                state="complete" if whole else "pruned",
                curve=dict.fromkeys(range(1, 10 if whole else 2), score),
            )
        )
    return found


def test_what_decides_is_the_most_important() -> None:
    found = importance(records(30), SPACE.suggest)
    assert list(found) == ["optim.lr", "loss.name"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["optim.lr"] > 0.8
    assert importance(records(30), SPACE.suggest) == found


def test_too_little_says_nothing() -> None:
    one = SearchSpace(params={"optim.lr": SPACE.params["optim.lr"]})
    assert importance(records(7), SPACE.suggest) == {}
    assert importance([], SPACE.suggest) == {}
    assert importance(records(30, names=("optim.lr",)), one.suggest) == {}
