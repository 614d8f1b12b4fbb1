"""Define scenes whose bands lie in files of their own: their grid, and layers of quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from .frozen import ConstraintErrors, Frozen, Problem

Resampling = Literal["nearest", "bilinear", "cubic", "average"]
# Source: ESA, Sentinel-2 Level-2A, scene classification.
SCL: Mapping[str, int] = {
    "no_data": 0,
    "saturated": 1,
    "dark": 2,
    "shadow": 3,
    "vegetation": 4,
    "bare": 5,
    "water": 6,
    "unclassified": 7,
    "cloud_medium": 8,
    "cloud_high": 9,
    "cirrus": 10,
    "snow": 11,
}
# Source: USGS, Landsat Collection 2 Level-1 and Level-2 QA_PIXEL: numbers of bits.
QA_PIXEL: Mapping[str, int] = {
    "fill": 0,
    "dilated": 1,
    "cirrus": 2,
    "cloud": 3,
    "shadow": 4,
    "snow": 5,
    "clear": 6,
    "water": 7,
}
NAMES: Mapping[str, Mapping[str, int]] = {"scl": SCL, "qa_pixel": QA_PIXEL}
# Snow is what these maps are about, so it is never ignored unless the card says so.
USUAL: Mapping[str, tuple[str, ...]] = {
    "scl": ("no_data", "saturated", "shadow", "cloud_medium", "cloud_high", "cirrus"),
    "qa_pixel": ("fill", "dilated", "cirrus", "cloud", "shadow"),
}


class Warp(Frozen):
    """Resample the bands of a scene to the grid of one of them."""

    to: str = Field(min_length=1, description="Band whose grid all bands get: B4.")
    resampling: Resampling = Field(
        default="bilinear", description="Interpolation of bands on other grids."
    )


class QualityLayer(Frozen):
    """A layer beside a scene that tells clouds, shadows and missing pixels."""

    file: str = Field(
        min_length=1,
        description="Path of the layer below root, with {id}: '{id}_QA_PIXEL.TIF'; a * is any text.",
    )
    content: Literal["scl", "qa_pixel", "values"] = Field(
        description=(
            "Content of the layer. scl: Sentinel-2's scene classification; qa_pixel: bits of "
            "Landsat's Collection 2; values: numbers that `ignore` lists."
        )
    )
    ignore: tuple[str | int, ...] = Field(
        default=(),
        description=(
            "What is left out of loss and score: names (cloud, shadow, snow, ...), or numbers for "
            "`values`. Left out: clouds, their shadows, cirrus and missing pixels."
        ),
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ConstraintErrors(problems)
        return self

    def _problems(self) -> Iterator[Problem]:
        if "{id}" not in self.file:
            message = f"The path of a quality layer holds {{id}}, '{self.file}' does not. Add it."
            yield Problem(("file",), message)
        layers = NAMES.get(self.content)
        if layers is None and (not self.ignore or any(isinstance(v, str) for v in self.ignore)):
            message = (
                f"`content: values` needs the numbers to leave out, got {list(self.ignore)}. Write "
                "`ignore: [1, 2]`."
            )
            yield Problem(("ignore",), message)
        for value in self.ignore:
            if layers is not None and value not in layers:
                message = (
                    f"No content '{value}' in a layer of {self.content}. Use one of "
                    f"{', '.join(layers)}."
                )
                yield Problem(("ignore",), message)

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """Values that are left out; empty for bits."""
        if self.content == "qa_pixel":
            return ()
        names = self.ignore or USUAL[self.content]
        return tuple(SCL[value] if isinstance(value, str) else value for value in names)

    @property
    def ignored_bits(self) -> int:
        """Mask of the bits that leave a pixel out; 0 for values."""
        if self.content != "qa_pixel":
            return 0
        names = self.ignore or USUAL[self.content]
        return sum(1 << QA_PIXEL[str(name)] for name in names)
