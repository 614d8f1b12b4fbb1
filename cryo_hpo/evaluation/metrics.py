"""Compute confusion matrices and scores; those of parts add up to those of the whole."""

# K classes, T truth, P prediction

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.dataset import IGNORE
from ..errors import DataError
from .fronts import FieldSums

PART = 2**24  # pixels that are counted at a time


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Hold the confusion matrix of a map, pooled over all its pixels, and its scores.

    All scores are fractions. A class that is in neither truth nor prediction has no score (nan)
    and no part in the mean, unless `absent_is_zero`.

    Attributes:
        classes: Names of the classes; the index is the mask value.
        confusion_TP: Pixels, (K, K): rows truth, columns prediction; ignored pixels are absent.
        absent_is_zero: Whether a class in neither truth nor map scores 0 and lowers the mean, as in
            Cryo-Bench: a perfect map of two of three classes has a mIoU of 2/3.
        sums: Of errors of fronts and areas; None: not computed.
    """

    classes: tuple[str, ...]
    confusion_TP: NDArray[np.int64]
    absent_is_zero: bool = False
    sums: FieldSums | None = None

    def __post_init__(self) -> None:
        own = np.array(self.confusion_TP, dtype=np.int64)
        assert own.shape == (len(self.classes),) * 2, "one row and one column per class"
        own.flags.writeable = False
        object.__setattr__(self, "confusion_TP", own)

    @classmethod
    def of(
        cls,
        truth: ArrayLike,
        prediction: ArrayLike,
        *,
        classes: tuple[str, ...],
        ignore: int | None = IGNORE,
    ) -> Scores:
        """Compute the scores of a map against its mask.

        Args:
            truth: Class indices, any shape; `ignore` where the truth is unknown.
            prediction: Class indices, same shape.
            classes: Names of the classes; the index is the mask value.
            ignore: Mask value left out of the score; None: every pixel counts.

        Raises:
            DataError: The shapes differ, or a value is no class.
        """
        true, predicted = np.asarray(truth).ravel(), np.asarray(prediction).ravel()
        if np.shape(truth) != np.shape(prediction):
            message = (
                f"A map must have its mask's shape, got {np.shape(prediction)} for "
                f"{np.shape(truth)}. Cut both to the same pixels."
            )
            raise DataError(message)
        # Part by part: pairs of class numbers of a large scene take eight times its mask's memory.
        parts = (
            _confuse(true[start : start + PART], predicted[start : start + PART], classes, ignore)
            for start in range(0, true.size, PART)
        )
        return cls(classes, sum(parts, start=cls.zero(classes).confusion_TP))

    @classmethod
    def zero(cls, classes: tuple[str, ...]) -> Scores:
        """Return the scores of zero pixels, the start of a sum."""
        return cls(classes, np.zeros((len(classes), len(classes)), dtype=np.int64))

    def __add__(self, other: Scores) -> Scores:
        if self.classes != other.classes:
            message = (
                f"Scores add up when their classes are the same, got {self.classes} and "
                f"{other.classes}. Score both maps with one list of classes."
            )
            raise DataError(message)
        assert self.absent_is_zero == other.absent_is_zero, "one rule for all parts of a sum"
        total_TP = self.confusion_TP + other.confusion_TP
        sums = [s for s in (self.sums, other.sums) if s is not None]
        lacking = [s for s in (self, other) if s.sums is None and s.confusion_TP.any()]
        assert not (sums and lacking), "fronts and areas of all parts of a sum, or of none"
        both = sums[0] + sums[1] if len(sums) == 2 else next(iter(sums), None)
        return Scores(self.classes, total_TP, self.absent_is_zero, both)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scores):
            return NotImplemented
        same = np.array_equal(self.confusion_TP, other.confusion_TP)
        rule = self.absent_is_zero == other.absent_is_zero
        return self.classes == other.classes and rule and same

    def __hash__(self) -> int:
        return hash((self.classes, self.confusion_TP.tobytes()))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class, (K,).

        Source: Jaccard, Bull. Soc. Vaudoise Sci. Nat. 37, 1901.
        """
        return self._ratio(self._hits, self._in_truth + self._in_map - self._hits)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall per class, (K,).

        Source: Dice, Ecology 26, 1945.
        """
        return self._ratio(2 * self._hits, self._in_truth + self._in_map)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of a class's pixels in the map that are right, (K,); 0 where the map has none."""
        return self._ratio(self._hits, self._in_map)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of a class's pixels in the truth that are found, (K,); 0 where there are none."""
        return self._ratio(self._hits, self._in_truth)

    @property
    def miou(self) -> float:
        """Mean of the IoU over the classes that have one; nan without any pixel."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def mean_f1(self) -> float:
        """Mean of the F1 over the classes that have one; nan without any pixel."""
        present = self.f1[~np.isnan(self.f1)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of all pixels that are right; nan without any pixel."""
        total = self.confusion_TP.sum()
        return float(self._hits.sum() / total) if total else float("nan")

    @property
    def predicts_one_class(self) -> bool:
        """True if the map holds only one class: collapsed training, or a scene of one class."""
        return int(np.count_nonzero(self._in_map)) == 1

    def as_constant(self, label: str) -> Scores:
        """Return the scores of a map that holds one class in all of these pixels.

        Args:
            label: Name of the class.
        """
        confusion_TP = np.zeros_like(self.confusion_TP)
        confusion_TP[:, self.classes.index(label)] = self._in_truth
        return Scores(self.classes, confusion_TP, self.absent_is_zero)

    def best_constant(self) -> tuple[str, float]:
        """Return the class that scores most where a map holds nothing else, and that mIoU."""
        maps = {label: self.as_constant(label).miou for label in self.classes}
        best = max(maps, key=lambda label: maps[label])
        return best, maps[best]

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return `{prefix}_miou` and `{prefix}_iou/{class}`; a score that is nan is left out."""
        names = _slugs(self.classes)
        values = {f"{prefix}_miou": self.miou}
        values |= {f"{prefix}_iou/{n}": float(v) for n, v in zip(names, self.iou, strict=True)}
        return {name: value for name, value in values.items() if not np.isnan(value)}

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads."""
        return {
            "classes": list(self.classes),
            "confusion_TP": self.confusion_TP.tolist(),
            "absent_is_zero": self.absent_is_zero,
            **({} if self.sums is None else {"sums": self.sums.to_json()}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scores:
        """Return the scores that `to_json` wrote."""
        return cls(
            tuple(value["classes"]),
            np.array(value["confusion_TP"], dtype=np.int64),
            bool(value.get("absent_is_zero")),
            FieldSums.from_json(value["sums"]) if value.get("sums") else None,
        )

    @property
    def _hits(self) -> NDArray[np.int64]:
        return np.diagonal(self.confusion_TP)

    @property
    def _in_truth(self) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self.confusion_TP.sum(axis=1)
        return rows

    @property
    def _in_map(self) -> NDArray[np.int64]:
        columns: NDArray[np.int64] = self.confusion_TP.sum(axis=0)
        return columns

    def _ratio(self, part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        absent = self._in_truth + self._in_map == 0
        nothing = 0.0 if self.absent_is_zero else np.nan
        return np.where(absent, nothing, part / np.maximum(whole, 1))


def _confuse(
    true: NDArray[Any], predicted: NDArray[Any], classes: tuple[str, ...], ignore: int | None
) -> NDArray[np.int64]:
    """Return the confusion matrix of some pixels, (K, K): true class by predicted class."""
    if ignore is not None:
        kept = true != ignore
        true, predicted = true[kept], predicted[kept]
    _refuse_strangers(true, "Mask", classes)
    _refuse_strangers(predicted, "Map", classes)
    num = len(classes)
    pairs = true.astype(np.int64) * num + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=num * num).reshape(num, num)


def _refuse_strangers(values: NDArray[Any], what: str, classes: tuple[str, ...]) -> None:
    strange = values[(values < 0) | (values >= len(classes))]
    if strange.size:
        names = ", ".join(f"{index} ({name})" for index, name in enumerate(classes))
        message = (
            f"{what} pixels must hold one of {names}, got {strange[0]} ({strange.size} pixels). "
            "Was it resampled with interpolation?"
        )
        raise DataError(message)


def _slugs(names: tuple[str, ...]) -> list[str]:
    """Turn class names into distinct parts of metric names."""
    slugs = [re.sub(r"[^\w.-]+", "_", name).strip("_.") or "class" for name in names]
    if any(re.fullmatch(r".*_\d+", slug) for slug in slugs) and len(set(slugs)) < len(slugs):
        return [f"{s}_{index}" for index, s in enumerate(slugs)]  # a number may be taken already
    return [s if slugs.count(s) == 1 else f"{s}_{index}" for index, s in enumerate(slugs)]
