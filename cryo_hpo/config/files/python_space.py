"""Load search spaces from Python files: functions that return a space, or define-by-run ones."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from ...errors import CryoError, SpecError, UnknownName
from ..frozen import Problem, format_value
from ..messages import explain
from ..recipe import Recipe
from ..space import Choice, Float, Int, Scalar, SearchSpace, When
from ..study import DefineByRun
from ..variation import explain_unsearchable
from .marked_yaml import Mark
from .shipped import is_shipped

MODELS = {model.__name__: model for model in (Float, Int, Choice, When, SearchSpace)}
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def load_python(source: str, *, beside: Path) -> tuple[SearchSpace | DefineByRun, Mark]:
    """Read the search space of a Python function.

    A function without parameters is called and returns the space; one with a parameter is a
    define-by-run function, which the search calls with a trial.

    Args:
        source: `file.py:function`.
        beside: The folder that `file.py` is relative to.

    Returns:
        The space, and the place of its function.

    Raises:
        SpecError: The file is missing, lies outside the working directory or does not run; or
            the function is missing or is of neither kind.
    """
    name, _, function_name = source.partition(".py:")
    if not function_name:
        message = f"No function is named in '{source}'. Write 'file.py:function'."
        raise SpecError(message)
    file = _inside(beside / f"{name}.py")
    function = _function(file, function_name)
    mark = Mark(file, _line_of(function))
    if _num_parameters(function) == 1:
        return DefineByRun(file=file, function=function_name), mark
    if _num_parameters(function) > 1:
        message = (
            f"{mark.file}:{mark.line}: '{function_name}' takes {_num_parameters(function)} "
            "parameters. Take none and return a SearchSpace, or take one, the trial."
        )
        raise SpecError(message)
    space = _run(file, function)
    if not isinstance(space, SearchSpace):
        message = (
            f"{mark.file}:{mark.line}: '{function_name}' returned {_type(space)}, not a "
            "SearchSpace. Return one, or take a trial as parameter."
        )
        raise SpecError(message)
    return space, mark


def load_callable(space: DefineByRun) -> Callable[[Any], dict[str, Any]]:
    """Return a define-by-run function: Optuna trial -> recipe path -> value.

    Raises:
        SpecError: The file is missing, lies outside the working directory or does not run; or
            the function is missing, or does not take one parameter.
    """
    file = _inside(Path(space.file))
    function = _function(file, space.function)
    if _num_parameters(function) != 1:
        message = (
            f"{file}:{_line_of(function)}: '{space.function}' takes {_num_parameters(function)} "
            "parameters, and a define-by-run function takes one, the trial. "
            "For a function that returns a space, write 'file.py:function'."
        )
        raise SpecError(message)
    return function


def check_corners(space: DefineByRun, base: Recipe) -> Iterator[Problem]:
    """Call a define-by-run function at two corners of its space, and yield the problems there.

    Each corner takes every first or every last value; values in between are checked as trials run.
    """
    try:
        function = load_callable(space)
        corners = [
            _run(_inside(Path(space.file)), function, _Corner(last=x)) for x in (False, True)
        ]
    except SpecError as error:
        yield Problem((), str(error))
        return
    for point in corners:
        if not isinstance(point, Mapping) or not point:
            message = (
                f"'{space.function}' returned {_type(point)}, not recipe paths with values. "
                "Return a dict such as {'optim.lr': trial.suggest_float('optim.lr', 1e-6, 1e-2)}."
            )
            yield Problem((), message)
            return
        for path, value in point.items():
            message = explain_unsearchable(base, str(path), value)
            if message:
                yield Problem((), f"'{space.function}' gives '{path}': {message}")


class _Corner:
    """Suggest the first or the last value of each parameter."""

    def __init__(self, *, last: bool) -> None:
        self._last = last

    def __getattr__(self, name: str) -> Any:
        methods = "suggest_float, suggest_int and suggest_categorical"
        message = f"a trial has {methods}, not {name}"
        raise AttributeError(message)

    def suggest_float(
        self,
        name: str,  # noqa: ARG002
        low: float,
        high: float,
        *,
        step: float | None = None,  # noqa: ARG002
        log: bool = False,  # noqa: ARG002
    ) -> float:
        return high if self._last else low

    def suggest_int(
        self,
        name: str,  # noqa: ARG002
        low: int,
        high: int,
        *,
        step: int = 1,
        log: bool = False,  # noqa: ARG002
    ) -> int:
        return high - (high - low) % step if self._last else low

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Scalar:  # noqa: ARG002
        return choices[-1 if self._last else 0]


def _inside(path: Path) -> str:
    """Return a path relative to the working directory; only shipped files may lie outside."""
    file, folder = path.resolve(), Path.cwd().resolve()
    if not file.is_relative_to(folder):
        if is_shipped(str(path)):
            return str(path)
        message = (
            f"'{file}' is outside the working directory '{folder}', and a Python space is code that "
            "runs. Copy it there, or start from its own project."
        )
        raise SpecError(message)
    if not file.is_file():
        message = f"There is no search space file '{os.path.normpath(path)}'. Check the path, which is relative to the file that names it."
        raise SpecError(message)
    return file.relative_to(folder).as_posix()


def _function(file: str, name: str) -> Callable[..., Any]:
    """Run a file and return one of its functions; the module is not kept."""
    module = ModuleType(f"_space_{Path(file).stem}")
    module.__file__ = str(Path(file).resolve())
    try:
        code = compile(Path(file).read_bytes(), file, "exec")
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        message = f"{file}{line}: Not valid Python: {getattr(error, 'msg', error)}."
        raise SpecError(message) from error
    _run(file, exec, code, module.__dict__)
    own = [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    if name not in own:
        raise UnknownName(name, valid=own, what=f"function in '{file}'")
    function: Callable[..., Any] = vars(module)[name]
    return function


def _run(file: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a user's function; what it raises becomes a SpecError with the line in the file."""
    try:
        return function(*args)
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        place = f"{file}:{lines[-1]}" if lines else file
        if isinstance(error, ValidationError) and error.title in MODELS:
            problems = explain(error, MODELS[error.title])
            message = "\n".join(f"{place}: {error.title}: {problem}" for problem in problems)
        elif isinstance(error, CryoError):
            message = f"{place}: {error}"
        else:
            message = f"{place}: The code of the space raised {type(error).__name__}: {error}. Fix it there."
        raise SpecError(message) from error


def _num_parameters(function: Callable[..., Any]) -> int:
    """Return the number of required positional parameters."""
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in POSITIONAL and p.default is p.empty for p in parameters)


def _line_of(function: Callable[..., Any]) -> int:
    return int(inspect.unwrap(function).__code__.co_firstlineno)


def _type(value: object) -> str:
    return (
        format_value(value)
        if value is None or isinstance(value, Mapping)
        else f"a {type(value).__name__}"
    )
