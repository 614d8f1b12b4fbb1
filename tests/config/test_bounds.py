"""Every number of a study has an upper bound, or is one that nothing is allocated or repeated by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cryo_hpo.config import Campaign, Study

# Compared with pixels, metadata, or other numbers of the same file. YAML bounds all integers to 64
# bits and all numbers to finite ones.
COMPARED = {
    *("Choice.values", "Float.low", "Float.high", "Int.low", "Int.high", "Int.step"),
    *("When.is_in", "Prior.center", "Prior.spread", "Search.prior", "baselines"),
    *("DatasetCard.ignore", "DatasetCard.nodata", "DatasetCard.mean", "DatasetCard.std"),
    *("DatasetCard.gsd_m", "DatasetCard.sensor", "QualityLayer.ignore"),
    *("Resources.gpus", "Skip.label_fraction", "SplitRule.shares", "SplitRule.fold"),
}
UPPER = {"maximum", "exclusiveMaximum", "const", "enum"}


def _unbounded(schema: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(schema, dict):
        if schema.get("type") in ("number", "integer") and not UPPER & schema.keys():
            yield place
        for key, inner in schema.items():
            named = place if key in ("properties", "$defs") else (*place, str(key))
            yield from _unbounded(inner, named)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _unbounded(inner, place)


@pytest.mark.parametrize("model", [Study, Campaign])
def test_every_number_that_something_is_allocated_by_has_an_upper_bound(model: Any) -> None:
    unbounded = {
        ".".join(place[:2]) if place[0][0].isupper() else place[0]
        for place in _unbounded(model.model_json_schema())
    }
    assert unbounded <= COMPARED
    assert not {"ModelSpec.width", "DataSpec.crop", "Recipe.epochs"} & unbounded
