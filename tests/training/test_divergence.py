from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from cryo_hpo.errors import Diverged
from cryo_hpo.results.lr_response import divergence_edge
from cryo_hpo.results.study import TrialResult
from cryo_hpo.training.divergence import FACTOR, STEPS, DivergenceMonitor
from cryo_hpo.training.losses import LOSSES, even_guess, make_loss

from ..support.results import a_trial

GUESS = math.log(2)
HIGH = 1.01 * FACTOR * GUESS


def _monitor() -> DivergenceMonitor:
    return DivergenceMonitor(GUESS, steps=5, what="lr 1")


def _see(monitor: DivergenceMonitor, losses: list[float], start: int = 0) -> None:
    for position, loss in enumerate(losses, start=start):
        monitor.check_loss(loss, position)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_ends_a_training_at_that_step(loss):
    with pytest.raises(Diverged, match=r"Loss became .* at epoch 2, step 3 \(lr 1\)"):
        _see(_monitor(), [*[0.5] * 7, loss])
    with pytest.raises(Diverged, match=r"Gradient norm became .* at epoch 1, step 1 \(lr 1\)"):
        _monitor().check_gradient(loss, 0)


def test_a_loss_that_stays_high_ends_a_training_at_that_step():
    losses = [0.5] * 3 + [HIGH] * STEPS
    with pytest.raises(Diverged, match=r"exploded: 10 steps in a row.*at epoch 3, step 3 \(lr 1\)"):
        _see(_monitor(), losses)
    _see(_monitor(), losses[:-1])


def test_a_loss_that_comes_down_again_ends_nothing():
    _see(_monitor(), ([HIGH] * (STEPS - 1) + [0.99 * FACTOR * GUESS]) * 5)


def test_the_row_goes_on_after_a_checkpoint():
    first, second = _monitor(), _monitor()
    _see(first, [HIGH] * 6)
    second.streak = first.streak
    with pytest.raises(Diverged):
        _see(second, [HIGH] * (STEPS - 6), start=6)


@pytest.mark.parametrize(("name", "classes"), list(itertools.product(sorted(LOSSES), [2, 7])))
def test_an_even_guess_costs_what_it_says(name, classes):
    chance = torch.Generator().manual_seed(0)
    y_BHW = torch.randint(0, classes, (2, 16, 16), generator=chance)
    weights = torch.rand(classes, generator=chance) if name == "weighted_ce" else None
    loss = make_loss(name, num_classes=classes, class_weights=weights)
    even = float(loss(torch.zeros(2, classes, 16, 16), y_BHW))
    said = even_guess(name, num_classes=classes)
    if "dice" in name:  # its value depends on the mask; 1 is the most it can be
        assert even <= said <= even + 1
    else:
        assert said == pytest.approx(even, rel=1e-5)


def _trials(*facts: tuple[float, str]) -> list[TrialResult]:
    return [a_trial(4, number=n, lr=lr, state=state) for n, (lr, state) in enumerate(facts)]


def test_the_edge_is_the_lowest_diverged_rate_above_the_winner():
    facts = [(1e-4, "complete"), (1e-3, "complete"), (0.1, "diverged"), (0.03, "diverged")]
    below = (1e-5, "diverged")  # of another parameter's doing
    assert divergence_edge(_trials(*facts, below), 1) == 0.03
    assert divergence_edge(_trials(*facts[:2], below), 1) is None
    assert divergence_edge(_trials(*facts), None) is None


def test_a_huge_rate_explodes_in_a_real_training(tmp_path: Path):
    from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
    from cryo_hpo.training.loop import fit

    from ..support.fakes import fake_folder

    torch.set_num_threads(1)
    places = {f"CRYO_{name}": str(tmp_path / name.lower()) for name in ("DATA", "STORAGE", "CACHE")}
    site = Site.from_env(places)
    recipe = Recipe(
        data=DataSpec(card=fake_folder(site.data, num=(4, 1, 1), size=(16, 16)), crop=16),
        model=ModelSpec(encoder="unet", decoder="unet", width=4),
        optim=OptimSpec(lr=1e3, schedule="constant", weight_decay=0.0),
        batch_size=1,
        epochs=10,
    )
    with pytest.raises(Diverged, match=r"exploded.*now \d"):
        list(fit(recipe, site=site, workdir=tmp_path / "run", device=torch.device("cpu")))
