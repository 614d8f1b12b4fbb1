"""Report names of encoders that do not exist, beside the other problems of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import UnknownName
from ..frozen import Loc, Problem, value_at

ENCODER = "model.encoder"  # its path in a recipe, as baselines and search spaces write it


def named_encoders(raw: Mapping[str, Any]) -> list[tuple[Loc, str]]:
    """Return (path, name) of every encoder that a study or a campaign names."""
    places: list[Loc] = [("base", "model", "encoder")]
    places += [("baselines", arm, ENCODER) for arm in _keys(raw, ("baselines",))]
    places += [("matrix", "encoders", row, "encoder") for row in _keys(raw, ("matrix", "encoders"))]
    names = [(place, value_at(raw, place)) for place in places]
    space: Loc = ("search", "space", "params", ENCODER, "values")
    values = value_at(raw, space)
    names += [((*space, i), v) for i, v in enumerate(values if isinstance(values, list) else ())]
    return [(place, name) for place, name in names if isinstance(name, str)]


def unknown_encoders(names: Sequence[tuple[Loc, str]]) -> Iterator[Problem]:
    """Yield a problem for every name that neither the table nor timm has.

    The table imports torch, so only a file with other problems is looked at here; `check` reports
    the encoder of a file without them, together with what it finds in data and weights.
    """
    if not names:
        return
    from ...models import find_encoder

    for place, name in names:
        try:
            find_encoder(name)
        except UnknownName as error:
            yield Problem(place, str(error))


def _keys(raw: Mapping[str, Any], place: Loc) -> list[str]:
    value = value_at(raw, place)
    return list(value) if isinstance(value, dict) else []
