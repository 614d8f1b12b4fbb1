"""What commands print besides their own output: warnings, progress, errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from cryo_hpo.cli.guard import GuardedGroup


@click.group(cls=GuardedGroup)
def group() -> None:
    """Hold one command."""


@group.command()
def work() -> None:
    """Log as a long command does."""
    log = logging.getLogger("cryo_hpo.prediction.scene")
    log.warning("the scene has no coordinates")
    log.info("decoding 2 scenes: 50 %%")
    log.debug("not for users")
    logging.getLogger("another.library").info("not ours")
    click.echo("done")


@pytest.fixture(params=["nothing set up", "a library's own handler"])
def root(request: pytest.FixtureRequest) -> Iterator[None]:
    handler = logging.Handler()
    handler.emit = lambda record: click.echo(f"again: {record.getMessage()}", err=True)  # type: ignore[method-assign]
    if request.param != "nothing set up":
        logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


@pytest.mark.usefixtures("root")
def test_warnings_and_progress_are_printed_once() -> None:
    for _ in range(2):
        done = CliRunner().invoke(group, ["work"])
        assert done.exit_code == 0
        assert done.stdout == "done\n"
        assert done.stderr == "the scene has no coordinates\ndecoding 2 scenes: 50 %%\n"
    assert logging.getLogger("cryo_hpo").handlers == []
    assert logging.getLogger("cryo_hpo").level == logging.NOTSET
