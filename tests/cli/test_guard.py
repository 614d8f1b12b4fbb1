"""What commands print besides their own output: warnings, progress, errors."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from cryo_hpo.cli.guard import KEPT, GuardedGroup
from cryo_hpo.execution.signals import Stopped


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


@group.command()
@click.argument("name")
def end(name: str) -> None:
    """Get a signal while it works."""
    signal.raise_signal(signal.Signals[name])


@group.command()
def stop() -> None:
    """End as a study does that was requested to stop."""
    raise Stopped


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


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [("SIGTERM", 143, "Ended by SIGTERM."), ("SIGINT", 130, "Interrupted.")],
)
def test_a_signal_is_answered_in_words(name: str, code: int, words: str) -> None:
    done = CliRunner().invoke(group, ["end", name])
    assert done.exit_code == code
    assert done.stderr == f"{words} {KEPT}\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_study_that_stopped_on_request_has_said_so_itself() -> None:
    done = CliRunner().invoke(group, ["stop"])
    assert (done.exit_code, done.stderr) == (130, "")
