"""The shape of the house: imports only go down, no file circles, each library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cryo_hpo"
FLOORS = [
    {"errors", "stats"},
    {"bands", "storage"},
    {"models", "tracking"},
    {"config"},
    {"data", "results"},
    {"evaluation", "monitoring", "search"},
    {"report", "training"},
    {"execution", "prediction"},
    {"study"},
    {"campaign"},
    {"__init__", "cli", "spec", "specfile"},
    {"__main__"},
]
DOORS = {
    "ray": {"execution"},
    "optuna": {"search", "config"},
    "mlflow": {"tracking"},
    "wandb": {"tracking"},
    "IPython": {"monitoring"},
    "matplotlib": {"report", "results"},  # results: only as the type of what its plots return
    "pyarrow": {"training"},
    "rasterio": {"data"},
    "pyogrio": {"data"},
    "shapely": {"data"},
    "timm": {"models"},
    "prodigyopt": {"training"},
    "schedulefree": {"training"},
    "huggingface_hub": {"models"},
    "yaml": {"config"},
    "pydantic": {"config", "prediction", "results"},
    "click": {"cli"},
    "rich": {"monitoring", "study", "campaign"},
    "sqlalchemy": {"search", "tracking"},
    "scipy": {"data", "evaluation", "search", "stats"},
    "torchvision": {"models"},
    "cryo_hpo": set(),  # inside the package, imports are relative
}
# Names that say nothing of the value they hold.
EMPTY_NAMES = {
    *("asked", "found", "gone", "got", "here", "known", "one", "some"),
    *("that", "there", "these", "thing", "things", "those", "told"),
}
# First words of a docstring that does not say what the thing does.
NO_VERBS = {
    *("a", "an", "how", "it", "its", "of", "old", "one", "that", "the", "these", "this"),
    *("those", "what", "when", "where", "whether", "which", "who", "why"),
}
NOUNS = {"config", "errors"}  # their classes are what users read of a specification or a failure
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _module(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {_module(path): path for path in FILES}


def _files_imported(path: Path) -> set[Path]:
    """Return the files of this package that a file imports, those for types only included."""
    own = path.relative_to(PACKAGE).parts[:-1]
    files = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.ImportFrom) and node.level):
            continue
        base = own[: len(own) - node.level + 1] + tuple((node.module or "").split("."))
        base = tuple(part for part in base if part)
        names = [(*base, alias.name) for alias in node.names]
        files |= {MODULES[name] for name in names if name in MODULES}
        if any(name not in MODULES for name in names):
            files.add(MODULES[base])
    return files - {path}


def _outside(path: Path) -> set[str]:
    """Return the libraries that a file imports."""
    outside: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add((node.module or "").split(".")[0])
    return outside


def test_every_room_has_a_floor() -> None:
    assert {_room(path) for path in FILES} == set(FLOOR)


def test_imports_only_go_down() -> None:
    up = [
        f"{path.relative_to(PACKAGE)} (floor {FLOOR[room]}) imports {other.relative_to(PACKAGE)}"
        for path in FILES
        for other in sorted(_files_imported(path))
        if (room := _room(path)) != _room(other) and FLOOR[_room(other)] >= FLOOR[room]
    ]
    assert not up, "\n".join(up)


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph = {path: _files_imported(path) for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " -> ".join(str(path.relative_to(PACKAGE)) for path in error.args[1])
        raise AssertionError(circle) from None


def test_each_library_has_one_door() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {library}"
        for path in FILES
        for library in sorted(_outside(path))
        if _room(path) not in DOORS.get(library, {_room(path)})
    ]
    assert not wrong, "\n".join(wrong)


def test_files_stay_small() -> None:
    long = [path.name for path in FILES if len(path.read_text().splitlines()) > 400]
    assert not long, f"{long}: split files of more than 400 lines"


def _names_bound(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of every variable, parameter, attribute and function that a file binds."""
    for node in ast.walk(ast.parse(path.read_text())):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield line, name
            case ast.arg(arg=name) | ast.alias(asname=str(name)):
                yield line, name
            case (
                ast.FunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                yield line, name


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "self.told = 1",
        "def f(*, one): ...",
        "[one for one in x]",
        "def told(): ...",
        "with x as there: ...",
        "_known = 1",
    ],
)
def test_empty_names_are_noticed(code: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(code)
    assert {name.strip("_") for _, name in _names_bound(tmp_path / "code.py")} & EMPTY_NAMES


def test_names_say_what_they_hold() -> None:
    empty = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in FILES
        for line, name in _names_bound(path)
        if name.strip("_") in EMPTY_NAMES
    ]
    assert not empty


def _undescribed(path: Path) -> Iterator[str]:
    """Yield the docstrings whose first word is no verb."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if isinstance(node, ast.ClassDef) and _room(path) in NOUNS:
            continue
        if isinstance(node, ast.FunctionDef) and any(
            "property" in ast.unparse(d) for d in node.decorator_list
        ):
            continue
        line = (ast.get_docstring(node) or "").partition("\n")[0]
        if line.split(" ")[0].lower() in NO_VERBS:
            yield f"{path.relative_to(PACKAGE)}: {line}"


def test_docstrings_begin_with_what_the_thing_does() -> None:
    assert not [line for path in FILES for line in _undescribed(path)]


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "ray", "mlflow", "rasterio", "timm", "matplotlib", "optuna", "scipy.stats")
    code = f"import cryo_hpo, sys; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


def test_models_leave_out_what_only_the_training_scripts_of_timm_need() -> None:
    code = "import cryo_hpo.models, sys; print('wandb' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert run.stdout.strip() == "False", run.stdout + run.stderr
