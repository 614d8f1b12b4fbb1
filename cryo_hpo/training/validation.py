"""Score a model on the validation split, and rank it by the metric that selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.progress_log import ProgressLog
from ..data.tiles import Normalize
from ..errors import DataError, Diverged
from ..evaluation.device_score import score_on_device
from ..evaluation.field_metrics import Metric
from ..evaluation.front_distance import mark_front
from ..evaluation.fronts import Front
from ..evaluation.metrics import Scores
from ..evaluation.pieces import Window
from ..evaluation.side_by_side import score_side_by_side
from ..evaluation.sliding_window import FieldRules, score
from .build import dataset_of, protocol_of, window_of
from .scoring import field_rules, windows_per_pass

if TYPE_CHECKING:
    from ..config import Recipe
    from ..data.cache import Scenes


@dataclass(frozen=True, slots=True)
class Validation:
    """Score models on the validation split of one training.

    Attributes:
        metric: Metric that selects the best model.
        scenes: Scenes of the split.
        classes: Names of the classes.
    """

    metric: Metric
    scenes: Scenes
    classes: tuple[str, ...]
    _normalize: Normalize
    _window: Window
    _absent_is_zero: bool
    _field: FieldRules | None

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        scenes: Scenes,
        *,
        metric: str,
        normalize: Normalize,
        device: torch.device,
    ) -> Validation:
        """Prepare the validation of a recipe's training.

        Raises:
            SpecError: There is no such metric, or the dataset has no such class.
            DataError: The split has no pixel of the metric's class, no such edge, or no pixel size.
        """
        chosen = Metric.named(metric)
        return cls(
            metric=chosen,
            scenes=scenes,
            classes=dataset_of(recipe.data).classes,
            _normalize=normalize,
            _window=window_of(recipe, device),
            _absent_is_zero=protocol_of(recipe).absent_is_zero,
            _field=rules_of(chosen, recipe, scenes),
        )

    def score(self, model: nn.Module) -> Scores:
        """Return the scores of a model on the whole split.

        On a GPU, where nothing but the confusion matrix is needed, pixels are counted there.
        """
        device = self._normalize.mean_C11.device
        with ProgressLog("validation"):
            if self._field is None and device.type != "cpu":
                scores = score_on_device(model, self.scenes, **self._given)
            else:
                scores = score(model, self.scenes, **self._given, field=self._field)
        return replace(scores, absent_is_zero=self._absent_is_zero)

    def score_side_by_side(self, models: Sequence[nn.Module]) -> list[Scores | Diverged]:
        """Return what `score` returns of each model; `Diverged` where it raises that."""
        with ProgressLog("validation"):
            each = score_side_by_side(models, self.scenes, **self._given, field=self._field)
        absent = self._absent_is_zero
        return [s if isinstance(s, Diverged) else replace(s, absent_is_zero=absent) for s in each]

    @property
    def _given(self) -> dict[str, Any]:
        return {
            "normalize": self._normalize,
            "classes": self.classes,
            "window": self._window,
            "batch": windows_per_pass(self._normalize.mean_C11.device),
        }


def rules_of(metric: Metric, recipe: Recipe, scenes: Scenes) -> FieldRules | None:
    """Return what a metric needs besides the confusion matrix; None: nothing.

    Raises:
        SpecError: The dataset has no such class.
        DataError: The split has no pixel of the metric's class, no such edge, or no pixel size.
    """
    classes = dataset_of(recipe.data).classes
    metric.require_classes(classes)
    field = None
    if metric.needs_sums:
        fronts = () if metric.front is None else (metric.front,)
        field = field_rules(recipe, scenes, *fronts, every_edge=False)
    _require_measurable(metric, scenes, classes, field)
    return field


def _has_edge(mask_HW: NDArray[np.uint8], front: Front) -> bool:
    marked_HW = mark_front(mask_HW, mask_HW, inside=front.inside, outside=front.outside)
    return bool(marked_HW.any())


def _require_measurable(
    metric: Metric, scenes: Scenes, classes: tuple[str, ...], field: FieldRules | None
) -> None:
    """Refuse a metric that the validation split cannot measure.

    Raises:
        DataError: The split has no pixel of the metric's classes, no such edge, or no pixel size.
    """
    fronts = () if field is None or metric.front is None else field.fronts
    numbers = [n for front in fronts for n in (front.inside, front.outside) if n is not None]
    numbers += [] if metric.front is not None or not metric.of else [classes.index(metric.of)]
    missing = [classes[n] for n in numbers if not scenes.class_counts[n]]
    if missing:
        message = (
            f"`search.metric` '{metric.name}' cannot be measured: no pixel of the validation split "
            f"is '{missing[0]}'. Choose another metric, or divide the scenes otherwise."
        )
        raise DataError(message)
    for front in fronts:
        if not any(_has_edge(scenes.mask(i), front) for i in range(len(scenes))):
            message = (
                f"`search.metric` '{metric.name}' cannot be measured: no mask of the validation "
                f"split has an edge '{front.name}', a pixel of the class beside one of another. "
                "Pixels without a label may lie between them. Choose another metric."
            )
            raise DataError(message)
    unknown = [] if field is None else [i for i, side in enumerate(field.gsd_m) if side is None]
    if unknown and metric.kind.endswith(("_m", "_km2")):
        message = (
            f"`search.metric` '{metric.name}' needs the size of a pixel, {len(unknown)} of "
            f"{len(scenes)} scenes of the validation split have none (first: "
            f"'{scenes.ids[unknown[0]]}'). Set `gsd_m` in the card, or choose a metric in pixels."
        )
        raise DataError(message)
