"""Record the energy of a study that runs on one machine, session by session, in its event log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..execution.energy import J_PER_KWH, read_counters, used_joules
from ..results.files import EVENTS
from ..storage.event_log import read_events

if TYPE_CHECKING:
    from ..results.study import Result
    from ..storage.event_log import EventLog

EVENT = "energy"
MOST_S = 600.0  # between two readings, below which no counter wraps twice


def meter_of(log: EventLog, environ: Mapping[str, str]) -> EnergyMeter | None:
    """Return the meter of a session; None on a cluster, whose other machines are not measured."""
    if environ.get("RAY_ADDRESS"):
        return None
    meter = EnergyMeter(log)
    log.subscribe(lambda _: meter.read())
    return meter


class EnergyMeter:
    """Measure the energy of this machine from the beginning of a session to its result.

    A session is one run of `cryo-hpo run`, `resume` or `extend`. One that was killed has no last
    reading, and then the study's energy is unknown.
    """

    def __init__(self, log: EventLog) -> None:
        """Read the counters, and record that a session begins."""
        self._log, self._session = log, secrets.token_hex(4)
        self._last, self._joules = read_counters(), 0.0
        self._read_s = time.monotonic()
        self._is_known = bool(self._last)
        self._record(ended=False)

    def read(self, *, now: bool = False) -> None:
        """Add what was used since the last reading, if that is long ago.

        Args:
            now: However long ago.
        """
        if not now and time.monotonic() - self._read_s < MOST_S:
            return
        counters = read_counters()
        used = used_joules(self._last, counters)
        self._is_known = self._is_known and used is not None
        self._joules += used or 0.0
        self._last, self._read_s = counters, time.monotonic()

    def end(self) -> None:
        """Record the energy of the session."""
        self.read(now=True)
        self._record(ended=True)

    def _record(self, *, ended: bool) -> None:
        joules = self._joules if self._is_known else None
        self._log.append(EVENT, session=self._session, joules=joules, ended=ended)


def read_energy(path: Path) -> float | None:
    """Return the energy of all sessions of a study, kWh; None where it is not known of each.

    Args:
        path: The study's folder.
    """
    sessions: dict[str, float | None] = {}
    for event in read_events(path / EVENTS):
        if event["event"] == EVENT:
            sessions[event["session"]] = event["joules"] if event["ended"] else None
        elif event["event"] == "epoch" and not sessions:
            return None  # a version that measured nothing began the study
    whole = [joules for joules in sessions.values() if joules is not None]
    if not whole or len(whole) < len(sessions):
        return None
    return sum(whole) / J_PER_KWH


def with_energy(result: Result, path: Path, meter: EnergyMeter | None) -> Result:
    """End the session's measurement, and return the result with the energy of all sessions."""
    if meter is None:
        return result
    meter.end()
    costs = result.costs.model_copy(update={"energy_kwh": read_energy(path)})
    return result.model_copy(update={"costs": costs})
