"""Define how scenes without official parts are divided into train, val and test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from .frozen import ConstraintErrors, Frozen, Problem

NEEDS = {"time": "date", "list": "file"}  # kind of split -> the key that it requires


class SplitRule(Frozen):
    """Rule that divides the scenes of a card without parts: none shares pixels with another part."""

    by: Literal["scene", "region", "place", "time", "list"] = Field(
        description=(
            "scene: whole scenes, related ones (same region, ground or bytes) together; "
            "region: the same, for cards that say the region of every scene; "
            "place: blocks of ground cut from every scene, for few large scenes; "
            "time: the latest dates are the test part; list: a CSV file."
        )
    )
    shares: tuple[float, float, float] = Field(
        default=(0.7, 0.15, 0.15), description="Shares of train, val and test; their sum is 1."
    )
    folds: int | None = Field(
        default=None,
        ge=3,
        le=100,
        description=(
            "For scene, region and place: deal out so many equal parts instead of `shares`, of which one is "
            "the test part and the next one val; with each `fold` in turn, all scenes are tested once."
        ),
    )
    fold: int = Field(default=0, ge=0, description="With `folds`: number of the test part, from 0.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Decides between equal divisions.")
    date: str | None = Field(
        default=None,
        description="For time: regular expression with one group that finds the date in an id.",
    )
    file: str | None = Field(
        default=None,
        description="For list: CSV below root with columns id and part (train, val, test).",
    )
    block_px: int = Field(default=512, ge=32, le=10**5, description="For place: side of a block.")
    gap_px: int = Field(
        default=64,
        ge=0,
        le=10**5,
        description="For place: width left out between blocks of different parts; a crop is a good one.",
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = [*self._share_problems(), *self._fold_problems(), *self._key_problems()]
        if problems:
            raise ConstraintErrors(problems)
        return self

    def _share_problems(self) -> Iterator[Problem]:
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            message = (
                f"Shares of train, val and test must be above 0 and add up to 1, got "
                f"{list(self.shares)}, which is {sum(self.shares):g}. Write them like [0.7, 0.15, 0.15]."
            )
            yield Problem(("shares",), message)

    def _fold_problems(self) -> Iterator[Problem]:
        if self.folds is not None and self.by not in ("scene", "region", "place"):
            message = (
                f"`folds` is for scenes, regions and places, not for `by: {self.by}`. Drop it."
            )
            yield Problem(("folds",), message)
        if self.folds is not None and "shares" in self.model_fields_set:
            message = "`folds` are equal parts, so there are no `shares`. Drop one of the two."
            yield Problem(("folds",), message)
        if self.fold >= (self.folds or 1):
            number = f"{self.folds} folds" if self.folds else "no `folds`"
            message = f"Folds are counted from 0, got {self.fold} with {number}. Lower it."
            yield Problem(("fold",), message)

    def _key_problems(self) -> Iterator[Problem]:
        for kind, key in NEEDS.items():
            if (self.by == kind) != (getattr(self, key) is not None):
                message = f"`{key}` and `by: {kind}` go together. Give both, or none of them."
                yield Problem((key,), message)
        if self.by == "place" and 2 * self.gap_px > self.block_px:
            message = (
                f"The gap must be at most half of a block, got {self.gap_px} of {self.block_px} "
                "pixels. Make the blocks larger."
            )
            yield Problem(("gap_px",), message)
        if self.date is not None and not _has_one_group(self.date):
            message = (
                f"A date is found by a regular expression with one group, '{self.date}' is not one. "
                "Write it like '_([0-9]{8})_'."
            )
            yield Problem(("date",), message)


def _has_one_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups == 1
    except re.error:
        return False
