"""The shape of the house: imports only go down, and each library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cryo_hpo"
FLOORS = [
    {"errors", "frozen"},
    {
        "across",
        "bands",
        "cards",
        "events",
        "divergence",
        "fetch",
        "layout",
        "memory",
        "metrics",
        "protocol",
        "provenance",
        "rungs",
        "sheets",
        "space",
        "spool",
        "stats",
        "tiling",
    },
    {"spec", "data", "models", "mosaic", "result", "yamlmarks"},
    {
        "campaign_result",
        "catalog",
        "specfile",
        "tracking",
        "averaging",
        "optim",
        "losses",
        "evaluate",
        "checkpoints",
        "published",
        "gradients",
        "remote",
    },
    {"diagnosis", "assemble", "folder", "listing", "progress"},
    {"checks", "exported", "plan", "records", "response", "train", "tables"},
    {"predict", "report", "contact", "tune"},
    {"testsplit"},
    {"verdict"},
    {"study"},
    {"campaign"},
    {"api"},
    {"commands"},
    {"__main__", "__init__"},
]
DOORS = {
    "ray": {"tune"},
    "optuna": {"tune", "space"},
    "mlflow": {"tracking"},
    "matplotlib": {"report", "contact"},
    "pyarrow": {"remote"},
    "rasterio": {"data"},
    "timm": {"models"},
    "yaml": {"specfile", "yamlmarks"},
    "pydantic": {
        "frozen",
        "cards",
        "space",
        "spec",
        "specfile",
        "result",
        "campaign_result",
        "exported",
        "response",
        "yamlmarks",
    },
    "click": {"__main__", "commands"},
    "rich": {"progress", "study", "campaign", "api"},
    "sqlalchemy": {"tracking", "tune"},
    "scipy": {"across", "data", "stats", "tune"},
    "torchvision": {"models"},
    "cryo_hpo": set(),  # inside the house, imports are relative
}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> tuple[set[str], set[str]]:
    """Return the rooms of this package, and the outside libraries, that a file imports."""
    depth = len(path.relative_to(PACKAGE).parts)
    rooms: set[str] = set()
    outside: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            rooms |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
    return rooms, outside


def test_every_room_has_a_floor() -> None:
    assert {_room(path) for path in FILES} == set(FLOOR)


@each_file
def test_imports_only_go_down(path: Path) -> None:
    room = _room(path)
    up = {r for r in _imports(path)[0] if r != room and FLOOR[r] >= FLOOR[room]}
    assert not up, f"{room} (floor {FLOOR[room]}) may not import {sorted(up)}"


@each_file
def test_each_library_has_one_door(path: Path) -> None:
    room = _room(path)
    wrong = {lib for lib in _imports(path)[1] if room not in DOORS.get(lib, {room})}
    assert not wrong, f"{room} may not import {sorted(wrong)}"


@each_file
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, f"{path.name} wants to be two files"


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "ray", "mlflow", "rasterio", "timm", "matplotlib", "optuna")
    code = f"import cryo_hpo, sys; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
