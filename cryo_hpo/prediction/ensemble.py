"""Map with several trainings of one recipe together: the mean of their probabilities, and its spread."""

# B batch, C channels, H W pixels, K classes, M members

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config import Site
from ..errors import DataError
from ..results.study import load_result
from ..training.scoring import WINDOWS_PER_PASS
from .model import Model, ModelCard, Rows, arm_of, open_model
from .winner import opens_winner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models import Segmenter

log = logging.getLogger(__name__)

# The identity and the mirrors of a window, as the axes to flip.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Hold trained models that map together.

    Averaging the class probabilities of trainings that differ by their seed is a deep ensemble
    (Lakshminarayanan et al. 2017, arXiv 1612.01474).

    Attributes:
        members: The models; the first is the best on validation, and its card describes them all.
    """

    members: tuple[Model, ...]

    @property
    def card(self) -> ModelCard:
        """Card of the member with the best validation score."""
        return self.members[0].card

    def predict_members(
        self,
        rows: Rows,
        *,
        length_hw: tuple[int, int],
        batch: int = WINDOWS_PER_PASS,
        advance: Callable[[int], object] = lambda _windows: None,
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, probabilities (M, K, rows, W)) of a scene, from top to bottom.

        Args:
            rows: (top, bottom) -> those rows of the scene, (C, bottom - top, W); each range is
                requested once per member.
            length_hw: Height and width of the scene, pixels.
            batch: Windows per forward pass; fewer where memory is too small.
            advance: Called with the number of windows of each forward pass of a member.

        Raises:
            OutOfMemory: One window at a time does not fit.
        """
        parts = [
            member.predict_rows(rows, length_hw=length_hw, batch=batch, advance=advance)
            for member in self.members
        ]
        for blocks in zip(*parts, strict=True):
            (top,) = {top for top, _ in blocks}  # members have the same windows
            yield top, np.stack([part_KHW for _, part_KHW in blocks])

    def probabilities(self, image_CHW: NDArray[Any]) -> NDArray[np.float32]:
        """Return the mean probability of each class at every pixel, (K, H, W).

        Args:
            image_CHW: Bands as in the card, in the files' units; at least one pixel.

        Raises:
            DataError: The image has another number of bands.
        """
        mean_KHW: NDArray[np.float32] = np.mean(
            [member.probabilities(image_CHW) for member in self.members], axis=0
        )
        return mean_KHW

    def predict(self, image_CHW: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class of every pixel, (H, W); see `probabilities`."""
        classes_HW: NDArray[np.uint8] = self.probabilities(image_CHW).argmax(0).astype(np.uint8)
        return classes_HW


def open_ensemble(
    study: Path | str, *, arm: str | None = None, site: Site | None = None, device: str = "cpu"
) -> Ensemble:
    """Return every complete training of one arm of a finished study, as one ensemble.

    Trainings that diverged, and those whose weights are gone, are left out and logged. Neither
    depends on the test split. Before a study has finished, the model of its search's winner.

    Args:
        study: A finished study: its folder or its result.json.
        arm: "tuned", "baseline" or a named baseline; None: the winner.
        site: Folders of data and weights; None: from the environment.
        device: Device to compute on, in torch's names.

    Raises:
        CryoError: The study has no such arm, or no training of it can be used.
    """
    site = site or Site.from_env(os.environ)
    if opens_winner(Path(study), arm):
        return Ensemble((open_model(study, arm=arm, site=site, device=device),))
    chosen = arm_of(load_result(Path(study)), arm)
    members: list[Model] = []
    lost: list[DataError] = []
    for training in sorted(chosen.seeds, key=lambda seed: -seed.selection):
        if training.diverged:
            log.warning("Left out: %s, seed %d, which diverged.", chosen.name, training.seed)
            continue
        try:
            model = open_model(study, arm=chosen.name, seed=training.seed, site=site, device=device)
        except DataError as error:
            lost.append(error)
            continue
        members.append(model)
    if not members and len({str(error) for error in lost}) == 1:
        raise lost[0]  # one cause for all, such as a missing dataset, is no matter of weights
    for each in lost:
        log.warning("Left out: %s", each)
    if not members:
        message = (
            f"No training of arm '{chosen.name}' can be used: all diverged, or their weights are "
            "gone. Choose another --arm, or run the study again."
        )
        raise DataError(message)
    return Ensemble(tuple(members))


def with_flips(model: Model) -> Model:
    """Return a model that averages each window over its four mirror images."""
    return replace(model, segmenter=cast("Segmenter", _Flipped(model.segmenter).eval()))


def entropy(probs_KHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy of each pixel's probabilities over log K: 0 certain, 1 even, (H, W)."""
    safe_KHW = np.clip(probs_KHW, 1e-12, 1.0)
    sum_HW = -(safe_KHW * np.log(safe_KHW)).sum(axis=0)
    entropy_HW: NDArray[np.float32] = sum_HW / np.float32(np.log(max(len(probs_KHW), 2)))
    return entropy_HW


def spread(probs_MKHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation, over members, of the predicted class's probability, (H, W)."""
    chosen_HW = probs_MKHW.mean(axis=0).argmax(axis=0)
    of_class_MHW = np.take_along_axis(probs_MKHW, chosen_HW[None, None], axis=1)[:, 0]
    spread_HW: NDArray[np.float32] = of_class_MHW.std(axis=0)
    return spread_HW


class _Flipped(nn.Module):
    """Average the probabilities of an image and of its mirror images."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities, (B, K, H, W), which serve as logits."""
        mean_BKHW = torch.zeros(())
        for axes in FLIPS:
            logits_BKHW: Tensor = self.segmenter(x_BCHW.flip(axes)).flip(axes)
            mean_BKHW = mean_BKHW.to(logits_BKHW) + logits_BKHW.softmax(dim=1)
        return (mean_BKHW / len(FLIPS)).log()
