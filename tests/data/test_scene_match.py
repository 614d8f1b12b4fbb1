"""A scene is compared with a model's training data before it is mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from cryo_hpo.data.raster_stream import open_raster
from cryo_hpo.data.scene_match import Match, match_scene

from ..support.fakes import write

BANDS = [("B4",), ("B3",)]
PLAIN = ((1.0, 1.0), (0.0, 0.0))
OFFSET = ((1.0, 1.0), (-1000.0, -1000.0))


def _match(
    path: Path, *, tags: tuple[Any, Any] = ((), ()), number: int = 0, **header: Any
) -> Match:
    """Compare a scene of about 2000 with a model trained on that."""
    pixels = np.random.default_rng(0).normal(2000 + number, 500, (2, 40, 40))
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, pixels.astype(np.uint16), georeferenced=True)
    with rasterio.open(path, "r+") as file:
        for name, value in header.items():
            setattr(file, name, value)
    with open_raster(path, bands=BANDS) as scene:
        return match_scene(
            scene,
            bands=BANDS,
            mean=(2000, 2000),
            std=(500, 500),
            gsd_m=10,
            chosen=False,
            tags=tags,
        )


@pytest.mark.parametrize("tags", [((), ()), PLAIN])
def test_a_scene_like_training_is_not_talked_about(tmp_path: Path, tags: tuple[Any, Any]) -> None:
    assert _match(tmp_path / "a.tif", tags=tags) == Match((), ())


@pytest.mark.parametrize(
    ("tags", "header"),
    [
        (PLAIN, {"scales": (1e-4, 1e-4)}),
        (PLAIN, {"offsets": (0.0, -1000.0)}),
        (OFFSET, {}),
        (OFFSET, {"offsets": (-1000.0, -2000.0)}),
    ],
)
def test_numbers_in_other_units_are_refused_by_their_tags(
    tmp_path: Path, tags: tuple[Any, Any], header: dict[str, Any]
) -> None:
    (refusal,) = _match(tmp_path / "a.tif", tags=tags, **header).refusals
    assert "numbers are in other units" in refusal
    assert "--force" in refusal


def test_a_product_of_a_later_baseline_is_of_other_units(tmp_path: Path) -> None:
    """A shift of 1000 is less than the spread of snow and rock: the values alone do not show it."""
    name = "S2A_MSIL2A_20240101T000000_N{}_R025_T22WEV_20240101T000000.SAFE/a.tif"
    assert _match(tmp_path / name.format("0300"), tags=PLAIN, number=900) == Match((), ())
    (refusal,) = _match(tmp_path / name.format("0510"), tags=PLAIN, number=900).refusals
    assert "offset -1000" in refusal
    assert _match(tmp_path / name.format("0510"), tags=OFFSET, number=900) == Match((), ())
