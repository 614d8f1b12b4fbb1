"""Deliver event logs to W&B, as a second consumer beside MLflow; the only door to W&B.

    events.jsonl.wandb    position up to which the log is delivered
    wandb/                what W&B keeps of the runs, until `wandb sync` sends it in offline mode

A run is delivered whole, each time that it rests: when its training pauses or ends. Its id follows
from the log, so delivering it again adds nothing: online W&B's client is told which steps are
there, and offline the folder of the earlier delivery is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import netrc
import os
import re
import shutil
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import StorageError, TrackingError
from ..storage.event_log import EventLog, Mark
from .calls import calls_of
from .run_record import RunRecord
from .server import reason

CONSUMER = "wandb"
LONGEST_WAIT_S = 300.0  # between two tries while W&B is away
INIT_S = 30.0  # within which W&B must answer
Mode = Literal["online", "offline", "disabled"]

log = logging.getLogger(__name__)


def connect_wandb(project: str, env: Mapping[str, str]) -> WandbSink | None:
    """Return what delivers logs to a project of W&B; None where WANDB_MODE is "disabled".

    Args:
        project: Name of the project, from CRYO_WANDB_PROJECT.
        env: Environment variables; the key is W&B's own, in WANDB_API_KEY or by `wandb login`.

    Raises:
        TrackingError: The package is not installed, the name is illegal, or there is no key.
    """
    mode = env.get("WANDB_MODE") or "online"
    if mode not in ("online", "offline", "disabled"):
        message = (
            f"WANDB_MODE must be online, offline or disabled, it is '{mode}'. Change or unset it."
        )
        raise TrackingError(message)
    if mode == "disabled":
        return None
    if not re.fullmatch(r"[^/\\#?%:\s][^/\\#?%:]{0,127}", project):
        message = (
            f"CRYO_WANDB_PROJECT is no name of a project: '{project}'. W&B takes up to 128 "
            "characters, without any of / \\ # ? % : (the team is in WANDB_ENTITY)."
        )
        raise TrackingError(message)
    try:
        client = import_module("wandb")
    except ImportError as error:
        message = (
            f"CRYO_WANDB_PROJECT is '{project}', but the package wandb cannot be imported "
            f"({error}). Install it (`pip install 'cryo-hpo[wandb]'`), or unset the variable."
        )
        raise TrackingError(message) from error
    if mode == "online" and not _has_key(env):
        message = (
            f"CRYO_WANDB_PROJECT is '{project}', but there is no key for W&B. Set WANDB_API_KEY, "
            "run `wandb login`, or set WANDB_MODE=offline and send the runs later (`wandb sync`)."
        )
        raise TrackingError(message)
    return WandbSink(client, project, is_online=mode == "online", own_dir=env.get("WANDB_DIR"))


def _has_key(env: Mapping[str, str]) -> bool:
    """Return True if W&B has a key: in its variable, or where `wandb login` writes it."""
    if env.get("WANDB_API_KEY"):
        return True
    host = urlsplit(env.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(env.get("NETRC")).authenticators(host) is not None
    return False


class WandbSink:
    """Deliver the runs of one or more logs to a project of W&B from one thread, until closed."""

    def __init__(self, client: Any, project: str, *, is_online: bool, own_dir: str | None) -> None:
        self._client, self._project, self._is_online = client, project, is_online
        self._own_dir = own_dir
        self._feeds: list[Feed] = []
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="wandb", daemon=True)

    def follow(self, opened: EventLog) -> None:
        """Deliver the undelivered and the future runs of a log."""
        self._feeds = [*self._feeds, Feed(opened)]
        opened.subscribe(lambda _: self._wake.set())
        self._wake.set()
        if not self._thread.is_alive() and not self._closing.is_set():
            self._thread.start()

    def pending(self) -> int:
        """Return the number of runs with undelivered events."""
        return sum(len(feed.undelivered) for feed in self._feeds)

    def close(self, timeout_s: float) -> int:
        """Wait until all runs that rest are delivered; return how many are not, with a warning."""
        self._closing.set()
        self._wake.set()
        if self._feeds:
            self._thread.join(max(0.0, timeout_s))
        pending = self.pending()
        if pending:
            log.warning(
                "%d runs are not yet in W&B; `cryo-hpo upload STUDY` delivers them.", pending
            )
        return pending

    def deliver(self) -> None:
        """Deliver what rests, and what else has undelivered events if its study has ended.

        Raises any error of W&B's client.
        """
        for feed in self._feeds:
            feed.read()
            for record in feed.due():
                self._send(record, feed.opened)
                feed.delivered(record)

    def _run(self) -> None:
        """Run the thread: deliver after every event until closed, then once more."""
        wait_s = 0.0
        while True:
            last = self._closing.is_set()
            self._wake.clear()
            try:
                self.deliver()
                wait_s = 0.0
            except Exception as error:
                if not wait_s:
                    log.warning(
                        "W&B does not take runs: %s. The study continues; they follow.",
                        reason(error),
                    )
                wait_s = min(max(2 * wait_s, 1.0), LONGEST_WAIT_S)
            if last:
                return
            if wait_s:
                self._closing.wait(wait_s)
            else:
                self._wake.wait()

    def _send(self, record: RunRecord, opened: EventLog) -> None:
        """Deliver a run whole, in place of what an earlier delivery left."""
        run_id, folder = record.id(opened.origin), Path(self._own_dir or opened.path.parent)
        if not self._is_online:  # a run is one folder, which `wandb sync` sends
            for old in (folder / "wandb").glob(f"offline-run-*-{run_id}"):
                shutil.rmtree(old)
        run = self._client.init(
            project=self._project,
            id=run_id,
            name=record.name or record.key,
            group=record.study,
            job_type=record.tags.get("cryo.kind"),
            config=record.config,
            dir=str(folder),
            mode="online" if self._is_online else "offline",
            resume="allow" if self._is_online else None,
            reinit="create_new",  # a run of the user's own is left as it is
            settings=self._client.Settings(
                silent=True, console="off", x_disable_stats=True, init_timeout=INIT_S
            ),
        )
        first = run.starting_step  # a resumed run has all steps before it
        for step in sorted(step for step in record.points if step >= first):
            run.log(record.points[step], step=step)
        run.summary.update(record.summary())
        run.finish(exit_code=int(record.status in ("FAILED", "KILLED")))


class Feed:
    """Read the runs of one log, and keep the position up to which they are delivered.

    Attributes:
        opened: The open log.
        undelivered: Key of a run -> position before its first undelivered event.
    """

    def __init__(self, opened: EventLog) -> None:
        self.opened = opened
        self.undelivered: dict[str, int] = {}
        self._mark, self._end = Mark(opened, CONSUMER), 0
        self._records: dict[str, RunRecord] = {}
        self._resting: dict[str, None] = {}  # keys, in the order in which they came to rest

    def read(self) -> None:
        """Read the new events of the log."""
        for end, event in self.opened.read(self._end):
            for call in calls_of(event):
                record = self._records.setdefault(call["key"], RunRecord(call["key"]))
                rests = record.add(call)
                if end <= self._mark.start:
                    continue
                self.undelivered.setdefault(record.key, self._end)
                if rests and record.is_study:  # its trainings have their test scores by then
                    self._resting |= dict.fromkeys(self.undelivered)
                elif rests:
                    self._resting[record.key] = None
            self._end = end

    def due(self) -> list[RunRecord]:
        """Return the runs to deliver, in the order in which they came to rest."""
        return [self._records[key] for key in self._resting]

    def delivered(self, record: RunRecord) -> None:
        """Record that a run is delivered as it is now."""
        del self._resting[record.key], self.undelivered[record.key]
        self._mark.write(min(self.undelivered.values(), default=self._end))


def deliver_to_wandb(path: Path, *, project: str) -> int:
    """Deliver the undelivered runs of a study's log to W&B; safe to repeat.

    Args:
        path: The study's log.
        project: Name of the project.

    Returns:
        Number of runs with undelivered events.

    Raises:
        TrackingError: W&B cannot be used here.
        StorageError: There is no such log, or the study that writes it is still running.
    """
    if not path.exists():
        message = f"There is no log '{path}' to deliver. Run the study first."
        raise StorageError(message)
    sink = connect_wandb(project, os.environ)
    if sink is None:
        return 0
    with contextlib.closing(EventLog(path)) as opened:
        sink.follow(opened)
        return sink.close(timeout_s=threading.TIMEOUT_MAX)
