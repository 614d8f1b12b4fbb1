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
OTHERS = re.findall(r"^(?:SLOW|FAKE_CUDA|RAY|MACHINES) := (.*)$", MAKEFILE, flags=re.MULTILINE)
LAYERS = ["test", "test-slow", "test-fake-cuda", "test-ray", "test-machines"]


def _steps(target: str) -> str:
    """Return the commands of a target of the Makefile."""
    (steps,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)
    return str(steps)


@pytest.mark.parametrize("marked", list(itertools.product([False, True], repeat=len(MARKERS))))
def test_every_combination_of_markers_is_in_one_layer(marked):
    flags = dict(zip(MARKERS, marked, strict=True))
    layers = [text for text in (*FAST, *OTHERS) if eval(text, {}, flags)]
    assert len(layers) == (0 if any(flags[name] for name in NOT_HERE) else 1)


def test_make_test_all_runs_each_layer_once():
    assert _steps("test-all").split() == " ".join(f"$(MAKE) {layer}" for layer in LAYERS).split()
    assert (len(FAST), len(OTHERS)) == (1, len(LAYERS) - 1)


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_a_layer_runs_its_own_tests(layer):
    marker = layer.removeprefix("test-").upper().replace("-", "_")
    assert re.findall(r"-m (\S+)", _steps(layer).replace("-m pytest", "")) == [
        f'"$({marker})"'
    ] * _steps(layer).count("$(PYTEST)")


def test_the_continuous_integration_runs_each_layer_once():
    loops = re.findall(r"^ *for target in (.*); do$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    always, clusters = (loop.split() for loop in loops)
    assert [step for step in (*always, *clusters) if step.startswith("test")] == LAYERS
    assert {"check", "quickstart", *LAYERS[:3]} < set(always)
