"""Define `cryo-hpo status` and `cryo-hpo stop`: see what runs in the storage, and stop a study."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .guard import read_site

if TYPE_CHECKING:
    from ..study.status import Status, Training

POLL_S = 0.2


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(name: str | None, *, as_json: bool) -> None:
    """Show how far the study NAME is: its trainings, their epochs and best scores.

    Without NAME: every study in CRYO_STORAGE, running or not. Reads only what is on disk, so it
    works beside a running study, and on any machine that sees the storage.

    Ends with exit code 1 if a study or its result cannot be read; the others are shown.
    """
    from ..study.status import list_status, read_status

    storage = read_site().storage
    studies, problems = ([read_status(storage / name)], []) if name else list_status(storage)
    if as_json:
        click.echo(json.dumps([asdict(study) for study in studies], indent=2, default=str))
    elif name:
        click.echo("\n".join(_study_lines(studies[0])))
    else:
        click.echo(_table(studies) if studies else f"No study in '{storage}' yet.")
    problems += [study.problem for study in studies if study.problem]
    click.echo("".join(f"{problem}\n" for problem in problems), nl=False, err=True)
    sys.exit(1 if problems else 0)


@click.command()
@click.argument("name")
@click.option("--wait", default=60, show_default=True, help="Seconds to wait until it has stopped.")
def stop(name: str, *, wait: int) -> None:
    """Stop the study NAME that runs on this machine; `cryo-hpo resume NAME` resumes it.

    Trainings end after their current epoch's record; nothing computed is lost. A study that was
    submitted as a job is stopped with `ray job stop`.
    """
    from ..study.status import read_driver, request_stop

    folder = read_site().storage / name
    driver = request_stop(folder, signal.SIGTERM)
    click.echo(f"Process {driver.pid} is stopping study '{name}' ...")
    until = time.monotonic() + wait
    while time.monotonic() < until:
        if read_driver(folder) is None:
            click.echo(f"Stopped. Resume it with: cryo-hpo resume {name}")
            return
        time.sleep(POLL_S)
    click.echo(
        f"Process {driver.pid} has not stopped within {wait} s. It stops after the epoch that it "
        f"is in; `cryo-hpo status {name}` shows when.",
        err=True,
    )
    sys.exit(1)


def _study_lines(study: Status) -> list[str]:
    """Return the lines about one study."""
    from ..report.table import align_columns

    head = f"{study.kind} '{study.name}': {_state(study)}"
    if study.last_event is not None:
        head += f", {study.epochs} epochs, last event {_age(study)}"
    if not study.trainings:
        return [head]
    names = ("training", "lr", "epoch", "best val mIoU", "state")
    return [
        head,
        align_columns(names, [describe_training(training) for training in study.trainings]),
    ]


def describe_training(training: Training) -> tuple[str, ...]:
    """Return the row of a training: key, learning rate, epoch, best score, state."""
    miou = "" if training.miou is None else f"{100 * training.miou:.2f}"
    epoch = f"{training.epoch}/{training.length}"
    state = training.state
    if training.silent_s is not None:
        state += f", no epoch for {training.silent_s / 60:.3g} min: hangs?"
    return training.key, f"{training.lr:.2e}", epoch, miou, state


def _table(studies: list[Status]) -> str:
    from ..report.table import align_columns

    rows = [(s.name, s.kind, _state(s), str(s.epochs), _age(s)) for s in studies]
    return align_columns(("name", "kind", "state", "epochs", "last event"), rows)


def _state(study: Status) -> str:
    from ..report.wording import VERDICTS

    if study.driver is None:
        words = {str(verdict): text.lower() for verdict, text in VERDICTS.items()}
        verdict = words.get(study.verdict or "", study.verdict)
        return f"{study.state}, {verdict}" if verdict else study.state
    return f"{study.state} (process {study.driver.pid or '(unknown)'} on {study.driver.host})"


def _age(study: Status) -> str:
    from ..study.status import age

    return "never" if study.last_event is None else age(study.last_event)
