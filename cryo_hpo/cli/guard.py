"""What all commands share: errors as one message, the place of the site, a file's lines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CryoError, SpecError

if TYPE_CHECKING:
    from ..config import Site

STUDY = click.argument("study", type=click.Path(path_type=Path))


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Show our own errors as one message: exit code 2 for a wrong spec, 1 for the rest."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except SpecError as error:
            click.echo(str(error), err=True)
            sys.exit(2)
        except CryoError as error:
            click.echo(str(error), err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)

    return run


def site_here() -> Site:
    """Return the machine's facts, from the environment."""
    from ..config import Site

    return Site.from_env(os.environ)


@contextlib.contextmanager
def lines_of(study: Path) -> Iterator[None]:
    """Put the line of the study's file before what is wrong with one of its keys."""
    from ..config import placed

    try:
        yield
    except CryoError as error:
        raise placed(error, study) from error
