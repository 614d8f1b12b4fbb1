"""Predict the map of a scene file on the scene's grid, read and written row by row."""

# C bands, K classes, H W pixels

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.dataset import IGNORE
from ..data.raster_stream import (
    Raster,
    map_driver,
    mask_writer,
    open_raster,
    probability_writer,
    write_rows,
)
from ..data.scene_match import match_scene
from ..errors import DataError, SpecError
from ..training.scoring import WINDOWS_PER_PASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import Model


log = logging.getLogger(__name__)


def predict_scene(  # noqa: PLR0913 (a public call; all but the first three by name)
    model: Model,
    scene: Path | str,
    out: Path | str,
    *,
    probabilities: Path | str | None = None,
    layers: Sequence[int] | None = None,
    batch: int = WINDOWS_PER_PASS,
    force: bool = False,
) -> dict[str, int]:
    """Map a scene of any size.

    The map has the scene's coordinates, the classes' numbers, names and colors, and 255 where the
    scene has no data. Memory depends on the width of the scene, not on its height. A scene whose
    layers have other names, or values of other units, than the model was trained on is refused.

    Args:
        model: See `load_model`.
        scene: Any raster that GDAL reads, with the model's bands in its order.
        out: The map: a GeoTIFF (.tif), or a .png.
        probabilities: A second GeoTIFF, one float32 layer for each class; None: none.
        layers: Layers of the scene that hold the model's bands, from 1; None: all.
        batch: Windows per forward pass; fewer where memory is too small.
        force: Map a scene that does not look like training; the reasons are logged.

    Returns:
        Class -> number of its pixels.

    Raises:
        DataError: The scene has other bands or units, or is damaged.
        SpecError: A map would overwrite the scene, or has an unknown suffix.
        StorageError: A map cannot be written.
    """
    scene, out = Path(scene), Path(out)
    extra = None if probabilities is None else Path(probabilities)
    _refuse_same(scene, out, extra)
    map_driver(out)
    if extra is not None:
        map_driver(extra, "float32")
    classes = model.card.classes
    counts_K = np.zeros(len(classes), dtype=np.int64)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open_scene(model, scene, layers))
        _refuse_other_kind(model, source, chosen=layers is not None, force=force)
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


def _open_scene(
    model: Model, scene: Path, layers: Sequence[int] | None
) -> contextlib.AbstractContextManager[Raster]:
    """Open a scene the way the model's training data were read."""
    trained = model.card.recipe.get("data", {}).get("card") or {}
    nodata = trained.get("nodata")
    values = () if nodata is None else nodata if isinstance(nodata, list | tuple) else (nodata,)
    scales = trained.get("scale") == "apply"
    return open_raster(scene, bands=model.card.bands, layers=layers, nodata=values, scales=scales)


def _refuse_other_kind(model: Model, source: Raster, *, chosen: bool, force: bool) -> None:
    """Refuse a scene that differs from the model's training data, or log the differences.

    Raises:
        DataError: Layers or units differ, and `force` is not set.
    """
    card = model.card
    match = match_scene(
        source, bands=card.bands, mean=card.mean, std=card.std, gsd_m=card.gsd_m, chosen=chosen
    )
    if match.refusals and not force:
        raise DataError("\n".join(match.refusals))
    for sentence in (*match.refusals, *match.warnings):
        log.warning("%s", sentence)


def _refuse_same(*paths: Path | None) -> None:
    places = [path.resolve() for path in paths if path is not None]
    if len(set(places)) < len(places):
        message = "Scene, map and probabilities are files of their own. Choose another --out."
        raise SpecError(message)


class _Rows:
    """Read rows of a scene for the model, and keep the mask of pixels without data."""

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
        """Return the mask of pixels without data in the rows read last."""
        start = top - self._top
        return self._absent_HW[start : start + number]
