"""A dataset of the user's own, as ten lines of YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from .frozen import ConstraintErrors, Frozen, Problem
from .split_rule import SplitRule


class DatasetCard(Frozen):
    """Where the scenes of a dataset lie, and what their layers and mask values mean."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name shown in tables and MLflow.",
    )
    root: str = Field(min_length=1, description="Folder below the data root, or an absolute one.")
    images: str = Field(
        description="Path of an image below root; holds {id}, and {split} unless `split` is given: '{split}/images/{id}.tif'."
    )
    masks: str = Field(
        description="Path of a mask below root; holds {id}, and {split} unless `split` is given: '{split}/masks/{id}.png'."
    )
    bands: tuple[str, ...] = Field(
        min_length=1, description="Band names in the order of the file's layers: [B4, B3, B2]."
    )
    classes: tuple[str, ...] = Field(
        description="Class names; the position of a name is its mask value."
    )
    ignore: int | None = Field(
        default=None, ge=0, le=255, description="Mask value left out of loss and score."
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
    gsd_m: float | None = Field(default=None, gt=0, description="Side of a pixel, metres.")
    split: SplitRule | None = Field(
        default=None,
        description=(
            "How scenes that come in one heap are divided into parts, where the paths hold no "
            "{split}: {by: scene}, {by: place}, {by: time, date: ...} or {by: list, file: ...}."
        ),
    )
    region: str | None = Field(
        default=None,
        description="Regular expression with one group that finds the region in an id: '^([A-Z]+)_'.",
    )
    source: str = Field(default="", description="Where the data come from: a DOI or an address.")
    licence: str = Field(default="", description="Licence of the data.")

    @field_validator("images", "masks")
    @classmethod
    def _template_has_its_holes(cls, template: str) -> str:
        if "{id}" not in template:
            message = (
                f"A path template holds {{id}}, '{template}' does not. "
                "Write it like '{split}/images/{id}.tif', or 'images/{id}.tif' with `split`."
            )
            raise ValueError(message)
        rest = template.replace("{split}", "").replace("{id}", "")
        if "{" in rest or "}" in rest:
            message = (
                f"The only holes of a path template are {{split}} and {{id}}, got '{template}'. "
                "Remove the others."
            )
            raise ValueError(message)
        return template

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

    @field_validator("region")
    @classmethod
    def _region_finds_one_group(cls, region: str | None) -> str | None:
        if region is None:
            return None
        try:
            groups = re.compile(region).groups
        except re.error as error:
            message = (
                f"A region is a regular expression, '{region}' is none: {error}. "
                "Write one like '^([A-Z]+)_'."
            )
            raise ValueError(message) from None
        if groups != 1:
            message = (
                f"A region has exactly one group, '{region}' has {groups}. "
                "Put parentheses around the part of the id that names the region."
            )
            raise ValueError(message)
        return region

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = [
            *self._split_problems(),
            *self._ignore_problems(),
            *self._statistics_problems(),
        ]
        if problems:
            raise ConstraintErrors(problems)
        return self

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

    def _ignore_problems(self) -> Iterator[Problem]:
        last = len(self.classes) - 1
        if self.ignore is not None and self.ignore <= last:
            message = (
                f"A mask value is a class or ignored, not both: {self.ignore} is class "
                f"'{self.classes[self.ignore]}'. Use one above {last}, such as 255, or leave it out."
            )
            yield Problem(("ignore",), message)

    def _statistics_problems(self) -> Iterator[Problem]:
        for name, values in (("mean", self.mean), ("std", self.std)):
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


def _refuse_twins(names: tuple[str, ...], *, what: str) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        message = f"Each {what} is named once, {', '.join(map(repr, twins))} is not. Rename one."
        raise ValueError(message)
