"""Replace priors that name a finished study by the values that study found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import CryoError
from ...storage.plain_files import parse_json, read_file, require_file
from ..frozen import Loc, value_at
from .marked_yaml import Fault, Marked

FROM = "from"
LOC: Loc = ("search", "prior")


def inline_prior(marked: Marked, study: Path) -> None:
    """Replace `{from: result.json, ...}` by a prior for each number that study searched over.

    Keys beside `from` (`spread`, `weight`) go into each prior. Parameters outside the
    study's own space are skipped. Afterwards the study holds plain values and no longer depends on
    the other study's files.

    Args:
        marked: A study as read, with its search space inlined.
        study: The study's file; a path after `from` is relative to it.
    """
    search = marked.raw.get("search")
    prior = search.get("prior") if isinstance(search, dict) else None
    if not isinstance(prior, dict) or FROM not in prior:
        return
    source, rest = prior[FROM], {key: value for key, value in prior.items() if key != FROM}
    try:
        values = dict(_winning_values(_read(Path(os.path.normpath(study.parent / str(source))))))
    except CryoError as error:
        search["prior"] = {}
        marked.faults.append(Fault(marked.marks[(*LOC, FROM)], (*LOC, FROM), str(error)))
        return
    beliefs = {n: v for n, v in values.items() if n in _own(search, values)}
    if not beliefs:
        message = (
            f"'{source}' has no prior for this study: it searched over "
            f"{', '.join(values) or 'nothing'}, and no number of this study's space is among them. "
            "Drop the prior."
        )
        marked.faults.append(Fault(marked.marks[(*LOC, FROM)], (*LOC, FROM), message))
    search["prior"] = {name: {"center": value, **rest} for name, value in beliefs.items()}


def _winning_values(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every number that a study searched over, with its best value."""
    if result["winner"] is None:
        return
    for name in dict.fromkeys(name for trial in result["trials"] for name in trial["params"]):
        value = value_at(result["best_recipe"], tuple(name.split(".")))
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _own(search: Mapping[str, Any], values: Mapping[str, float]) -> set[str]:
    """Return the parameters of this study's space; for a function, all of `values`."""
    space = search.get("space")
    params = space.get("params") if isinstance(space, dict) else None
    if not isinstance(params, dict):
        return set(values)
    numbers = {n for n, p in params.items() if isinstance(p, dict) and p.get("kind") != "choice"}
    return numbers & set(values)


def _read(path: Path) -> dict[str, Any]:
    """Read the keys of a finished study's result that a prior needs."""
    file = path / "result.json" if path.is_dir() else path
    require_file(file)
    if not file.exists():
        message = f"Cannot read a prior from '{path}': no result.json there. Run that study first."
        raise CryoError(message)
    try:
        raw = parse_json(read_file(file))
        return {key: raw[key] for key in ("winner", "trials", "best_recipe")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"Cannot read a prior from '{path}': not the result of a finished study ({error}). Run that study first."
        raise CryoError(message) from error
