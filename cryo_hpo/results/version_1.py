"""Convert the result files of version 1, which cryo_hpo 0.1.0 wrote, to version 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Decision = Literal["continued", "paused", "promoted", "pruned"]

DECISIONS: dict[str, Decision] = {  # name in version 1 -> name in version 2
    "went on": "continued",
    "waited": "paused",
    "promoted": "promoted",
    "carried on": "promoted",
    "paused": "pruned",
    "stopped": "pruned",
}
INTERVALS = {  # name in version 2 -> names of estimate, lower and upper limit in version 1
    "relative_pct": ("relative_pct", "low_pct", "high_pct"),
    "typical_pct": ("typical_pct", "typical_low_pct", "typical_high_pct"),
    "bca_pct": ("relative_pct", "bca_low_pct", "bca_high_pct"),
    "scenes_pct": ("relative_pct", "scenes_low_pct", "scenes_high_pct"),
}
FLAT = {name for names in INTERVALS.values() for name in names} | {"level"}


def upgrade_study(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a study's result of version 1 as one of version 2; any other value unchanged."""
    if raw["version"] != 1:
        return raw
    try:
        trials = [_upgrade_trial(trial) for trial in raw["trials"]]
        improvement = raw["improvement"] and {
            **_upgrade_improvement(raw["improvement"]),
            "differences": _differences(raw["arms"]),
        }
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ):  # not a result: validation reports the problems
        return raw
    return {**raw, "version": 2, "trials": trials, "improvement": improvement}


def upgrade_campaign(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a campaign's result of version 1 as one of version 2; any other value unchanged."""
    if raw["version"] != 1:
        return raw
    try:
        cells = [
            {
                **cell,
                "improvement": _upgrade_improvement(cell["improvement"])
                | {"differences": _subtract(cell["tuned"], cell["baseline"])},
            }
            for cell in raw["cells"]
        ]
        overall = dict(raw["overall"])
        ends = {
            end: overall.pop(name)
            for end, name in (
                ("mid", "mean_relative_pct"),
                ("low", "low_pct"),
                ("high", "high_pct"),
            )
        }
        level = overall.pop("level")
    except (AttributeError, KeyError, TypeError, ValueError):
        return raw
    overall["relative_pct"] = None if ends["mid"] is None else {**ends, "level": level}
    return {**raw, "version": 2, "cells": cells, "overall": overall}


def _upgrade_trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    steps = [{**step, "decision": DECISIONS[step["decision"]]} for step in trial.get("steps", ())]
    return {**trial, "steps": steps}


def _upgrade_improvement(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return an improvement whose intervals are values instead of three fields each."""
    values = {name: value for name, value in flat.items() if name not in FLAT}
    for name, (mid, low, high) in INTERVALS.items():
        values[name] = {
            "low": flat[low],
            "mid": flat[mid],
            "high": flat[high],
            "level": flat["level"],
        }
    if flat["scenes_low_pct"] is None and flat["scenes_high_pct"] is None:
        values["scenes_pct"] = None
    return values


def _differences(arms: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return tuned minus baseline on every seed; zeros where the baseline won."""
    scores = {arm["name"]: [seed["test_miou"] for seed in arm["seeds"]] for arm in arms}
    baseline = scores["baseline"]
    return _subtract(scores.get("tuned", baseline), baseline)


def _subtract(tuned: Sequence[float], baseline: Sequence[float]) -> list[float]:
    return [t - b for t, b in zip(tuned, baseline, strict=True)]
