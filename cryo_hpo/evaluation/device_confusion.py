"""Count a confusion matrix on the device of the logits, so that no map travels to the host."""

# S scenes of one size, K classes, H W pixels, T truth, P prediction

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.dataset import IGNORE


class Counted(NamedTuple):
    """Hold what was counted, on the host."""

    confusion_TP: NDArray[np.int64]
    """Pixels, (K, K): rows truth, columns prediction."""
    lost: int
    """Pixels whose logits are not a number, wherever they lie."""
    strangers: int
    """Mask pixels that are no class and not ignored."""


class DeviceConfusion:
    """Add up the confusion matrices of logits that come row by row; nothing waits for a GPU.

    All counts are integers, so that the sum is exact and the same on every device.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._classes_K1 = torch.arange(num_classes, device=device, dtype=torch.uint8)[:, None]
        self._confusion_TP = torch.zeros(
            (num_classes, num_classes), dtype=torch.int64, device=device
        )
        self._faults_2 = torch.zeros(2, dtype=torch.int64, device=device)

    def add(self, logits_SKHW: Tensor, truth_SHW: Tensor) -> None:
        """Count pixels.

        Args:
            logits_SKHW: Logits, on the device.
            truth_SHW: Mask of the same pixels, uint8, on the device.
        """
        lost = logits_SKHW.isnan().any(dim=1).flatten()  # argmax would take them for a class
        predicted = (
            logits_SKHW.argmax(dim=1)
            .to(torch.uint8)
            .masked_fill(lost.view(truth_SHW.shape), IGNORE)
        )
        truth = truth_SHW.flatten()
        chosen_KN = predicted.flatten() == self._classes_K1
        rows = [((truth == label) & chosen_KN).sum(dim=1) for label in self._classes_K1]
        self._confusion_TP += torch.stack(rows)
        strange = (truth >= len(self._classes_K1)) & (truth != IGNORE)
        self._faults_2 += torch.stack([lost.sum(), strange.sum()])

    def read(self) -> Counted:
        """Return the counts; waits for the device once."""
        counts = torch.cat([self._confusion_TP.flatten(), self._faults_2]).cpu().numpy()
        *_, lost, strangers = counts
        confusion_TP = counts[:-2].reshape(self._confusion_TP.shape)
        return Counted(confusion_TP, int(lost), int(strangers))
