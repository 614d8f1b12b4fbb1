"""`make test-all` runs every test once: each is in one layer, and `.ci/run` runs every layer."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
MARKERS = [marker.partition(":")[0] for marker in OPTIONS["markers"]]
NOT_HERE = ("gpu", "network")
FAST = re.findall(r"-m '(.*?)'", OPTIONS["addopts"])
OTHERS = re.findall(r"^(?:SLOW|RAY|MACHINES) := (.*)$", MAKEFILE, flags=re.MULTILINE)
LAYERS = re.findall(r"^(test(?:-(?!all)\w+)?):", MAKEFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("marked", list(itertools.product([False, True], repeat=len(MARKERS))))
def test_every_combination_of_markers_is_in_one_layer(marked):
    flags = dict(zip(MARKERS, marked, strict=True))
    layers = [text for text in (*FAST, *OTHERS) if eval(text, {}, flags)]
    assert len(layers) == (0 if any(flags[name] for name in NOT_HERE) else 1)


def test_there_are_four_layers_and_make_test_all_runs_each_once():
    assert LAYERS == ["test", "test-slow", "test-ray", "test-machines"]
    assert (len(FAST), len(OTHERS)) == (1, len(LAYERS) - 1)
    (steps,) = re.findall(r"^test-all:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)
    assert steps.split() == " ".join(f"$(MAKE) {layer}" for layer in LAYERS).split()


def test_the_continuous_integration_runs_each_layer_once():
    (steps,) = re.findall(r"^for target in (.*); do$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert [step for step in steps.split() if step.startswith("test")] == LAYERS
    assert {"check", "quickstart"} < set(steps.split())
