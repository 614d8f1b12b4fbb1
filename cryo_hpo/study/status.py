"""Read the status of studies from their folders, without disturbing the process that runs one."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config import load_study
from ..errors import CryoError, SpecError, StorageError
from ..execution.hanging import hang_limit_s
from ..results.campaign import NAME, load_campaign_result
from ..results.epochs import TOGETHER
from ..results.files import CAMPAIGN, EVENTS, LOCK, SPEC
from ..results.known import known_names, no_such_study
from ..results.study import NAME as RESULT
from ..results.study import Result, load_result
from ..storage.event_log import read_events
from ..storage.lock import is_locked
from ..storage.os_errors import explain
from ..storage.plain_files import parse_json, require_plain_folder
from .own_result import own_result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..storage.event_log import Event

State = Literal["running", "finished", "unreadable", "interrupted", "not begun"]


@dataclass(slots=True)
class Training:
    """Hold how far one training is.

    Attributes:
        key: Name, such as "trial-0003" or "tuned-seed1".
        lr: Learning rate.
        length: Epochs of a full training.
        epoch: Last recorded epoch.
        miou: Best validation mIoU so far, a fraction; None before the first epoch.
        state: A trial's state, see the table of states in CONTRIBUTING.
        silent_s: Seconds since its last event if it hangs, by `hang_limit_s`; None: it does not.
    """

    key: str
    lr: float
    length: int
    epoch: int = 0
    miou: float | None = None
    state: str = "running"
    silent_s: float | None = None


@dataclass(frozen=True, slots=True)
class Driver:
    """Name the process that runs a study."""

    pid: int | None
    host: str

    @property
    def is_here(self) -> bool:
        """Whether the process is on this machine."""
        return self.pid is not None and self.host == socket.gethostname()


@dataclass(frozen=True, slots=True)
class Status:
    """Hold the status of one study or campaign.

    Attributes:
        name: Name of the study.
        kind: Whether the folder holds a study or a campaign.
        state: `running` while a process holds the folder, `finished` with a result, `unreadable`
            with one that is damaged, or of another version or study; else `interrupted`, or
            `not begun` without an event.
        driver: The process that runs it; None: nobody does.
        last_event: Time of the last event, UTC; None before the first.
        verdict: Verdict of a finished study in one word; None: it has none yet, or is a campaign.
        trainings: Trainings in the order in which they began.
        problem: Why the result cannot be read; empty if it can, or there is none.
    """

    name: str
    kind: Literal["study", "campaign"]
    state: State
    driver: Driver | None
    last_event: datetime | None
    verdict: str | None = None
    trainings: tuple[Training, ...] = field(default=())
    problem: str = ""

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return sum(training.epoch for training in self.trainings)


def read_status(folder: Path) -> Status:
    """Return the status of the study or campaign in a folder.

    Raises:
        SpecError: The folder holds neither.
        StorageError: An older version began the study, or a file of it is something else.
    """
    require_plain_folder(folder)
    kind = next((k for k, file in _SPECS.items() if (folder / file).is_file()), None)
    if kind is None:
        raise no_such_study(folder)
    driver = read_driver(folder)
    verdict, problem = _read_result(folder, kind)
    events = list(read_events(folder / EVENTS)) if (folder / EVENTS).exists() else []
    return Status(
        name=folder.name,
        kind=kind,
        state="unreadable" if problem and driver is None else _state(folder, driver, events),
        driver=driver,
        last_event=datetime.fromisoformat(events[-1]["time"]) if events else None,
        verdict=verdict,
        trainings=read_trainings(events, is_driven=driver is not None, **_hanging(folder)),
        problem=problem,
    )


def list_status(storage: Path) -> tuple[list[Status], list[str]]:
    """Return the status of every study and campaign of a storage, and why some cannot be read."""
    studies, problems = [], []
    for name in known_names(storage):
        try:
            studies.append(read_status(storage / name))
        except (CryoError, OSError) as error:
            problems.append(explain(error) if isinstance(error, OSError) else str(error))
    return studies, problems


def read_driver(folder: Path) -> Driver | None:
    """Return the process that runs the study in a folder, or None."""
    if not is_locked(folder / LOCK):
        return None
    try:
        raw: dict[str, Any] = parse_json((folder / LOCK).read_text(encoding="utf-8"))
        return Driver(int(raw["pid"]), str(raw["host"]))
    except (OSError, ValueError, KeyError, TypeError):  # it is being written just now
        return Driver(None, "(unknown)")


def request_stop(folder: Path, signal_number: int) -> Driver:
    """Send a stop request to the process that runs a study, and return that process.

    Raises:
        SpecError: Nobody runs the study.
        StorageError: The process is on another machine, or cannot be signaled.
    """
    driver = read_driver(folder)
    if driver is None:
        message = f"Study '{folder.name}' is not running: no process holds '{folder / LOCK}'."
        raise SpecError(message)
    if not driver.is_here or driver.pid is None:
        message = (
            f"Study '{folder.name}' is run by process {driver.pid} on {driver.host}, this is "
            f"{socket.gethostname()}. Stop it there, or with `ray job stop` if it is a job."
        )
        raise StorageError(message)
    try:
        os.kill(driver.pid, signal_number)
    except OSError as error:
        message = f"Cannot stop process {driver.pid} of study '{folder.name}': {error.strerror}."
        raise StorageError(message) from error
    return driver


def age(moment: datetime, *, now: datetime | None = None) -> str:
    """Return how long ago a moment was, as text."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


_RESULTS = {"study": RESULT, "campaign": NAME}
_SPECS: dict[Literal["study", "campaign"], str] = {"study": SPEC, "campaign": CAMPAIGN}


def _state(folder: Path, driver: Driver | None, events: list[Event]) -> State:
    if driver is not None:
        return "running"
    if any((folder / file).is_file() for file in _RESULTS.values()):
        return "finished"
    return "interrupted" if events else "not begun"


def _read_result(folder: Path, kind: str) -> tuple[str | None, str]:
    """Return the verdict in a result, None without one; and why there is none that can be read."""
    if not (folder / _RESULTS[kind]).exists():
        return None, ""
    try:
        if kind == "campaign":
            load_campaign_result(folder)
            return None, ""
        return _own(folder).verdict, ""
    except (CryoError, OSError) as error:
        return None, explain(error) if isinstance(error, OSError) else str(error)


def _own(folder: Path) -> Result:
    """Return a study's result; whose it is cannot be seen where its spec cannot be read here."""
    try:
        study = load_study(folder / SPEC)
    except CryoError:  # damaged, which a start reports; or its Python space is elsewhere
        return load_result(folder)
    return own_result(study, folder)


def _hanging(folder: Path) -> dict[str, Any]:
    """Return by what a study's spec says that a training hangs; nothing: by its epochs."""
    try:
        resources = load_study(folder / SPEC).resources
    except (CryoError, OSError):  # a campaign, or a damaged spec, which a start reports
        return {}
    minutes = resources.hang_minutes
    return {
        "given_s": None if minutes is None else 60 * minutes,
        "may_wait": resources.pack != 1,
    }


def read_trainings(
    events: Iterable[Event],
    *,
    is_driven: bool,
    given_s: float | None = None,
    may_wait: bool = False,
    now: datetime | None = None,
) -> tuple[Training, ...]:
    """Return the trainings of a log, in the order in which they began.

    Args:
        events: Events of the log.
        is_driven: Whether a process runs the study.
        given_s: Seconds without an epoch after which a training hangs, as the study sets them.
        may_wait: Whether a training may wait for others, as for its pack: it hangs if all do.
        now: Time of the reading, UTC; None: the clock's.
    """
    trainings: dict[str, Training] = {}
    last: dict[str, datetime] = {}
    seconds: dict[str, list[float]] = {}
    for event in events:
        key = event.get("key", "")
        last[key] = datetime.fromisoformat(event["time"])
        if event["event"] == "epoch":
            pack_s = float(event.get("seconds") or 0.0) * float(event.get(TOGETHER) or 1)
            seconds.setdefault(key, []).append(pack_s)
        if event["event"] == "started" and "lr" in event and key not in trainings:
            trainings[key] = Training(key, event["lr"], event["epochs"])
        elif key in trainings:
            _apply(trainings[key], event)
    for training in trainings.values():
        if training.state == "running" and not is_driven:
            training.state = "interrupted"
        elif training.state == "running":
            every = [s for of_one in seconds.values() for s in of_one]
            limit_s = hang_limit_s(seconds.get(training.key, []), every, given_s=given_s)
            sign = max(last[key] for key in trainings) if may_wait else last[training.key]
            silent_s = ((now or datetime.now(UTC)) - sign).total_seconds()
            training.silent_s = silent_s if silent_s > limit_s else None
    return tuple(trainings.values())


def _apply(training: Training, event: Event) -> None:
    """Change a training as an event of its log says."""
    match event["event"]:
        case "started":
            training.state = "running"
        case "epoch":
            training.epoch = max(training.epoch, int(event["epoch"]))
            training.miou = event["best_val_miou"]
        case "paused":
            training.state = "paused"
        case "ended":
            training.state = event["state"]
