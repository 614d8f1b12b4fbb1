"""Translate pydantic's validation errors into plain messages: law, value, remedy."""

from __future__ import annotations

import re
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import did_you_mean
from .frozen import ConstraintErrors, Loc, Problem, format_value

MOST_UNKNOWN = 20  # unknown keys of one mapping that are named; more are another file, or hostile


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return the problems of a value of `model`, one per broken law.

    Of the unknown keys of one mapping the first `MOST_UNKNOWN` are named, and the others counted.
    """
    details = error.errors(include_url=False)
    parents = {detail["loc"][:-1] for detail in details}
    unknown: Counter[Loc] = Counter()
    problems: dict[Problem, None] = {}
    for detail in details:
        if detail["type"] == "extra_forbidden":
            unknown[detail["loc"][:-1]] += 1
            if unknown[detail["loc"][:-1]] > MOST_UNKNOWN:
                continue
        # pydantic also reports a list as too short when its entries are wrong.
        if detail["type"] != "too_short" or detail["loc"] not in parents:
            problems |= dict.fromkeys(_problems(detail, model))
    problems |= dict.fromkeys(_unnamed(unknown, model))
    return list(problems)


def _unnamed(unknown: Mapping[Loc, int], model: type[BaseModel]) -> Iterator[Problem]:
    """Yield a problem for each mapping with more unknown keys than are named."""
    for loc, number in unknown.items():
        if number > MOST_UNKNOWN:
            text = f"{number - MOST_UNKNOWN:,} more keys here are unknown. Is this the right file?"
            yield Problem(_find(model, loc, keep_last=False).loc, text)


def _problems(detail: ErrorDetails, model: type[BaseModel]) -> Iterator[Problem]:
    kind, ctx = detail["type"], detail.get("ctx", {})
    place = _find(model, detail["loc"], keep_last=kind == "extra_forbidden")
    if kind == "value_error":
        cause = ctx["error"]
        inner = cause.problems if isinstance(cause, ConstraintErrors) else [Problem((), str(cause))]
        yield from (Problem((*place.loc, *p.loc), p.message) for p in inner)
    elif kind == "extra_forbidden":
        name = str(place.loc[-1])
        text = f"No key named '{name}' here.{did_you_mean(name, place.fields)} Known: {', '.join(place.fields)}."
        yield Problem(place.loc, text)
    elif kind == "union_tag_invalid":
        text = _one_of(ctx["tag"], _quoted(ctx["expected_tags"]))
        yield Problem((*place.loc, "kind"), text)
    elif kind == "union_tag_not_found":
        kinds = ", ".join(f"'{name}'" for name in place.kinds)
        yield Problem((*place.loc, "kind"), f"Required key is missing. Add one of {kinds}.")
    elif kind == "missing":
        yield Problem(place.loc, f"Required key is missing. Add it.{place.hint}")
    else:
        yield Problem(place.loc, _law(detail, ctx) + place.hint)


LAWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda _: "Must be text",
    "string_too_short": lambda _: "Must not be empty",
    "string_too_long": lambda ctx: f"Must have at most {ctx['max_length']} characters",
    "string_pattern_mismatch": lambda ctx: f"Must match the pattern {ctx['pattern']}",
    "int_type": lambda _: "Must be a whole number",
    "int_from_float": lambda _: "Must be a whole number",
    "float_type": lambda _: "Must be a number",
    "finite_number": lambda _: "Must be a finite number",
    "bool_type": lambda _: "Must be true or false",
    "greater_than": lambda ctx: f"Must be above {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"Must be at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"Must be below {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"Must be at most {ctx['le']:g}",
    "tuple_type": lambda _: "Must be a list such as [a, b]",
    "too_short": lambda ctx: f"Must have at least {ctx['min_length']} entries",
    "dict_type": lambda _: "Must be a mapping of keys to values",
    "model_type": lambda _: "Must be a mapping of keys to values",
    "model_attributes_type": lambda _: "Must be a mapping of keys to values",
}


def _law(detail: ErrorDetails, ctx: Mapping[str, Any]) -> str:
    """Return law and value of an error that concerns a single value."""
    if detail["type"] == "literal_error":
        return _one_of(detail["input"], _quoted(ctx["expected"]))
    law = LAWS.get(detail["type"])
    text = detail["msg"] if law is None else law(ctx)
    return f"{text}, got {format_value(detail['input'])}."


def _one_of(value: object, choices: Sequence[str]) -> str:
    names = ", ".join(f"'{name}'" for name in choices)
    near = did_you_mean(value, choices) if isinstance(value, str) else ""
    return (
        f"Must be {'one of ' if len(choices) > 1 else ''}{names}, got {format_value(value)}.{near}"
    )


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


class _Place(NamedTuple):
    """Hold a path without pydantic's tags, and what the model defines there.

    Attributes:
        loc: The path, as in the file.
        fields: Keys of the mapping that holds the last part.
        kinds: Values of `kind` that the place may have.
        hint: The field's description as a sentence, or nothing.
    """

    loc: Loc
    fields: tuple[str, ...]
    kinds: tuple[str, ...]
    hint: str


def _find(model: type[BaseModel], loc: Loc, *, keep_last: bool) -> _Place:
    """Walk the types along a pydantic path; parts that no type has are tags of unions."""
    types: list[Any] = [model]
    fields: tuple[str, ...] = ()
    path: list[str | int] = []
    hint = ""
    for i, part in enumerate(loc):
        fields = tuple(name for t in types if _is_model(t) for name in t.model_fields)
        below = [inner for t in types for inner in _below(t, part)]
        if below or (keep_last and i == len(loc) - 1):
            hint = next((_hint(t, part) for t in types if _hint(t, part)), "")
            path.append(part)
            types = below
        else:
            types = [t for t in types if part in (*_kinds(t), getattr(t, "__name__", ""))] or types
    kinds = tuple(kind for t in types for kind in _kinds(t))
    return _Place(tuple(path), fields, kinds, hint)


def _below(kind: Any, part: str | int) -> list[Any]:
    """Return the types that a part of a path leads to from one type; empty if none."""
    if _is_model(kind):
        field = kind.model_fields.get(part)
        return [] if field is None else _members(field.annotation)
    if get_origin(kind) is dict and isinstance(part, str):
        return _members(get_args(kind)[1])
    if get_origin(kind) is tuple and isinstance(part, int):
        return _members(get_args(kind)[0])
    return []


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union; of any other type, the type itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for arg in get_args(annotation) for member in _members(arg)]
    return [annotation]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kinds(kind: Any) -> tuple[str, ...]:
    """Return the values of a model's `kind` field, if any."""
    if not _is_model(kind) or "kind" not in kind.model_fields:
        return ()
    annotation = kind.model_fields["kind"].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _hint(kind: Any, part: str | int) -> str:
    field = kind.model_fields.get(part) if _is_model(kind) else None
    return f" {field.description}" if field is not None and field.description else ""
