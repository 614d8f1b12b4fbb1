"""Write studies and search spaces as YAML, compare them, and describe their files to editors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from ..space import SearchSpace
from ..study import Study
from .marked_yaml import write

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def dump_study(study: Study) -> str:
    """Return a study as complete YAML: `load_study` of it gives the same study."""
    return write(study.model_dump(mode="json"))


def dump_space(space: SearchSpace) -> str:
    """Return a search space as YAML: `load_space` of it gives the same space."""
    return write(space.model_dump(mode="json"))


def differences(a: BaseModel, b: BaseModel) -> list[str]:
    """Return what changes from one spec to another, such as "base.epochs: 9 -> 27"."""
    before, after = (dict(_leaves(spec.model_dump(mode="json"))) for spec in (a, b))
    return [
        f"{path}: {before.get(path, 'absent')} -> {after.get(path, 'absent')}"
        for path in {**before, **after}
        if (path in before, before.get(path)) != (path in after, after.get(path))
    ]


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> text of each value that differs between two specs and that both hold.

    A key of one alone is no difference: versions of this package add keys with defaults.
    """
    old, new = (dict(_leaves(spec)) for spec in (before, after))
    return {
        path: f"{path}: {old[path]} -> {new[path]}"
        for path in old
        if path in new and old[path] != new[path]
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema of study files, for editors."""
    return schema_of(Study)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of files of studies, or of models made of studies."""
    whole = _schema(model)
    space = whole["$defs"]["Search"]["properties"]["space"]
    text = {
        "type": "string",
        "description": "Name of a space that ships (lr), or a YAML file or file.py:function, relative to this file.",
    }
    space["anyOf"] = [text, *space.pop("oneOf")]
    card = whole["$defs"]["DataSpec"]["properties"]["card"]
    text = {
        "type": "string",
        "description": "Name of a card that ships, or a YAML file, relative to this file.",
    }
    card["anyOf"] = [text, *card["anyOf"]]
    prior = whole["$defs"]["Search"]["properties"]["prior"]
    text = {"type": "string", "description": "Folder of a finished study, or its result.json."}
    fields = whole["$defs"]["Prior"]["properties"]
    by_study = {
        "type": "object",
        "properties": {"from": text, "spread": fields["spread"], "weight": fields["weight"]},
        "required": ["from"],
        "additionalProperties": False,
    }
    plain = {key: prior.pop(key) for key in ("type", "additionalProperties")}
    prior["anyOf"] = [by_study, plain]
    return whole


def space_schema() -> dict[str, Any]:
    """Return the JSON Schema of search-space files, for editors."""
    return _schema(SearchSpace)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    whole = model.model_json_schema()
    for name, kind in whole["$defs"].items():
        if name != "NoStopping" and "kind" in kind.get("properties", {}):
            kind["required"] = ["kind", *kind.get("required", [])]  # files must name the kind
    return {"$schema": DIALECT, **whole}


def _leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
