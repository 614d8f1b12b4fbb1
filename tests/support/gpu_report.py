"""A pytest plugin that writes what the tests for a GPU found to a file that a user can send.

`GPU_REPORT` names the file; a test adds facts by `record_property`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch

LIBRARIES = (
    "cryo-hpo",
    "torch",
    "torchvision",
    "timm",
    "ray",
    "numpy",
    "prodigyopt",
    "schedulefree",
)
ROWS: dict[str, dict[str, str]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Measure the peak memory of every test on the card."""
    on_card = torch.cuda.is_available()
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    try:
        return (yield)
    finally:
        if on_card:
            peak = torch.cuda.max_memory_allocated() / 2**20
            item.user_properties.append(("peak MiB", f"{peak:.0f}"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of every test."""
    if report.when != "call" and report.outcome == "passed":
        return
    facts = dict(report.user_properties)
    ROWS[report.nodeid] = {
        "outcome": report.outcome,
        "seconds": f"{report.duration:.1f}",
        "peak": str(facts.pop("peak MiB", "-")),
        "facts": ", ".join(f"{name}: {value}" for name, value in facts.items()),
    }
    if report.failed:
        ROWS[report.nodeid]["facts"] += " " + report.longreprtext.strip().splitlines()[-1][:200]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    file = os.environ.get("GPU_REPORT")
    if file:
        Path(file).write_text("\n".join(_lines()) + "\n", encoding="utf-8")


def _lines() -> Iterator[str]:
    yield "# Tests on a GPU\n"
    yield from (f"- {name}: {value}" for name, value in _machine().items())
    outcomes = [row["outcome"] for row in ROWS.values()]
    counts = ", ".join(f"{outcomes.count(word)} {word}" for word in ("passed", "failed", "skipped"))
    yield f"\n{counts if ROWS else 'No test ran'}.\n"
    yield "| test | outcome | seconds | peak MiB on the card | notes |\n| --- | --- | --: | --: | --- |"
    for name, row in ROWS.items():
        cells = (name, row["outcome"], row["seconds"], row["peak"], row["facts"].replace("|", "/"))
        yield f"| {' | '.join(cells)} |"


def _machine() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "card": "none: a rehearsal on the CPU, which says nothing about a card"
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        facts = {
            "card": f"{card.name}, {card.total_memory / 2**30:.1f} GiB, capability "
            f"{card.major}.{card.minor}; {torch.cuda.device_count()} visible",
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "CUDA of torch": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    facts["versions"] = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    facts["commit"] = _output("git", "describe", "--always", "--dirty")
    facts["machine"] = f"{platform.platform()}, Python {platform.python_version()}"
    return facts


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()) or "unknown"
