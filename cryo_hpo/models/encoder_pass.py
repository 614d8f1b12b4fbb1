"""Pass each batch through a frozen encoder once, for all models that share it."""

# B batch, C bands, H W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

Levels = Sequence[Tensor]


class EncoderPass:
    """Keep what a frozen encoder made of the latest batch, until another batch comes.

    A batch is the same where it is the same memory, unchanged since; so micro-batches, which are parts
    of it, are kept too. The encoder must be in evaluation mode, and the same for all models.
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def __call__(self, x_BCHW: Tensor, encode: Callable[[Tensor], Levels]) -> Levels:
        """Return the levels of a batch; the encoder runs if they are not kept, or were changed.

        Args:
            x_BCHW: Batch, or a part of it.
            encode: Runs the encoder.
        """
        if self._kept and not _share_memory(self._kept[0].x_BCHW, x_BCHW):
            self.clear()
        for kept in self._kept:
            if kept.holds(x_BCHW):
                return list(kept.levels)
        self._kept = [kept for kept in self._kept if not _is_same_view(kept.x_BCHW, x_BCHW)]
        made = _Kept.of(x_BCHW, encode(x_BCHW))
        self._kept.append(made)
        return list(made.levels)

    def clear(self) -> None:
        """Free what is kept."""
        self._kept = []


class _Kept(NamedTuple):
    """Hold a batch and its levels, with the versions that torch counts of changes in place."""

    x_BCHW: Tensor
    levels: tuple[Tensor, ...]
    versions: tuple[int, ...]

    @classmethod
    def of(cls, x_BCHW: Tensor, levels: Levels) -> _Kept:
        return cls(x_BCHW, tuple(levels), tuple(map(_version, (x_BCHW, *levels))))

    def holds(self, x_BCHW: Tensor) -> bool:
        """Return whether these are the levels of a batch, and neither was changed since."""
        now = tuple(map(_version, (x_BCHW, *self.levels)))
        return _is_same_view(self.x_BCHW, x_BCHW) and now == self.versions


def _share_memory(x: Tensor, other: Tensor) -> bool:
    start = x.untyped_storage().data_ptr()  # 0: it has no memory
    return x is other or (start != 0 and start == other.untyped_storage().data_ptr())


def _is_same_view(x: Tensor, other: Tensor) -> bool:
    return _share_memory(x, other) and _layout(x) == _layout(other)


def _layout(x: Tensor) -> tuple[object, ...]:
    return x.storage_offset(), x.shape, x.stride(), x.dtype


def _version(x: Tensor) -> int:
    """Return how often a tensor was changed in place; torch does not count it in inference mode."""
    return 0 if x.is_inference() else x._version
