"""Define the dataset card: ten lines of YAML that describe a dataset of your own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, field_validator, model_validator

from .band_files import QualityLayer, Warp
from .frozen import ConstraintErrors, Frozen, Problem, format_value
from .region_outlines import RegionOutlines, require_one_group
from .split_rule import SplitRule

IGNORED = "ignore"  # instead of a class in `values`: left out of loss and score
COLOR = re.compile(r"#[0-9a-fA-F]{6}|\(?\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\)?")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class DatasetCard(Frozen):
    """Describe where the scenes of a dataset lie, and what layers and mask values mean."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name shown in tables and MLflow.",
    )
    root: str = Field(min_length=1, description="Folder below the data root, or an absolute one.")
    images: str = Field(
        description=(
            "Path of an image below root; holds {id}, and {split} unless `split` is given: "
            "'{split}/images/{id}.tif'. Bands in files of their own: '{id}_{band}.TIF'; there, a * "
            "is any text."
        )
    )
    masks: str = Field(
        description="Path of a mask below root; holds {id}, and {split} unless `split` is given: '{split}/masks/{id}.png'."
    )
    bands: tuple[str, ...] = Field(
        min_length=1, description="Band names in the order of the file's layers: [B4, B3, B2]."
    )
    sensor: str | dict[str, float] | None = Field(
        default=None,
        description=(
            "Sensor whose numbers `bands` uses, one of `cryo-hpo list bands`: landsat-8, whose B5 is "
            "near infrared; or the center wavelength of each band in micrometers. Left out: "
            "Sentinel-2's numbers."
        ),
    )
    band_files: dict[str, str] | None = Field(
        default=None,
        description="Text of {band} in a file's name, where it is not the band's: {B11: B11_20m}.",
    )
    warp: Warp | None = Field(
        default=None,
        description="Resample bands on different grids to that of one band: {to: B4}.",
    )
    quality: QualityLayer | None = Field(
        default=None, description="Layer of clouds and missing pixels that are left out."
    )
    layer_names: Literal["use", "ignore"] = Field(
        default="use",
        description=(
            "Layers that the image itself names B4, B3, ... or red, green, ...: use the names, "
            "whatever the order in `bands`, or ignore them."
        ),
    )
    palettes: Literal["agree", "ignore"] = Field(
        default="agree",
        description=(
            "Palettes of masks: refuse those that give one class number two colors, or ignore the "
            "palettes, where the number is the class whatever its color."
        ),
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Class names; the position of a name is its mask value, unless `values` says "
        "otherwise. With `ignore: 0` the first class has mask value 1. Left out: those of `values`.",
    )
    values: dict[str, str] | None = Field(
        default=None,
        description="Mask value -> class, or 'ignore': {0: background, 255: fracture}. Masks in "
        "colors: {'#000000': background, '#0000ff': lake}. Values left out are refused.",
    )
    ignore: int | float | tuple[int | float, ...] | None = Field(
        default=None,
        description="Mask value, or several, left out of loss and score: 255, or [-1, 0, 65535]. "
        "NaN, -9999, transparency and a mask's own nodata value are left out anyway.",
    )
    nodata: float | tuple[float, ...] | None = Field(
        default=None,
        description="Value of image pixels without data, where files do not declare it: one for "
        "all bands, or one for each.",
    )
    scale: Literal["apply", "ignore"] | None = Field(
        default=None,
        description="Scale and offset tags of the images: apply them (float32 values), or read "
        "the stored numbers. Left out: stored numbers, refused if the tags of files differ.",
    )
    nan: Literal["refuse", "ignore"] = Field(
        default="refuse",
        description="Pixels without a number: refuse the file, or ignore those pixels.",
    )
    mean: tuple[float, ...] | None = Field(
        default=None, description="Mean of each band; left out: computed on the training split."
    )
    std: tuple[float, ...] | None = Field(
        default=None,
        description="Standard deviation of each band; left out: computed on the training split.",
    )
    gsd_m: float | None = Field(
        default=None, gt=0, description="Side of a pixel on the ground, meters."
    )
    front: tuple[str, str] | None = Field(
        default=None,
        description="Two classes whose common edge is the front to measure, such as [ice, ocean]; the edge of every class is measured anyway.",
    )
    split: SplitRule | None = Field(
        default=None,
        description=(
            "How scenes that come in one heap are divided into parts, where the paths hold no "
            "{split}: {by: scene}, {by: region}, {by: place}, {by: time, date: ...} or {by: list, "
            "file: ...}."
        ),
    )
    region: str | None = Field(
        default=None,
        max_length=200,
        description="Regular expression with one group that finds the region in an id: '^([A-Z]+)_'.",
    )
    region_outlines: RegionOutlines | None = Field(
        default=None,
        description=(
            "Instead of `region`: outlines whose column names the region of the scenes that lie "
            "there: {file: regions.gpkg, attribute: glacier}."
        ),
    )
    assumed: tuple[str, ...] = Field(
        default=(),
        exclude=True,  # of no effect on data and results: not part of a study's identity
        description="Keys of this card whose values `init` guessed. `check` and `run` warn of them "
        "until this line is removed.",
    )
    source: str = Field(default="", description="Where the data come from: a DOI or an address.")
    license: str = Field(
        default="",
        validation_alias=AliasChoices("license", "licence"),  # the name of 0.1.0
        description="License of the data.",
    )

    @field_validator("images", "masks")
    @classmethod
    def _template_has_its_holes(cls, template: str) -> str:
        if "{id}" not in template:
            message = (
                f"A path template holds {{id}}, '{template}' does not. "
                "Write it like '{split}/images/{id}.tif', or 'images/{id}.tif' with `split`."
            )
            raise ValueError(message)
        rest = re.sub(r"\{(split|id|band)\}", "", template)
        if "{" in rest or "}" in rest:
            message = (
                f"The only holes of a path template are {{split}}, {{id}} and {{band}}, got "
                f"'{template}'. Remove the others."
            )
            raise ValueError(message)
        return template

    @field_validator("values", mode="before")
    @classmethod
    def _keys_are_texts(cls, values: Any) -> Any:
        return {str(key): to for key, to in values.items()} if isinstance(values, dict) else values

    @field_validator("nodata", mode="before")
    @classmethod
    def _texts_are_numbers(cls, nodata: Any) -> Any:
        if isinstance(nodata, list | tuple):
            return tuple(cls._texts_are_numbers(value) for value in nodata)
        if isinstance(nodata, str) and NUMBER.fullmatch(nodata.strip()):
            return float(nodata)
        return nodata

    @field_validator("classes")
    @classmethod
    def _two_classes_or_more(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(classes) < 2:
            message = (
                f"A dataset has at least 2 classes, got {len(classes)}. Name the background too."
            )
            raise ValueError(message)
        _refuse_twins(classes, what="class")
        return classes

    @field_validator("bands")
    @classmethod
    def _bands_are_unique(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_twins(bands, what="band")
        return bands

    @field_validator("assumed")
    @classmethod
    def _assumed_are_keys(cls, assumed: tuple[str, ...]) -> tuple[str, ...]:
        for key in assumed:
            if key not in cls.model_fields:
                message = (
                    f"`assumed` names keys of the card whose values are guessed, '{key}' is none. "
                    "Remove it."
                )
                raise ValueError(message)
        return assumed

    @field_validator("region")
    @classmethod
    def _region_finds_one_group(cls, region: str | None) -> str | None:
        if region is not None:
            require_one_group(region)
        return region

    @model_validator(mode="after")
    def _laws(self) -> Self:
        if self.values and not self.classes:
            named = dict.fromkeys(to for to in self.values.values() if to != IGNORED)
            object.__setattr__(self, "classes", self._two_classes_or_more(tuple(named)))
        problems = [
            *self._split_problems(),
            *self._region_problems(),
            *self._band_problems(),
            *self._classes_problems(),
            *self._ignore_problems(),
            *self._values_problems(),
            *self._statistics_problems(),
            *self._front_problems(),
        ]
        if problems:
            raise ConstraintErrors(problems)
        return self

    def _front_problems(self) -> Iterator[Problem]:
        if self.front and (self.front[0] == self.front[1] or not {*self.front} <= {*self.classes}):
            message = (
                f"A front is the edge between two of the classes, got {format_value(self.front)}. "
                f"Classes: {', '.join(self.classes)}."
            )
            yield Problem(("front",), message)

    def _split_problems(self) -> Iterator[Problem]:
        templates = {"images": self.images, "masks": self.masks}
        holding = [key for key, template in templates.items() if "{split}" in template]
        if self.split is None and len(holding) < len(templates):
            lacking = next(key for key in templates if key not in holding)
            message = (
                f"The path '{templates[lacking]}' holds no {{split}}, so nothing says which scenes "
                "are train, val and test. Add {split}, or divide them: `split: {by: scene}`."
            )
            yield Problem((lacking,), message)
        elif self.split is not None and holding:
            message = (
                f"The parts are given twice: by {{split}} in '{templates[holding[0]]}' and by "
                "`split`. Drop one of the two."
            )
            yield Problem(("split",), message)

    def _region_problems(self) -> Iterator[Problem]:
        if self.region is not None and self.region_outlines is not None:
            message = (
                "Regions are given twice: by `region`, from ids, and by `region_outlines`, from "
                "places. Drop one of the two."
            )
            yield Problem(("region_outlines",), message)
        by_region = self.split is not None and self.split.by == "region"
        if by_region and self.region is None and self.region_outlines is None:
            message = (
                "`by: region` needs the region of every scene. Add `region: '^([A-Z]+)_'`, found in "
                "ids, or `region_outlines: {file: regions.gpkg, attribute: glacier}`."
            )
            yield Problem(("split",), message)

    def _band_problems(self) -> Iterator[Problem]:
        if "{band}" in self.masks:
            message = f"A mask belongs to all bands, got '{self.masks}'. Remove {{band}}."
            yield Problem(("masks",), message)
        for key, value in (("band_files", self.band_files), ("warp", self.warp)):
            if value is not None and "{band}" not in self.images:
                message = (
                    f"`{key}` is for bands in files of their own, and '{self.images}' holds no "
                    "{band}. Add {band}, or drop the key."
                )
                yield Problem((key,), message)
        tables = {"band_files": self.band_files or {}, "sensor": self.sensor}
        named = [
            (key, name)
            for key, table in tables.items()
            for name in table or ()
            if isinstance(table, dict)
        ]
        if self.warp is not None:
            named.append(("warp", self.warp.to))
        for key, name in named:
            if name not in self.bands:
                message = f"'{name}' is no band of this card. Bands are {', '.join(self.bands)}."
                yield Problem((key,), message)

    def _classes_problems(self) -> Iterator[Problem]:
        if not self.classes:
            message = (
                "A dataset has at least 2 classes, got 0. Name them, the background too, in "
                "`classes`, or in `values` with their mask values."
            )
            yield Problem(("classes",), message)

    @property
    def ignored(self) -> tuple[float, ...]:
        """Mask values that `ignore` names."""
        if self.ignore is None:
            return ()
        return self.ignore if isinstance(self.ignore, tuple) else (self.ignore,)

    @property
    def first_value(self) -> int:
        """Mask value of the first class, if `values` is not given."""
        return 1 if 0 in self.ignored else 0

    def _ignore_problems(self) -> Iterator[Problem]:
        first = self.first_value
        last = first + len(self.classes) - 1
        for value in self.ignored if self.values is None else ():
            if first <= value <= last and value == int(value):
                message = (
                    f"A mask value is a class or ignored, not both: {value:g} is class "
                    f"'{self.classes[int(value) - first]}'. Use one above {last}, such as 255, "
                    "leave it out, or name the class of every value in `values`."
                )
                yield Problem(("ignore",), message)

    def _values_problems(self) -> Iterator[Problem]:
        values = self.values or {}
        for key, meant in values.items():
            if not (NUMBER.fullmatch(key) or COLOR.fullmatch(key)):
                message = f"A mask value is a number or a color such as '#0000ff', got '{key}'."
                yield Problem(("values",), message)
            if meant != IGNORED and meant not in self.classes:
                message = (
                    f"Mask value {key} means '{meant}', which is no class. Classes are "
                    f"{', '.join(self.classes)}; or write '{IGNORED}'."
                )
                yield Problem(("values",), message)
        colors = [key for key in values if COLOR.fullmatch(key)]
        if colors and len(colors) < len(values):
            message = "Mask values are numbers or colors, not both. Name all of one kind."
            yield Problem(("values",), message)
        for name in self.classes if values else ():
            if name not in values.values():
                message = f"Class '{name}' has no mask value. Add one, or remove it from `classes`."
                yield Problem(("values",), message)
        for value in self.ignored:
            meant = next((m for k, m in values.items() if _is_value(k, value)), IGNORED)
            if meant != IGNORED:
                message = (
                    f"A mask value is a class or ignored, not both: {value:g} is class '{meant}' "
                    "in `values`. Remove `ignore`."
                )
                yield Problem(("ignore",), message)

    def _statistics_problems(self) -> Iterator[Problem]:
        nodata = self.nodata if isinstance(self.nodata, tuple) and len(self.nodata) != 1 else None
        for name, values in (("mean", self.mean), ("std", self.std), ("nodata", nodata)):
            if values is not None and len(values) != len(self.bands):
                message = (
                    f"There is one number per band, got {len(values)} for {len(self.bands)} bands. "
                    "Give as many, or leave it out to have it computed."
                )
                yield Problem((name,), message)
        if self.std is not None and min(self.std, default=1.0) <= 0:
            message = (
                f"A standard deviation is above 0, got {min(self.std):g}. "
                "Leave std out to have it computed, and drop bands that are constant."
            )
            yield Problem(("std",), message)


def _is_value(key: str, value: float) -> bool:
    return bool(NUMBER.fullmatch(key)) and math.isclose(float(key), value)


def _refuse_twins(names: tuple[str, ...], *, what: str) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        message = f"Each {what} is named once, {', '.join(map(repr, twins))} is not. Rename one."
        raise ValueError(message)
