"""Losses: parity with plain references, and what must hold for any batch."""

# B batch, K classes, H W pixels, N valid pixels

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cryo_hpo.errors import SpecError, UnknownName
from cryo_hpo.training.losses import LOSSES, Loss, inverse_frequency, make_loss

IGNORE = 255
WEIGHTS = torch.tensor([0.5, 1.0, 1.5])
each_loss = pytest.mark.parametrize("name", LOSSES)


def _make(name: str, focal_gamma: float = 2.0) -> Loss:
    weights = WEIGHTS if name == "weighted_ce" else None
    return make_loss(name, num_classes=3, class_weights=weights, focal_gamma=focal_gamma)


def _batch(seed: int, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (2, 3, 5, 4)).astype(np.float32))
    target = rng.integers(0, 3, (2, 5, 4))
    target[rng.random(target.shape) < ignored] = IGNORE
    return logits.requires_grad_(), torch.from_numpy(target)


def _gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, logits)
    return gradient


@each_loss
def test_a_batch_without_labels_is_zero_and_moves_nothing(name: str) -> None:
    logits, target = _batch(0, ignored=1.1)
    loss = _make(name)(logits, target)
    assert loss == 0
    assert not _gradient(loss, logits).any()


@each_loss
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), ignored=st.sampled_from([0.0, 0.3, 0.9]))
def test_any_batch_has_a_finite_loss_of_at_least_zero_and_a_finite_gradient(
    name: str, seed: int, ignored: float
) -> None:
    logits, target = _batch(seed, ignored)
    loss = _make(name)(logits, target)
    assert loss >= 0
    assert torch.isfinite(loss)
    assert torch.isfinite(_gradient(loss, logits)).all()


@each_loss
def test_ignored_pixels_have_no_say(name: str) -> None:
    logits, target = _batch(1)
    changed = torch.where((target == IGNORE)[:, None], torch.tensor(50.0), logits.detach())
    loss = _make(name)
    torch.testing.assert_close(loss(changed, target), loss(logits, target))
    gradient = _gradient(loss(logits, target), logits)
    assert not gradient.movedim(1, -1)[target == IGNORE].any()


@each_loss
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_pixels_does_not_matter(name: str, seed: int) -> None:
    logits, target = _batch(seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    mixed = logits.flatten(2)[:, :, order].reshape(logits.shape)
    loss = _make(name)
    torch.testing.assert_close(
        loss(mixed, target.flatten(1)[:, order].reshape(target.shape)), loss(logits, target)
    )


@each_loss
def test_a_sure_and_right_prediction_costs_nothing_and_a_wrong_one_much(name: str) -> None:
    target = torch.tensor([[[0, 1], [2, IGNORE]]])
    right = 40 * F.one_hot(target.clamp(max=2), 3).movedim(-1, 1).float()
    loss = _make(name)
    assert loss(right, target) < 1e-4
    assert loss(right.roll(1, dims=1), target) > 0.9


@each_loss
def test_saturated_logits_keep_the_gradient_finite(name: str) -> None:
    target = torch.tensor([[[0, 1], [2, IGNORE]]])
    logits = (1e4 * F.one_hot(target.clamp(max=2), 3).movedim(-1, 1).float()).requires_grad_()
    loss = _make(name, focal_gamma=0.5)(logits, target)
    assert torch.isfinite(_gradient(loss, logits)).all()


@each_loss
def test_it_computes_in_float32_for_any_kind_of_input(name: str) -> None:
    logits, target = _batch(2)
    loss = _make(name)(logits.detach().bfloat16(), target.to(torch.uint8))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, _make(name)(logits.detach().bfloat16().float(), target))


def test_cross_entropy_is_that_of_sklearn() -> None:
    logits, target = _batch(3)
    keep = target != IGNORE
    scores = logits.detach().movedim(1, -1)[keep].double().softmax(dim=1).numpy()
    expected = log_loss(target[keep].numpy(), scores, labels=[0, 1, 2])
    assert _make("ce")(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    logits, target = _batch(4)
    expected = F.cross_entropy(logits, target, weight=WEIGHTS, ignore_index=IGNORE)
    torch.testing.assert_close(_make("weighted_ce")(logits, target), expected)


class _Sums(TorchDispatchMode):
    """Count cross-entropies that torch sums itself, which a GPU does in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nll_loss2d_forward.default:
            self.count += args[3] != 0  # the reduction, 0 for none
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", ["ce", "weighted_ce", "ce+dice"])
def test_where_every_bit_must_repeat_pixels_are_added_in_order(name: str) -> None:
    logits, target = _batch(5)
    fast = _make(name)(logits, target)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with _Sums() as sums:
            repeated = _make(name)(logits, target)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert sums.count == 0
    torch.testing.assert_close(repeated, fast)
    torch.testing.assert_close(_gradient(repeated, logits), _gradient(fast, logits))


def test_focal_without_exponent_is_cross_entropy() -> None:
    logits, target = _batch(5)
    torch.testing.assert_close(
        _make("focal", focal_gamma=0.0)(logits, target), _make("ce")(logits, target)
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_is_the_formula_of_its_paper(gamma: float) -> None:
    logits, target = _batch(6)
    keep = target != IGNORE
    scores = logits.detach().movedim(1, -1)[keep].softmax(dim=1).double()
    p = scores.gather(1, target[keep][:, None])[:, 0]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    loss = _make("focal", focal_gamma=gamma)(logits, target)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_dice_of_hard_predictions_is_one_minus_the_f1_score() -> None:
    logits, target = _batch(7)
    hard = 1000 * F.one_hot(logits.argmax(dim=1), 3).movedim(-1, 1).float()
    keep = target != IGNORE
    expected = f1_score(target[keep], logits.argmax(dim=1)[keep], average="macro")
    assert _make("dice")(hard, target).item() == pytest.approx(1 - expected, abs=1e-5)


def test_dice_leaves_out_classes_that_the_target_lacks() -> None:
    logits, target = _batch(8, ignored=0.0)
    target = target.clamp(max=1)
    scores = logits.softmax(dim=1).movedim(1, -1).flatten(0, -2)
    truth = F.one_hot(target.flatten(), 3)
    each = 1 - 2 * (scores * truth).sum(0) / (scores.sum(0) + truth.sum(0))
    torch.testing.assert_close(_make("dice")(logits, target), each[:2].mean())


def test_the_sum_is_a_sum() -> None:
    logits, target = _batch(9)
    parts = _make("ce")(logits, target) + _make("dice")(logits, target)
    torch.testing.assert_close(_make("ce+dice")(logits, target), parts)


@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any))
def test_weights_are_one_over_frequency_with_mean_one(counts: list[int]) -> None:
    weights = inverse_frequency(counts)
    present = torch.tensor(counts) > 0
    assert weights[present].mean().item() == pytest.approx(1, rel=1e-5)
    assert (weights[~present] == 0).all()
    shares = weights[present] * torch.tensor(counts)[present]
    torch.testing.assert_close(shares, shares[:1].expand_as(shares))


@pytest.mark.parametrize("weights", [None, torch.ones(2)])
def test_weighted_cross_entropy_wants_one_weight_per_class(weights: Tensor | None) -> None:
    with pytest.raises(SpecError, match="one weight for each of 3 classes"):
        make_loss("weighted_ce", num_classes=3, class_weights=weights)


def test_counts_without_a_pixel_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one labeled pixel"):
        inverse_frequency([0, 0])


def test_an_unknown_loss_is_told_what_is_near() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'focal'\?"):
        make_loss("focl", num_classes=2)
