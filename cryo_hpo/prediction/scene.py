"""Predict the map of a scene file on the scene's grid, read and written row by row."""

# C bands, K classes, H W pixels

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.band_stack import BandFiles
from ..data.dataset import IGNORE
from ..data.file_templates import quality_of, scene_bands
from ..data.progress_log import ProgressLog
from ..data.qgis_style import map_style, write_style
from ..data.quality import read_poor
from ..data.raster_stream import (
    Raster,
    float_writer,
    map_driver,
    mask_writer,
    open_raster,
    write_rows,
)
from ..data.scene_match import match_scene
from ..errors import DataError, SpecError
from ..training.build import dataset_of
from ..training.scoring import WINDOWS_PER_PASS
from .agreement import Agreement, disagreement
from .ensemble import Ensemble, entropy, spread
from .model import recipe_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..config import DatasetCard
    from ..config.band_files import QualityLayer
    from .model import Model, ModelCard

    Quality = tuple[QualityLayer, Path]

log = logging.getLogger(__name__)


def predict_scene(  # noqa: PLR0913 (a public call; all but the first three by name)
    model: Model | Ensemble,
    scene: Path | str,
    out: Path | str,
    *,
    probabilities: Path | str | None = None,
    uncertainty: Path | str | None = None,
    confidence: Path | str | None = None,
    layers: Sequence[int] | None = None,
    quality: Path | str | None = None,
    batch: int = WINDOWS_PER_PASS,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _rows: None,
) -> dict[str, int]:
    """Map a scene of any size.

    The map is a Cloud Optimized GeoTIFF with the scene's coordinates, the classes' numbers, names and
    colors, and 255 where the scene has no data; a QGIS style (.qml) lies beside it. Memory depends on the width of the scene, not on its height. A scene whose
    layers have other names, or values of other units, than the model was trained on is refused. Of an
    ensemble, trainings that hardly share the common map are named in a warning.

    Args:
        model: See `load_model`, or `open_ensemble` for the mean of several models.
        scene: Any raster that GDAL reads, with the model's bands by name or in its order; or the
            common path of files of one band each: "LC08_{band}.TIF".
        out: The map: a Cloud Optimized GeoTIFF (.tif), or a .png.
        probabilities: A second GeoTIFF, one float32 layer for each class; None: none.
        uncertainty: A GeoTIFF with a layer `entropy` (of the probabilities, 0 certain to 1 even)
            and, of an ensemble, a layer `spread` (standard deviation over its members of the
            predicted class's probability); None: none.
        confidence: A GeoTIFF of the predicted class's probability, for the polygons of
            `outline_map`; None: none.
        layers: Layers of the scene that hold the model's bands, from 1; None: all.
        quality: Layer of clouds and missing pixels, which are 255 in the map, of a model whose
            training left such out; None: the one beside the scene, as the dataset's card names it;
            "none": clouds are mapped.
        batch: Windows per forward pass; fewer where memory is too small.
        force: Map a scene that does not look like training; the reasons are logged.
        progress: Called with the rows that are mapped, and all rows.

    Returns:
        Class -> number of its pixels.

    Raises:
        DataError: The scene has other bands or units, or is damaged.
        SpecError: A map would overwrite the scene, or has an unknown suffix.
        StorageError: A map cannot be written.
    """
    scene, out = Path(scene), Path(out)
    paths = (probabilities, uncertainty, confidence)
    extras = [None if path is None else Path(path) for path in paths]
    _refuse_same(scene, out, *extras)
    map_driver(out)
    for extra in filter(None, extras):
        map_driver(extra, "float32")
    models = model if isinstance(model, Ensemble) else Ensemble((model,))
    classes = models.card.classes
    counts_K = np.zeros(len(classes), dtype=np.int64)
    agreement = Agreement(len(models.members), len(classes))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open_scene(models.card, scene, layers))
        _refuse_other_kind(models.card, source, chosen=layers is not None, force=force)
        if layers is None and "{band}" not in str(scene):
            _report_order(models.card, source)
        maps = stack.enter_context(mask_writer(out, source, classes=classes))
        shares, doubts, sure = (
            path and stack.enter_context(float_writer(path, source, layers=names))
            for path, names in zip(extras, (classes, _doubts(models), ("confidence",)), strict=True)
        )
        rows = _Rows(source, _quality(models.card, scene, quality))
        windows = sum(member.count_windows(source.size) for member in models.members)
        counter = stack.enter_context(ProgressLog("window", windows, counted=True))
        for top, part_MKHW in models.predict_members(
            rows.pixels, length_hw=source.size, batch=batch, advance=counter.advance
        ):
            part_KHW = part_MKHW.mean(axis=0)
            absent_HW = rows.absent(top, part_KHW.shape[1])
            mask_HW = part_KHW.argmax(axis=0).astype(np.uint8)
            mask_HW[absent_HW] = IGNORE
            write_rows(maps, top, mask_HW[None])
            progress(top + len(mask_HW), source.size[0])
            agreement.add(mask_HW, part_MKHW, absent_HW)
            counts_K += np.bincount(mask_HW[~absent_HW], minlength=len(classes))
            if shares:
                write_rows(shares, top, np.where(absent_HW, np.nan, part_KHW))
            if doubts:
                layers_LHW = [entropy(part_KHW), spread(part_MKHW)][: doubts.count]
                write_rows(doubts, top, np.where(absent_HW, np.nan, layers_LHW))
            if sure:
                write_rows(sure, top, np.where(absent_HW, np.nan, part_KHW.max(axis=0))[None])
    write_style(out, map_style(classes))
    seeds = [member.card.seed for member in models.members]
    if sentence := disagreement(str(scene), seeds, agreement.far()):
        log.warning(sentence)
    return dict(zip(classes, counts_K.tolist(), strict=True))


def _doubts(models: Ensemble) -> tuple[str, ...]:
    """Return the layers of the uncertainty file: one model has no spread."""
    return ("entropy", "spread") if len(models.members) > 1 else ("entropy",)


def _open_scene(
    card: ModelCard, scene: Path, layers: Sequence[int] | None
) -> contextlib.AbstractContextManager[Raster]:
    """Open a scene the way the model's training data were read."""
    data = recipe_of(card.recipe).data.card
    nodata = () if data is None or data.nodata is None else data.nodata
    return open_raster(
        _files_of(scene, data, card.bands) if "{band}" in str(scene) else scene,
        bands=_band_names(card),
        layers=layers,
        nodata=nodata if isinstance(nodata, tuple) else (nodata,),
        scales=data is not None and data.scale == "apply",
    )


def _band_names(card: ModelCard) -> list[tuple[str, ...]]:
    """Return all names of each of the model's bands, the sensor's own first."""
    return [band.names for band in dataset_of(recipe_of(card.recipe).data).bands]


def _quality(card: ModelCard, scene: Path, given: Path | str | None) -> Quality | None:
    """Return the quality layer of a scene, and what of it is left out; None: nothing is.

    Raises:
        DataError: The given layer does not exist, or the model's data have none.
    """
    data = recipe_of(card.recipe).data.card
    rule = None if data is None else data.quality
    if str(given) == "none":
        return None
    if given is not None:
        if rule is None or not Path(given).is_file():
            why = "does not exist" if rule else "is of no use: the model's data have no `quality`"
            raise DataError(
                f"{given}: this quality layer {why}. Leave it out, or correct the path."
            )
        return rule, Path(given)
    if data is None or rule is None:
        return None
    path = quality_of(scene, data.images, rule.file)
    if path is None:
        log.warning(
            "%s: training left out clouds and missing pixels by '%s', and no such layer lies beside "
            "the scene: clouds are mapped. Give it by --quality.",
            scene,
            rule.file,
        )
        return None
    return rule, path


def _files_of(scene: Path, card: DatasetCard | None, bands: tuple[str, ...]) -> BandFiles:
    """Return the files of a scene's bands as the model's training data were read."""
    if card is None:
        files = scene_bands(scene, bands)
        return BandFiles(files, files[0], None)
    files = scene_bands(scene, card.bands, card.band_files)
    if card.warp is None:
        return BandFiles(files, files[0], None)
    return BandFiles(files, files[card.bands.index(card.warp.to)], card.warp.resampling)


def _refuse_other_kind(card: ModelCard, source: Raster, *, chosen: bool, force: bool) -> None:
    """Refuse a scene that differs from the model's training data, or log the differences.

    Raises:
        DataError: Layers or units differ, and `force` is not set.
    """
    match = match_scene(
        source,
        bands=_band_names(card),
        mean=card.mean,
        std=card.std,
        gsd_m=card.gsd_m,
        chosen=chosen,
        tags=(card.scales, card.offsets),
    )
    if match.refusals and not force:
        raise DataError("\n".join(match.refusals))
    notes = [f"{source.path}: {note}." for note in source.header.notes]
    for sentence in (*match.refusals, *match.warnings, *notes):
        log.warning("%s", sentence)


def _report_order(card: ModelCard, source: Raster) -> None:
    """Log the order in which nameless layers are read, if training read each band from a file."""
    data = recipe_of(card.recipe).data.card
    if data is None or "{band}" not in data.images or source.header.names or len(card.bands) == 1:
        return
    log.warning(
        "%s: the file does not name its layers, and training read each band from a file of its own: "
        "they are taken for %s, in this order. In another order, give --layers 3,2,1 or the like.",
        source.path,
        ", ".join(names[0] for names in _band_names(card)),
    )


def _refuse_same(*paths: Path | None) -> None:
    places = [path.resolve() for path in paths if path is not None]
    if len(set(places)) < len(places):
        message = "Scene, map, probabilities and uncertainty are files of their own. Choose another --out."
        raise SpecError(message)


class _Rows:
    """Read rows of a scene for the model, and keep the mask of pixels without data."""

    def __init__(self, source: Raster, quality: Quality | None) -> None:
        self._source, self._quality = source, quality
        self._top = 0
        self._kept: tuple[tuple[int, int], NDArray[Any]] | None = None
        self._absent_HW: NDArray[np.bool_] = np.zeros((0, source.size[1]), dtype=np.bool_)

    def pixels(self, top: int, bottom: int) -> NDArray[Any]:
        """Return rows of the scene, (C, bottom - top, W); the rows read last are kept."""
        if self._kept is None or self._kept[0] != (top, bottom):
            image_CHW, self._absent_HW = self._source.rows(top, bottom)
            if self._quality is not None:
                rule, path = self._quality
                place = (slice(top, bottom), slice(0, self._source.size[1]))
                self._absent_HW |= read_poor(rule, path, self._source.grid, place)
            self._kept, self._top = ((top, bottom), image_CHW), top
        return self._kept[1]

    def absent(self, top: int, number: int) -> NDArray[np.bool_]:
        """Return the mask of pixels without data in the rows read last."""
        start = top - self._top
        return self._absent_HW[start : start + number]
