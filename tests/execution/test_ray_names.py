"""Of Ray's private names only those are used whose absence costs little, so its pin may be wide."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cryo_hpo.execution

FILES = sorted(Path(cryo_hpo.execution.__file__).parent.glob("*.py"))
# Each is tried: without it a message lacks its place, a worker is watched from its first answer on
# only, or a process whose Ray has died ends later.
TRIED = {
    "ray_hanging.py": ["_actor_id", "_private"],
    "ray_start.py": ["_private", "_unregister_all"],
    "ray_tune.py": [
        "_actor_manager",
        "_live_actors_to_ray_actors_resources",
        "_trial_to_actor",
    ],
}


def _private(tree: ast.AST) -> Iterator[str]:
    """Yield private names of other modules or objects that some code uses."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("os._exit", "libc._exit"):
            continue  # the C library's, by the name that Python gives it
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "super()"):
            names = [node.attr]
        yield from (name for name in names if name.startswith("_") and not name.endswith("__"))


def test_no_private_name_of_ray_is_used_that_must_be_there() -> None:
    used = {file.name: sorted(set(_private(ast.parse(file.read_text())))) for file in FILES}
    assert {name: names for name, names in used.items() if names} == TRIED


def test_a_private_name_would_be_found() -> None:
    code = "from ray.tune._x import y\nimport ray._private\nrule._brackets\nself._own"
    assert sorted(_private(ast.parse(code))) == ["_brackets", "_private", "_x"]
