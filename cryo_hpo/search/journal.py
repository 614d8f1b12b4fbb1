"""Store a search's trials in an Optuna study: a journal file that appends and syncs, or a database.

The study holds the whole state: parameters, the score after every epoch, each trial's outcome. The
rung table and the sampler are rebuilt from it, so the same command resumes a search after a crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..errors import StorageError
from ..results.version_1 import DECISIONS
from .postgres import ERRORS, open_study, shown, unreachable
from .replay import replayed
from .rungs import Step
from .trials import Record, State

if TYPE_CHECKING:
    from ..config.site import SecretStr
    from ..config.space import Scalar
    from .replay import Suggest

PARAMS, OUTCOME, MESSAGE, STEPS = "params", "outcome", "message", "steps"
OLD_ONLY = set(DECISIONS) - set(DECISIONS.values())

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Journal:
    """Hold one study's trials in Optuna's storage. One process at a time writes to it."""

    def __init__(self, path: Path, *, study: str, database: SecretStr | None = None) -> None:
        """Open or create the journal.

        Args:
            path: Journal file.
            study: Name of the study.
            database: PostgreSQL URL, to store the trials there instead.

        Raises:
            StorageError: The file cannot be written, or the database does not answer.
        """
        self._path = path
        self._where = "" if database is None else shown(database)
        with self._asking():
            self._study = open_study(path, name=study, database=database)
            self._storage = self._study._storage
            self._ids = {t.number: t._trial_id for t in self._study.get_trials(deepcopy=False)}

    def begin(self, drawn: Mapping[str, Scalar], suggest: Suggest | None) -> int:
        """Add a trial with these values, in one line so all or nothing; return its number.

        Args:
            drawn: Values to try, by the names the space suggests them by.
            suggest: Search space; None for a trial outside it, such as a baseline whose learning
                rate the search does not cover.
        """
        replay = None if suggest is None else replayed(suggest, drawn)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=replay.trial.params if replay else {},
            distributions=replay.trial.distributions if replay else {},
            user_attrs={PARAMS: replay.params if replay else dict(drawn)},
        )
        with self._asking():
            trial_id = self._storage.create_new_trial(self._study._study_id, trial)
            number = self._storage.get_trial(trial_id).number
        self._ids[number] = trial_id
        return number

    def report(self, number: int, epoch: int, score: float) -> None:
        """Record the score after an epoch; the same epoch twice is kept once."""
        trial_id = self._ids[number]
        if epoch in self.record(number).curve:
            return
        with self._asking():
            self._storage.set_trial_intermediate_value(trial_id, epoch, score)

    def note(self, number: int, step: Step) -> None:
        """Add a rung decision to a trial; the same decision at a rung is kept once."""
        steps = self.record(number).steps
        if (step.rung, step.decision) in [(s.rung, s.decision) for s in steps]:
            return
        with self._asking():
            self._storage.set_trial_user_attr(self._ids[number], STEPS, [*steps, step])

    def end(self, number: int, state: State, message: str = "") -> None:
        """Close a trial. Pruned and diverged trials keep their scores and can never win.

        A failed trial stays open in Optuna's storage, which closes trials for good: it may run again,
        see `reopen`, until the search is over, see `close_failed`.
        """
        trial_id = self._ids[number]
        with self._asking():
            self._storage.set_trial_user_attr(trial_id, OUTCOME, state)
            self._storage.set_trial_user_attr(trial_id, MESSAGE, message[:2000])
        if state == "failed":
            return
        record = self.record(number)
        end_state = {
            "complete": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "diverged": TrialState.PRUNED if record.curve else TrialState.FAIL,
        }[state]
        value = record.score if end_state is TrialState.COMPLETE else None
        with self._asking():
            self._study.tell(number, value, state=end_state)

    def failed(self) -> list[int]:
        """Return the numbers of failed trials that may run again."""
        with self._asking():
            trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [t.number for t in trials if t.user_attrs.get(OUTCOME) == "failed"]

    def reopen(self, number: int) -> None:
        """Reopen a failed trial."""
        with self._asking():
            self._storage.set_trial_user_attr(self._ids[number], OUTCOME, "")
            self._storage.set_trial_user_attr(self._ids[number], MESSAGE, "")

    def close_failed(self) -> None:
        """Close failed trials for good."""
        for number in self.failed():
            with self._asking():
                self._study.tell(number, state=TrialState.FAIL)

    def record(self, number: int) -> Record:
        """Return the record of one trial."""
        with self._asking():
            return _record(self._storage.get_trial(self._ids[number]))

    def records(self) -> list[Record]:
        """Return all trials in the order of their numbers."""
        with self._asking():
            return [_record(t) for t in self._study.get_trials(deepcopy=False)]

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = (
                f"The study's journal must be writable, '{self._path}' is not: {error}. "
                "Set CRYO_STORAGE to a folder that is, or free space."
            )
            raise StorageError(message) from error
        except ERRORS as error:
            raise StorageError(unreachable(self._where, error)) from error


def _record(trial: FrozenTrial) -> Record:
    states: dict[TrialState, State] = {
        TrialState.RUNNING: "running",
        TrialState.WAITING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    outcome = trial.user_attrs.get(OUTCOME)
    closed = trial.state.is_finished() or outcome == "failed"
    return Record(
        number=trial.number,
        params=trial.user_attrs.get(PARAMS, trial.params),
        drawn=dict(trial.params),
        state=outcome if closed and outcome else states[trial.state],
        curve=dict(trial.intermediate_values),
        message=trial.user_attrs.get(MESSAGE, ""),
        steps=_steps(trial.user_attrs.get(STEPS, ())),
    )


def _steps(noted: Sequence[Sequence[Any]]) -> tuple[Step, ...]:
    """Read rung decisions, also in the old terms of a version 0.1 journal."""
    old = any(decision in OLD_ONLY for _, decision, *_ in noted)
    return tuple(
        Step(rung, DECISIONS[decision] if old else decision, *place)
        for rung, decision, *place in noted
    )
