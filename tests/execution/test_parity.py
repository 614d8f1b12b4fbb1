"""The same study inline and on Ray, one trial at a time: the same trace to the last decision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.results.study import load_result

from ..support.clusters import Head, tiny_study
from ..support.recorded import recorded_events

RULES: dict[str, dict[str, Any]] = {
    "promote": {"kind": "asha", "rule": "promote", "grace_epochs": 1, "reduction": 2},
    "stop": {"kind": "asha", "rule": "stop", "grace_epochs": 1, "reduction": 2},
    "none": {"kind": "none"},
}


def _run(place: Path, storage: str, *options: str, env: Mapping[str, str] = {}) -> Path:
    folders = {"DATA": place / "data", "CACHE": place / "cache", "STORAGE": place / storage}
    places = {f"CRYO_{name}": str(folder) for name, folder in folders.items()}
    done = subprocess.run(
        [sys.executable, "-m", "cryo_hpo", "run", *options, "study.yaml"],
        env={**os.environ, **places, **env, "OMP_NUM_THREADS": "1"},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout
    return place / storage / "parity"


def _events(folder: Path) -> list[tuple[Any, ...]]:
    """Return what happened in which order, without the repeated epochs of resumed trials.

    Energy is measured where all training is in this process, so only inline.
    """
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    facts = [
        (e["event"], e.get("key"), e.get("epoch"), e.get("state"))
        for e in lines
        if e["event"] != "energy"
    ]
    return list(dict.fromkeys(facts))


@pytest.mark.ray
@pytest.mark.parametrize("rule", RULES)
def test_a_study_leaves_the_same_trace_inline_and_on_ray(
    rule: str, ray_head: Head, tmp_path: Path
) -> None:
    search = {"search__scheduler": RULES[rule], "search__trials": 6, "search__sampler": "tpe"}
    rates = {"optim.lr": {"kind": "float", "low": 1e-4, "high": 3e-1, "log": True}}
    tiny_study(
        tmp_path, tmp_path / "data", name="parity", search__space={"params": rates}, **search
    )
    inline, ray = _run(tmp_path, "inline", "--inline"), _run(tmp_path, "ray", env=ray_head.joined)
    one, other = load_result(inline), load_result(ray)
    for mine, theirs in zip(one.trials, other.trials, strict=True):
        assert mine.params == theirs.params, "the proposal"
        assert mine.steps == theirs.steps, "the decisions at rungs"
        assert mine.curve == theirs.curve, "the scores, bit for bit"
        assert (mine.state, mine.message) == (theirs.state, theirs.message)
    assert one.winner == other.winner
    assert one.best_recipe == other.best_recipe
    for arm, same in zip(one.arms, other.arms, strict=True):
        assert [s.test_iou for s in arm.seeds] == [s.test_iou for s in same.seeds]
    assert one.improvement == other.improvement
    assert [e for e in _events(inline) if e[0] != "epoch"] == [
        e for e in _events(ray) if e[0] != "epoch"
    ]
    if rule != "none":
        decisions = {step.decision for trial in one.trials for step in trial.steps}
        assert len(decisions) > 1, "some trial was held back, and some was not"


@pytest.mark.ray
def test_packs_on_ray_give_the_scores_of_trainings_alone(ray_head: Head, tmp_path: Path) -> None:
    """Random proposals depend on no result, and a frozen encoder is shared bit for bit."""
    changes: dict[str, Any] = {
        "base__model": {"encoder": "unet", "decoder": "unet", "width": 4, "tune": "frozen"},
        "search__trials": 4,
        "search__parallel": 4,
    }
    for pack, storage in ((1, "alone"), (4, "packed")):
        resources = {"cpus": 1, "gpus": 0, "pack": pack}
        tiny_study(tmp_path, tmp_path / "data", name="parity", resources=resources, **changes)
        options, env = (("--inline",), {}) if pack == 1 else ((), ray_head.joined)
        _run(tmp_path, storage, *options, env=env)
    alone, packed = (load_result(tmp_path / s / "parity") for s in ("alone", "packed"))
    assert [(t.params, t.curve, t.state) for t in alone.trials] == [
        (t.params, t.curve, t.state) for t in packed.trials
    ]
    for one, other in zip(alone.arms, packed.arms, strict=True):
        assert [s.test_iou for s in one.seeds] == [s.test_iou for s in other.seeds]
    epochs = recorded_events(tmp_path / "packed" / "parity", "epoch")
    assert {e["together"] for e in epochs if e["key"].startswith("trial")} == {4}
    assert {e["together"] for e in epochs if "-seed" in e["key"]} == {2}, "pairs of one seed"
    assert [e["key"] for e in epochs[:4]] == [f"trial-000{number}" for number in range(4)]
