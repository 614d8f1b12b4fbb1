"""Define a layer of a vector file whose outlines serve as labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import SpecError
from .frozen import ConstraintErrors, Frozen, Problem
from .messages import explain

SUFFIXES = (".gpkg", ".shp", ".geojson", ".json", ".kml", ".zip", ".kmz")


def explain_suffix(file: str) -> str:
    """Return why a file is not read as outlines, and the remedy."""
    remedy = (
        "unpack it first" if file.lower().endswith((".gz", ".tar", ".7z", ".rar")) else "convert it"
    )
    tool = "" if remedy.startswith("unpack") else " with ogr2ogr or QGIS"
    return f"Cannot read '{file}' as outlines. Use one of {', '.join(SUFFIXES)}: {remedy}{tool}."


class VectorLayer(Frozen):
    """A layer of polygons, lines or points, and the class that its features become."""

    file: str = Field(
        min_length=1,
        description="Vector file below root (GeoPackage, Shapefile, GeoJSON, KML, or a zip of one); may hold {id} and {split}.",
    )
    layer: str | None = Field(
        default=None, description="Layer of the file. Left out: its only layer."
    )
    label: str | None = Field(
        default=None, description="Class of every feature. Give this or `attribute`."
    )
    attribute: str | None = Field(
        default=None, description="Column that decides the class of a feature, with `labels`."
    )
    labels: dict[str, str] = Field(
        default={}, description="Value of the attribute -> class, or `ignore` for no label."
    )
    where: str | None = Field(
        default=None,
        description="Features to use, as an SQL condition on columns: \"BgnDate < '20100101'\".",
    )
    buffer_m: float = Field(
        default=0.0,
        ge=0,
        le=1e5,
        description="Grow every feature by so many meters on the ground; lines and points need it.",
    )
    all_touched: bool = Field(
        default=False,
        description="Label every pixel that a feature touches. Default: pixels whose center it covers.",
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = [*self._file_problems(), *self._label_problems()]
        if problems:
            raise ConstraintErrors(problems)
        return self

    def _file_problems(self) -> Iterator[Problem]:
        if not self.file.lower().endswith(SUFFIXES):
            yield Problem(("file",), explain_suffix(self.file))

    def _label_problems(self) -> Iterator[Problem]:
        if (self.label is None) == (self.attribute is None):
            message = "Give either `label` (one class) or `attribute` (classes by a column)."
            yield Problem(("label",), message)
        elif (self.attribute is None) == bool(self.labels):
            message = "`attribute` and `labels` go together: {attribute: type, labels: {1: lake}}."
            yield Problem(("labels",), message)


def vector_layer(**fields: Any) -> VectorLayer:
    """Return a layer of these fields.

    Raises:
        SpecError: A field is not legal; the message has a sentence for each.
    """
    try:
        return VectorLayer(**fields)
    except ValidationError as error:
        problems = "; ".join(problem.message for problem in explain(error, VectorLayer))
        raise SpecError(problems) from error
