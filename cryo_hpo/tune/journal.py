"""The search's memory: an Optuna study in a journal file that appends and syncs.

Everything the search knows is here: parameters, the score after every epoch, how each trial ended.
The rung table and the sampler are rebuilt from it, so the same command after a crash goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from ..errors import StorageError

if TYPE_CHECKING:
    from ..space import Scalar
    from .sampler import Suggest

State = Literal["running", "complete", "pruned", "diverged", "failed"]
PARAMS, OUTCOME, MESSAGE = "params", "outcome", "message"

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about one trial.

    Attributes:
        number: Optuna's trial number; 0 is the baseline.
        params: Recipe paths and values; empty for the baseline.
        state: "running" also while it waits at a rung.
        curve: Epoch -> best validation mIoU so far.
        message: Why it ended, where there is more to say than the state.
    """

    number: int
    params: dict[str, Scalar]
    state: State
    curve: dict[int, float] = field(default_factory=dict)
    message: str = ""

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.curve, default=0)

    @property
    def score(self) -> float:
        """Best validation mIoU reached; nan before the first epoch."""
        return self.curve[self.epochs] if self.curve else float("nan")


class Journal:
    """One study's trials in Optuna's storage. One process at a time writes to it."""

    def __init__(self, path: Path, *, study: str) -> None:
        """Open the journal, or begin it.

        Raises:
            StorageError: The file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path))),
                study_name=study,
                direction="maximize",
                load_if_exists=True,
            )
        except OSError as error:
            message = (
                f"The study's journal must be writable, '{path}' is not: {error}. "
                "Set CRYO_STORAGE to a folder that is, or free space."
            )
            raise StorageError(message) from error
        self._storage = self._study._storage
        self._ids = {t.number: t._trial_id for t in self._study.get_trials(deepcopy=False)}

    def begin(self, params: Mapping[str, Scalar], suggest: Suggest | None) -> int:
        """Add a trial with these parameters and return its number.

        Args:
            params: Values to try.
            suggest: The space; None for a trial outside it, such as a baseline whose learning
                rate the search does not cover.
        """
        if suggest is None:
            trial = self._study.ask()
        else:
            self._study.enqueue_trial(dict(params))
            trial = self._study.ask()
            suggest(trial)
        trial.set_user_attr(PARAMS, dict(params))
        self._ids[trial.number] = trial._trial_id
        return trial.number

    def report(self, number: int, epoch: int, score: float) -> None:
        """Record the score after an epoch; the same epoch twice is kept once."""
        trial = optuna.trial.Trial(self._study, self._ids[number])
        with warnings.catch_warnings():
            # A resumed trial reports its last epoch again, on purpose.
            warnings.simplefilter("ignore")
            trial.report(score, epoch)

    def end(self, number: int, state: State, message: str = "") -> None:
        """Close a trial. Pruned and diverged ones keep their scores and can never win."""
        trial_id = self._ids[number]
        self._storage.set_trial_user_attr(trial_id, OUTCOME, state)
        self._storage.set_trial_user_attr(trial_id, MESSAGE, message[:2000])
        record = self.record(number)
        told = {
            "complete": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "diverged": TrialState.PRUNED if record.curve else TrialState.FAIL,
            "failed": TrialState.FAIL,
        }[state]
        value = record.score if told is TrialState.COMPLETE else None
        self._study.tell(number, value, state=told)

    def record(self, number: int) -> Record:
        """Return what is known about one trial."""
        return _record(self._storage.get_trial(self._ids[number]))

    def records(self) -> list[Record]:
        """Return all trials in the order of their numbers."""
        return [_record(t) for t in self._study.get_trials(deepcopy=False)]


def _record(trial: FrozenTrial) -> Record:
    states: dict[TrialState, State] = {
        TrialState.RUNNING: "running",
        TrialState.WAITING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    outcome = trial.user_attrs.get(OUTCOME)
    return Record(
        number=trial.number,
        params=trial.user_attrs.get(PARAMS, trial.params),
        state=outcome if trial.state.is_finished() and outcome else states[trial.state],
        curve=dict(trial.intermediate_values),
        message=trial.user_attrs.get(MESSAGE, ""),
    )
