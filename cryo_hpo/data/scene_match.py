"""Compare a scene with a model's training data: layer names, values, pixel size, position."""

# C bands

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .layer_names import contradicts, layer_numbers
from .raster_stream import Raster
from .review import MAX_GSD_RATIO

STRIPS, STRIP_ROWS = 8, 32  # evenly spread samples of a scene, each of full width
MAX_STDS = 2.0  # of a band's mean from that of training: worth a warning
FAR_STDS = 10.0  # no scene of the same kind differs by as much
MAX_SPREAD_RATIO = 30.0  # of standard deviations: different units


class Match(NamedTuple):
    """Hold the differences between a scene and a model's training data."""

    refusals: tuple[str, ...]
    """Reasons to refuse mapping it."""
    warnings: tuple[str, ...]
    """Reasons to check the map."""


def match_scene(  # noqa: PLR0913 (all but the first by name)
    scene: Raster,
    *,
    bands: Sequence[Sequence[str]],
    mean: Sequence[float],
    std: Sequence[float],
    gsd_m: float | None,
    chosen: bool,
    tags: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Match:
    """Compare a scene with training.

    Args:
        scene: Open raster with its layers selected.
        bands: All names of each of the model's bands, the sensor's own first.
        mean: Mean of each band, in training's units.
        std: Standard deviation of each band, in training's units.
        gsd_m: Side of a training pixel, meters; None: unknown.
        chosen: Whether the user named the layers; the file's names for them are then ignored.
        tags: Scales and offsets that training's files declare, if neither applied nor ignored;
            empty: not known.
    """
    refusals: list[str] = []
    warnings: list[str] = []
    names = scene.header.names
    own = [band[0] for band in bands]
    if not chosen and len(names) == len(bands) and contradicts(names, bands):
        numbers = layer_numbers(names, bands)
        remedy = f"Give --layers {','.join(map(str, numbers))}" if numbers else "Give --layers"
        refusals.append(
            f"{scene.path}: the file calls its layers {' '.join(names)}, the model reads "
            f"{' '.join(own)}. {remedy} to say which layer is which band."
        )
    refusals += _other_tags(scene, own, *tags)
    severe, sentence = _values(scene, own, np.array(mean), np.array(std))
    if sentence:
        (refusals if severe else warnings).append(f"{scene.path}: {sentence}")
    side = scene.header.gsd_m
    if side and gsd_m and max(side, gsd_m) / min(side, gsd_m) > MAX_GSD_RATIO:
        warnings.append(
            f"{scene.path}: the scene's pixel size is {side:.4g} m, the model was trained on "
            f"{gsd_m:.4g} m. Resample the scene for a better map."
        )
    if not scene.place:
        warnings.append(
            f"{scene.path}: the scene has no coordinates, so the map has no place either."
        )
    elif "gcps" in scene.place:
        warnings.append(
            f"{scene.path}: the scene's place is given by ground control points; the map has the "
            "same points and no transform."
        )
    return Match(tuple(refusals), tuple(warnings))


def _other_tags(
    scene: Raster, bands: Sequence[str], scales: Sequence[float], offsets: Sequence[float]
) -> list[str]:
    """Return a refusal if a scene declares other scales or offsets than training's files."""
    pairs = list(zip(scene.header.scales, scene.header.offsets, strict=True))
    for band, own, trained in zip(bands, pairs, zip(scales, offsets, strict=True), strict=False):
        if not np.allclose(own, trained, rtol=1e-6, atol=0):
            return [
                f"{scene.path}: band {band} has scale {own[0]:g} and offset {own[1]:g} by its tags or "
                f"its product's name, the model was trained on files with {trained[0]:g} and "
                f"{trained[1]:g}: the numbers are in other units. Convert the scene, or map it anyway "
                "with --force."
            ]
    return []


def _values(
    scene: Raster, bands: Sequence[str], mean_C: NDArray[np.float64], std_C: NDArray[np.float64]
) -> tuple[bool, str]:
    """Return whether units must differ from training's, and a sentence; "": values fit."""
    values = _sample(scene)
    if not values.shape[1]:
        return False, ""
    spread_C = np.maximum(std_C, 1e-12)
    own_mean_C, own_std_C = values.mean(axis=1), values.std(axis=1)
    apart_C = np.abs(own_mean_C - mean_C) / spread_C
    worst = int(apart_C.argmax())
    if apart_C[worst] <= MAX_STDS:
        return False, ""
    ratio_C = np.maximum(own_std_C, 1e-12) / spread_C
    other_spread = np.maximum(ratio_C, 1 / ratio_C).min() > MAX_SPREAD_RATIO
    severe = bool(np.median(apart_C) > FAR_STDS or (other_spread and np.median(apart_C) > MAX_STDS))
    return severe, (
        f"the mean of band {bands[worst]} is {own_mean_C[worst]:.4g}, the model was trained on a "
        f"mean of {mean_C[worst]:.4g} with a standard deviation of {std_C[worst]:.4g}. "
        "Are units and bands the same? Convert the scene"
        + (", or map it anyway with --force." if severe else " if not.")
    )


def _sample(scene: Raster) -> NDArray[np.float64]:
    """Return pixels with data from strips of a scene, (C, pixels)."""
    height = scene.size[0]
    tops = np.linspace(0, max(height - STRIP_ROWS, 0), STRIPS).astype(int)
    parts = []
    for top in dict.fromkeys(tops.tolist()):
        image_CHW, absent_HW = scene.rows(top, min(top + STRIP_ROWS, height))
        parts.append(image_CHW[:, ~absent_HW].astype(np.float64))
    return np.concatenate(parts, axis=1)
