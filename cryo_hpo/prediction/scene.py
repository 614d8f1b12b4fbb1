"""A scene file to a map file at the same place, read and written row by row."""

# C bands, K classes, H W pixels

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.dataset import IGNORE
from ..data.raster_stream import Raster, mask_writer, open_raster, probability_writer, write_rows
from ..errors import SpecError
from ..training.scoring import WINDOWS_PER_PASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import Model


def predict_scene(
    model: Model,
    scene: Path | str,
    out: Path | str,
    *,
    probabilities: Path | str | None = None,
    layers: Sequence[int] | None = None,
    batch: int = WINDOWS_PER_PASS,
) -> dict[str, int]:
    """Map a scene of any size.

    The map is a GeoTIFF with the scene's coordinates, the classes' numbers, names and colours, and
    255 where the scene has no data. Memory depends on the width of the scene, not on its height.

    Args:
        model: See `load_model`.
        scene: Any raster that GDAL reads, with the model's bands in its order.
        out: The map.
        probabilities: A second GeoTIFF, one float32 layer for each class; None: none.
        layers: Which layers of the scene are the model's bands, from 1; None: all.
        batch: Windows per forward pass; fewer where memory is too small.

    Returns:
        Class -> its pixels.

    Raises:
        DataError: The scene has other bands, or is damaged.
        SpecError: A map would overwrite the scene.
        StorageError: A map cannot be written.
    """
    scene, out = Path(scene), Path(out)
    extra = None if probabilities is None else Path(probabilities)
    _refuse_same(scene, out, extra)
    classes = model.card.classes
    counts_K = np.zeros(len(classes), dtype=np.int64)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_raster(scene, bands=model.card.bands, layers=layers))
        maps = stack.enter_context(mask_writer(out, source, classes=classes))
        shares = extra and stack.enter_context(probability_writer(extra, source, classes=classes))
        rows = _Rows(source)
        for top, part_KHW in model.predict_rows(rows.pixels, length_hw=source.size, batch=batch):
            absent_HW = rows.absent(top, part_KHW.shape[1])
            mask_HW = part_KHW.argmax(axis=0).astype(np.uint8)
            mask_HW[absent_HW] = IGNORE
            write_rows(maps, top, mask_HW[None])
            counts_K += np.bincount(mask_HW[~absent_HW], minlength=len(classes))
            if shares:
                part_KHW[:, absent_HW] = np.nan
                write_rows(shares, top, part_KHW)
    return dict(zip(classes, counts_K.tolist(), strict=True))


def _refuse_same(*paths: Path | None) -> None:
    places = [path.resolve() for path in paths if path is not None]
    if len(set(places)) < len(places):
        message = "Scene, map and probabilities are files of their own. Choose another --out."
        raise SpecError(message)


class _Rows:
    """Rows of a scene for the model; remembers which of their pixels have no data."""

    def __init__(self, source: Raster) -> None:
        self._source = source
        self._top = 0
        self._absent_HW: NDArray[np.bool_] = np.zeros((0, source.size[1]), dtype=np.bool_)

    def pixels(self, top: int, bottom: int) -> NDArray[Any]:
        """Return rows of the scene, (C, bottom - top, W)."""
        image_CHW, self._absent_HW = self._source.rows(top, bottom)
        self._top = top
        return image_CHW

    def absent(self, top: int, number: int) -> NDArray[np.bool_]:
        """Return where the rows read last have no data."""
        start = top - self._top
        return self._absent_HW[start : start + number]
