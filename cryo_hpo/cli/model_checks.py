"""Refuse options of `predict` and `export` without effect, and warn of models that learned nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ..errors import SpecError

if TYPE_CHECKING:
    from ..prediction.card import ModelCard


def require_option(needed: str, why: str, *names: str) -> None:
    """Refuse options of the running command that were given without the one that they need.

    Args:
        needed: What to add, such as "--vector FILE.gpkg".
        why: What the options are of.
        names: Parameters of the command.

    Raises:
        SpecError: One of the options was given.
    """
    options = _given(*names)
    if options:
        verb = "has" if len(options) == 1 else "have"
        message = (
            f"{' and '.join(options)} {verb} no effect here: {why}. Add {needed}, or leave it out."
        )
        raise SpecError(message)


def refuse_choice(model: Path, *names: str) -> None:
    """Refuse options that choose among a study's trainings where the model is an exported one.

    Raises:
        SpecError: One of the options was given.
    """
    options = _given(*names)
    if options and not is_study(model):
        message = (
            f"{' and '.join(options)} cannot choose: '{model}' is one exported model. Give the "
            "study's name or folder in its place, or leave the choice out."
        )
        raise SpecError(message)


def refuse_both(first: str, second: str, why: str) -> None:
    """Refuse two options of the running command that exclude each other.

    Raises:
        SpecError: Both were given.
    """
    if len(options := _given(first, second)) == 2:
        raise SpecError(f"{why}: give {' or '.join(options)}, not both.")


def is_study(path: Path) -> bool:
    """Return whether a path is of a study, by its folder or its result.json."""
    return path.is_dir() or path.suffix == ".json"


def warn_of_weak_models(cards: Sequence[ModelCard]) -> None:
    """Warn of models that beat no map of one class everywhere, did not learn or were still rising.

    Args:
        cards: Cards of the models that map together; those of older versions hold no warnings.
    """
    from ..report.warning import model_warnings

    for text in model_warnings(cards):
        click.echo(f"Warning: {text}", err=True)


def _given(*names: str) -> list[str]:
    """Return those parameters of the running command that were given, as options."""
    source = click.get_current_context().get_parameter_source
    return [f"--{name}" for name in names if source(name) is ParameterSource.COMMANDLINE]
