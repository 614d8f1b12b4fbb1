"""Build the `Dataset` of a published benchmark from its facts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ...bands import Band, find_band
from ..dataset import Dataset
from ..mask_labels import RasterSchema
from ..raster import read_scene
from . import tree as trees
from .tree import Tree


def benchmark_dataset(
    tree: Tree, *, bands: str, upstream_bands: str, codes: tuple[tuple[int, int], ...], **facts: Any
) -> Dataset:
    """Return a published dataset.

    Args:
        tree: Layout of its files.
        bands: Names of an image's layers in the file's order, separated by spaces.
        upstream_bands: Names that Cryo-Bench gives the same layers; `NDWI@0.49` is a layer that it
            declares to be light of 0.49 micrometers.
        codes: (mask value, class or `IGNORE`) of mask values other than the classes' numbers.
        **facts: Every other attribute of `Dataset`.
    """
    schema = RasterSchema(
        name=facts["name"],
        bands=tuple(bands.split()),
        classes=facts["classes"],
        codes=codes,
        nan="ignore",
        spare=True,
    )
    return Dataset(
        bands=tuple(map(find_band, bands.split())),
        upstream_bands=tuple(map(_declared, upstream_bands.split())),
        index=partial(trees.index, tree, facts["name"]),
        read=partial(read_scene, schema),
        rules=schema.rules,
        folder=tree.roots[0],
        layout=tree.words,
        **facts,
    )


def _declared(text: str) -> Band:
    """Return the band of a name, with another wavelength where `@` gives one."""
    name, _, center = text.partition("@")
    return replace(find_band(name), center_um=float(center)) if center else find_band(name)
