"""Augment a sample by flips and rotations, image and mask together."""

# C bands, H W pixels (H = W for turns)

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Sample = tuple[Tensor, Tensor]
Augment = Callable[[Tensor, Tensor, float], Sample]


def hflip(x_CHW: Tensor, y_HW: Tensor, draw: float) -> Sample:
    """Mirror left and right if `draw` in [0, 1) is below a half."""
    return (x_CHW.flip(-1), y_HW.flip(-1)) if draw < 0.5 else (x_CHW, y_HW)


def vflip(x_CHW: Tensor, y_HW: Tensor, draw: float) -> Sample:
    """Mirror top and bottom if `draw` in [0, 1) is below a half."""
    return (x_CHW.flip(-2), y_HW.flip(-2)) if draw < 0.5 else (x_CHW, y_HW)


def rot90(x_CHW: Tensor, y_HW: Tensor, draw: float) -> Sample:
    """Rotate anticlockwise by 0, 90, 180 or 270 degrees; `draw` in [0, 1) selects which."""
    quarters = int(4 * draw)
    if not quarters:
        return x_CHW, y_HW
    return x_CHW.rot90(quarters, (-2, -1)), y_HW.rot90(quarters, (-2, -1))


AUGMENTS: dict[str, Augment] = {"hflip": hflip, "vflip": vflip, "rot90": rot90}
"""Augmentations by their recipe names; the caller draws, so results do not depend on the device."""
