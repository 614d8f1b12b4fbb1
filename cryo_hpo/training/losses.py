"""Compute losses over logits and a mask, by name; ignored pixels never count."""

# B batch, K classes, H W pixels

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.dataset import IGNORE
from ..errors import SpecError, UnknownName

Loss = Callable[[Tensor, Tensor], Tensor]
TINY = 1e-6  # keeps quotients and powers differentiable at 0


def cross_entropy(logits_BKHW: Tensor, target_BHW: Tensor, *, ignore: int) -> Tensor:
    """Return the mean cross-entropy over valid pixels; 0 if there is none."""
    total = _sum_of_entropies(logits_BKHW, target_BHW, ignore=ignore)
    return total / (target_BHW != ignore).sum().clamp(min=1)


def weighted_cross_entropy(
    logits_BKHW: Tensor, target_BHW: Tensor, *, ignore: int, class_weights: Tensor
) -> Tensor:
    """Return the mean cross-entropy over valid pixels, weighted by class."""
    weights = class_weights.to(logits_BKHW)
    total = _sum_of_entropies(logits_BKHW, target_BHW, ignore=ignore, weights_K=weights)
    return total / _weighed(target_BHW, weights, ignore=ignore).clamp(min=TINY)


def _sum_of_entropies(
    logits_BKHW: Tensor, target_BHW: Tensor, *, ignore: int, weights_K: Tensor | None = None
) -> Tensor:
    """Return the sum of the cross-entropies of the valid pixels.

    On a GPU, torch's own sum adds the pixels in any order, and is refused where every bit must
    repeat; that of a tensor has an order.
    """
    repeats = torch.are_deterministic_algorithms_enabled()
    return F.cross_entropy(
        logits_BKHW,
        target_BHW,
        weight=weights_K,
        ignore_index=ignore,
        reduction="none" if repeats else "sum",
    ).sum()


def dice(logits_BKHW: Tensor, target_BHW: Tensor, *, ignore: int) -> Tensor:
    """Return one minus the soft Dice score, averaged over the classes present in the target.

    Sums run over all valid pixels of the batch, so a class need not be in every tile.

    Source:
        Milletari et al. 2016, arXiv:1606.04797, with p instead of p squared in the denominator.
    """
    keep_BHW, class_B1HW = _valid(target_BHW, ignore=ignore)
    keep_B1HW = keep_BHW[:, None].to(logits_BKHW)
    probability_BKHW = logits_BKHW.softmax(dim=1) * keep_B1HW
    truth_BKHW = torch.zeros_like(probability_BKHW).scatter(1, class_B1HW, keep_B1HW)
    over = (0, 2, 3)
    truth_K = truth_BKHW.sum(dim=over)
    overlap_K = 2 * (probability_BKHW * truth_BKHW).sum(dim=over)
    score_K = overlap_K / (probability_BKHW.sum(dim=over) + truth_K).clamp(min=TINY)
    present_K = (truth_K > 0).to(score_K)
    return ((1 - score_K) * present_K).sum() / present_K.sum().clamp(min=1)


def focal(logits_BKHW: Tensor, target_BHW: Tensor, *, ignore: int, gamma: float) -> Tensor:
    """Return the mean over valid pixels of -(1 - p)^gamma log p, p that of the true class.

    Source:
        Lin et al. 2017, arXiv:1708.02002, equation 4.
    """
    keep_BHW, class_B1HW = _valid(target_BHW, ignore=ignore)
    log_p_BHW = logits_BKHW.log_softmax(dim=1).gather(1, class_B1HW)[:, 0]
    miss_BHW = (1 - log_p_BHW.exp()).clamp(min=TINY)
    total = torch.where(keep_BHW, miss_BHW**gamma * log_p_BHW, 0).sum()
    return -total / keep_BHW.sum().clamp(min=1)


def cross_entropy_and_dice(logits_BKHW: Tensor, target_BHW: Tensor, *, ignore: int) -> Tensor:
    """Return the sum of cross-entropy and Dice loss."""
    return cross_entropy(logits_BKHW, target_BHW, ignore=ignore) + dice(
        logits_BKHW, target_BHW, ignore=ignore
    )


LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "weighted_ce": weighted_cross_entropy,
    "dice": dice,
    "focal": focal,
    "ce+dice": cross_entropy_and_dice,
}


def make_loss(
    name: str,
    *,
    num_classes: int,
    focal_gamma: float = 2.0,
    class_weights: Tensor | None = None,
) -> Loss:
    """Return a loss of the table as a function of logits and target.

    The loss is computed in float32 whatever the precision of the logits, and is 0 with zero
    gradient where every pixel is ignored.

    Args:
        name: Key of `LOSSES`.
        num_classes: K; the target holds 0..K-1, and `IGNORE` where there is no label.
        focal_gamma: Exponent of "focal"; 0 makes it the cross-entropy.
        class_weights: (K,), for "weighted_ce" only; see `inverse_frequency`.

    Raises:
        UnknownName: The table has no such loss.
        SpecError: "weighted_ce" does not have one weight per class.
    """
    if name not in LOSSES:
        raise UnknownName(name, LOSSES, what="loss")
    loss = partial(LOSSES[name], ignore=IGNORE)
    if name == "focal":
        loss = partial(loss, gamma=focal_gamma)
    if name == "weighted_ce":
        if class_weights is None or class_weights.shape != (num_classes,):
            shape = None if class_weights is None else tuple(class_weights.shape)
            message = (
                f"Loss 'weighted_ce' needs one weight for each of {num_classes} classes, "
                f"got shape {shape}. Count the training pixels and use inverse_frequency."
            )
            raise SpecError(message)
        loss = partial(loss, class_weights=class_weights)
    return lambda logits_BKHW, target_BHW: loss(logits_BKHW.float(), target_BHW.long())


def make_weight(name: str, *, class_weights: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Return a function from the target (B, H, W) to the weight of a loss over these pixels.

    The loss of a batch is the mean of its micro-batches' losses with these weights: exactly for the
    losses that are means over pixels; only approximately for "dice", which is not.
    """
    if name == "weighted_ce":
        assert class_weights is not None, "make_loss asks for them"
        weights_K = class_weights.float()
        return lambda target_BHW: _weighed(target_BHW.long(), weights_K, ignore=IGNORE)
    return lambda target_BHW: (target_BHW != IGNORE).sum().float()


def even_guess(name: str, *, num_classes: int, focal_gamma: float = 2.0) -> float:
    """Return the loss of equal probabilities for all classes; for Dice the largest possible loss."""
    entropy = math.log(num_classes)
    guesses: dict[str, float] = {
        "ce": entropy,
        "weighted_ce": entropy,
        "focal": (1 - 1 / num_classes) ** focal_gamma * entropy,
        "dice": 1.0,
        "ce+dice": entropy + 1.0,
    }
    return guesses[name]


def inverse_frequency(counts: Sequence[int] | Tensor) -> Tensor:
    """Return weights proportional to one over the frequency of each class, with mean 1.

    A class without pixels gets the weight 0 and is left out of the mean: no target holds it.

    Args:
        counts: Training pixels of each class, (K,).

    Raises:
        SpecError: No class has a pixel.
    """
    counts_K = torch.as_tensor(counts, dtype=torch.float64)
    present_K = counts_K > 0
    if not present_K.any():
        message = "Class weights need at least one labeled pixel, got 0 in every class."
        raise SpecError(message)
    weights_K = torch.where(present_K, 1 / counts_K.clamp(min=1), 0)
    return (weights_K / weights_K[present_K].mean()).float()


def _valid(target_BHW: Tensor, *, ignore: int) -> tuple[Tensor, Tensor]:
    """Return the mask of valid pixels, (B, H, W), and their classes, (B, 1, H, W), 0 elsewhere.

    Multiply with the mask, do not index by it: the host would wait for the GPU to count its pixels.
    """
    keep_BHW = target_BHW != ignore
    return keep_BHW, torch.where(keep_BHW, target_BHW, 0)[:, None]


def _weighed(target_BHW: Tensor, weights_K: Tensor, *, ignore: int) -> Tensor:
    """Return the sum of the class weights of the valid pixels."""
    keep_BHW, class_B1HW = _valid(target_BHW, ignore=ignore)
    return (weights_K[class_B1HW[:, 0]] * keep_BHW).sum()
