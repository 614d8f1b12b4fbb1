"""Draw training batches: random crops of the scenes, normalized on the model's device."""

# N scenes, B batch, C bands, H W pixels, S side of a crop

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import SeedSequence
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UnknownName
from .ahead import DeviceCopy, run_ahead, start_copy, wait_for_copy
from .augment import AUGMENTS
from .cache import Scenes
from .crop_plan import CropPlacer, crops_of_scenes, scenes_in_turn
from .dataset import IGNORE

DRAWS = 10  # attempts to find a crop with a labeled pixel


@dataclass(frozen=True, slots=True)
class Normalize:
    """Normalize native pixels for the model: (pixel - mean) / std, band by band."""

    mean_C11: Tensor
    std_C11: Tensor

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], *, device: torch.device) -> Normalize:
        """Store the statistics on a device; a constant band is only centered."""
        mean_C = torch.tensor(mean, dtype=torch.float32, device=device)
        std_C = torch.tensor([value or 1.0 for value in std], dtype=torch.float32, device=device)
        return cls(mean_C[:, None, None], std_C[:, None, None])

    def __call__(self, pixels: NDArray[Any] | Tensor, *, owned: bool = False) -> Tensor:
        """Return (..., C, H, W), float32, on the device of the statistics.

        Args:
            pixels: Pixels in their native type.
            owned: Whether a tensor's memory may be reused for the result.
        """
        device = self.mean_C11.device
        native = copy_pixels(pixels, device) if isinstance(pixels, np.ndarray) else pixels
        # The native type is transferred: 8 bits are a quarter of the bytes of float32.
        moved = native.to(device, non_blocking=True).to(torch.float32)
        if moved is pixels and not owned:
            moved = moved.clone()
        # In place: a new batch per operation would cost more than the arithmetic.
        return moved.sub_(self.mean_C11).div_(self.std_C11)


class _Gathered(NamedTuple):
    """Hold one batch in the files' native type."""

    image_BCHW: Tensor
    mask_BHW: Tensor
    sizes: list[tuple[int, int]]
    """Height and width of the scene within each crop; the rest is padding."""
    draws_BA: NDArray[np.float64]
    """Draws from [0, 1), one for each sample and augmentation."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Yield the training tiles of a split: random crops of each scene, one or several per epoch.

    A scene smaller than the crop is padded below and on the right: its image with the band mean,
    its mask with ignore.

    Attributes:
        scenes: Decoded split.
        crop: Side of a crop, pixels.
        normalize: Normalizes native pixels, and gives the model's device.
        augment: Names of `AUGMENTS`, in order of use.
        tile: Larger scenes give a tile of this side first, and the crop is drawn within it.
        replicate: Crops of each scene per epoch; None: as many as its labeled pixels fill, drawn
            evenly over these, and one of a small scene (see `crops_of_scenes`).
        redraws: Whether crops without a labeled pixel are drawn again, `DRAWS` times at most.
        foreground: Share of the crops that hold a class other than the most frequent, which one is
            drawn for each.

    Raises:
        UnknownName: An augmentation has an unknown name.
    """

    scenes: Scenes
    _: KW_ONLY
    crop: int
    normalize: Normalize
    augment: tuple[str, ...] = ()
    tile: int | None = None
    replicate: int | None = 1
    redraws: bool = True
    foreground: float = 0.0
    _scene_of: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _covered: NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    _placer: CropPlacer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        crops_N = crops_of_scenes(self.scenes.counts, crop=self.crop, replicate=self.replicate)
        covered_N = (np.array(crops_N) > 1) & (self.replicate is None)
        object.__setattr__(self, "_scene_of", scenes_in_turn(crops_N))
        object.__setattr__(self, "_covered", covered_N)
        object.__setattr__(self, "_placer", CropPlacer(self.scenes, crop=self.crop))
        for name in self.augment:
            if name not in AUGMENTS:
                raise UnknownName(name, valid=AUGMENTS, what="augmentation")

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches in an epoch: only full ones, or a smaller one if none is."""
        return max(len(self._scene_of) // batch_size, 1)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch; order, crops and flips depend only on (seed, epoch).

        Args:
            batch_size: B. Affects neither a scene's crop nor its flips.
            seed: Seed of the training, not negative.
            epoch: Counted from 1.
            device: Device of the batches, that of `normalize`.

        Yields:
            Images (B, C, S, S), float32, normalized; masks (B, S, S), int64, 255 where ignored.
        """
        on_gpu = device.type == "cuda"
        gathers = self._gathers(batch_size, seed=seed, epoch=epoch, pinned=on_gpu)
        if on_gpu:
            # A copy is given up when it has become a batch, so that no other memory is held.
            yield from map(self._finish_copied, run_ahead(gathers, partial(_start, device=device)))
        else:
            yield from (self._finished(gather()) for gather in gathers)

    def _gathers(
        self, batch_size: int, *, seed: int, epoch: int, pinned: bool
    ) -> Iterator[Callable[[], _Gathered]]:
        """Yield what gathers each batch. Each crop has its own seed, whatever its batch."""
        total = len(self._scene_of)
        order = np.random.default_rng(SeedSequence([seed, epoch])).permutation(total)
        for number in range(self.num_batches(batch_size)):
            chosen = [int(i) for i in order[number * batch_size :][:batch_size]]
            seeds = (SeedSequence([seed, epoch], spawn_key=(i,)) for i in chosen)
            scenes = self._scene_of[chosen].tolist()
            rngs = [np.random.default_rng(seed) for seed in seeds]
            yield partial(self._gather, scenes, rngs, pinned=pinned)

    def _gather(
        self, chosen: list[int], rngs: list[np.random.Generator], *, pinned: bool
    ) -> _Gathered:
        """Return crops in their native type, in pinned memory for a GPU.

        From there a GPU copies while the CPU continues, and torch uses the memory again.
        """
        shape = (len(chosen), self.crop, self.crop)
        # Not filled: padding is set after normalization.
        image = _empty((shape[0], self.scenes.num_bands, *shape[1:]), self.scenes.dtype, pinned)
        mask = _empty(shape, np.dtype(np.uint8), pinned)
        image_BCHW, mask_BHW = image.numpy(), mask.numpy()
        mask_BHW.fill(IGNORE)
        sizes = []
        for sample, (scene, rng) in enumerate(zip(chosen, rngs, strict=True)):
            place = self._place(scene, rng)
            mask_HW = self.scenes.mask(scene)[place]
            height, width = mask_HW.shape
            image_BCHW[sample, :, :height, :width] = self.scenes.image(scene)[:, *place]
            mask_BHW[sample, :height, :width] = mask_HW
            sizes.append((height, width))
        draws_BA = np.array([rng.random(len(self.augment)) for rng in rngs])
        return _Gathered(image, mask, sizes, draws_BA)

    def _place(self, scene: int, rng: np.random.Generator) -> tuple[slice, slice]:
        """Draw the position of a crop in a scene."""
        rare = None
        if self.foreground and rng.random() < self.foreground:
            rare = self._placer.rare_class(scene, rng)
        if rare is not None or self._covered[scene]:
            return self._placer.place(scene, rng, of=rare)
        mask_HW = self.scenes.mask(scene)
        for _ in range(DRAWS if self.redraws else 1):
            top, left = (self._start(side, rng) for side in mask_HW.shape)
            place = np.s_[top : top + self.crop, left : left + self.crop]
            if (mask_HW[place] != IGNORE).any():
                break
        return place

    def _start(self, side: int, rng: np.random.Generator) -> int:
        first = 0
        if self.tile is not None and side > self.tile:
            first = int(rng.integers(side - self.tile + 1))
            side = self.tile
        return first + int(rng.integers(max(side - self.crop, 0) + 1))

    def _finish_copied(self, copied: tuple[_Gathered, DeviceCopy]) -> tuple[Tensor, Tensor]:
        batch, copy = copied
        image_BCHW, mask_BHW = wait_for_copy(copy)
        return self._finished(batch._replace(image_BCHW=image_BCHW, mask_BHW=mask_BHW))

    def _finished(self, batch: _Gathered) -> tuple[Tensor, Tensor]:
        """Normalize and augment a batch where its tensors are."""
        x_BCHW, y_BHW = self.normalize(batch.image_BCHW, owned=True), batch.mask_BHW
        samples = []
        for x_CHW, y_HW, (height, width), draws in zip(
            x_BCHW, y_BHW, batch.sizes, batch.draws_BA, strict=True
        ):
            x_CHW[:, height:] = 0  # normalized, 0 is the band mean
            x_CHW[:, :, width:] = 0
            sample = (x_CHW, y_HW)
            for name, draw in zip(self.augment, draws, strict=True):
                sample = AUGMENTS[name](*sample, draw)
            samples.append(sample)
        if self.augment:
            x_BCHW, y_BHW = (torch.stack(arrays) for arrays in zip(*samples, strict=True))
        return x_BCHW, y_BHW.long()


def _start(batch: _Gathered, device: torch.device) -> tuple[_Gathered, DeviceCopy]:
    """Start to copy a batch to a GPU."""
    return batch, start_copy(batch.image_BCHW, batch.mask_BHW, device=device)


def copy_pixels(pixels: NDArray[Any], device: torch.device) -> Tensor:
    """Return a writable copy of pixels, in pinned memory for a GPU: it waits for any other."""
    copied = _empty(pixels.shape, pixels.dtype, device.type == "cuda")
    copied.numpy()[...] = pixels
    return copied


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], pinned: bool) -> Tensor:  # noqa: FBT001
    """Return a tensor without values, of a numpy type."""
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=kind, pin_memory=pinned)
