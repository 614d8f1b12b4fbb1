"""What commands print besides their own output: warnings, progress, errors."""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cryo_hpo.cli.guard import KEPT, NO_MEMORY, GuardedGroup
from cryo_hpo.execution.signals import Stopped
from cryo_hpo.storage.os_errors import OTHER, explain


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


@group.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--mkdir", is_flag=True)
@click.option("--resolve", is_flag=True)
def use(path: Path, *, mkdir: bool, resolve: bool) -> None:
    """Use a path as a command does that has no message of its own for it."""
    if mkdir:
        path.mkdir(parents=True)
    if resolve:
        path.resolve()
    if path.exists():
        path.read_bytes()


@group.command()
def fill() -> None:
    """Request more memory than there is."""
    bytearray(2**62)


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


def test_a_path_that_the_system_refuses_is_a_message_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    long = "x" * 300
    cases = (
        ([long], f"'{long[:60]}...{long[:60]}': File name too long. Give a shorter name."),
        (["."], "'.': Is a directory. It is a folder: name a file."),
        ([tmp_path / "file" / "in", "--mkdir"], "Not a directory. A part of this path is a file"),
        ([tmp_path / "file", "--mkdir"], "File exists. Remove it, or name another path."),
        ([tmp_path / "a" / "in", "--mkdir"], "Its symbolic links lead in a circle: remove one"),
        ([tmp_path / "a", "--resolve"], "Its symbolic links lead in a circle: remove one"),
        (["/proc/none", "--mkdir"], "'/proc/none': No such file or directory. Check the path."),
    )
    for words, message in cases:
        done = CliRunner().invoke(group, ["use", *map(str, words)])
        assert done.exit_code == 1, words
        assert isinstance(done.exception, SystemExit), words
        assert message in done.stderr, words
        assert done.stderr.count("\n") == 1, words


def test_too_little_memory_is_a_message() -> None:
    done = CliRunner().invoke(group, ["fill"])
    assert (done.exit_code, done.stderr) == (1, f"{NO_MEMORY}\n")


def test_every_error_of_the_system_has_a_remedy() -> None:
    for number in errno.errorcode:
        message = explain(OSError(number, os.strerror(number), "/data/x"))
        assert message.startswith("'/data/x': "), message
        assert message.endswith("."), message
    assert explain(TimeoutError()) == f"TimeoutError. {OTHER}"
    assert explain(OSError("the server is away.")) == f"the server is away. {OTHER}"
