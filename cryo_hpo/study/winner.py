"""Keep what a search leaves: its winner, and the best weights of the trials of full length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..config.metric import MIOU
from ..evaluation.metrics import Scores
from ..report.wording import percent
from ..results import epochs as recording
from ..results.provenance import environment
from ..search.source import BASELINE, key, winner
from ..search.winner import NAME, SearchWinner
from ..training.build import dataset_of, protocol_of, scenes_of
from ..training.checkpoint_store import pull_checkpoints
from ..training.checkpoints import BEST
from . import folder as folders
from .initial_weights import provenance_of_weights

if TYPE_CHECKING:
    from pathlib import Path

    from ..config import Site, Study
    from ..search.trials import Record


def keep_winner(study: Study, site: Site, path: Path, trials: list[Record]) -> SearchWinner:
    """Write which trial won, and remove the best weights of trials that are not complete.

    Args:
        study: The study.
        site: Locations of data and checkpoints.
        path: The study's folder.
        trials: All trials of the search, which is over.

    Raises:
        StorageError: The folder cannot be written, or the checkpoint store cannot be read.
    """
    best = winner(trials)
    epochs = recording.by_key(path).get(key(best.number), [])
    won = SearchWinner(
        study=study.name,
        trial=best.number,
        recipe=study.recipe(best.params).model_dump(mode="json"),
        val_miou=best.score if study.metric == MIOU else epochs[-1]["best_val_miou"],
        data_fingerprints={
            split: scenes_of(study.base, split, site).fingerprint
            for split in ("train", "val", "test")
        },
        provenance={**environment(), **provenance_of_weights(path)},
    )
    # a comparison on the search's own seed resumes the baseline's trial
    kept = {BASELINE} if study.proof == "quick" else set()
    for record in trials:
        if record.state != "complete" and record.number not in kept:
            (path / folders.TRIALS / key(record.number) / BEST).unlink(missing_ok=True)
    pull_checkpoints(site, path / folders.TRIALS / won.key, BEST)
    folders.write(path / NAME, won.model_dump_json(indent=2) + "\n")
    return won


def doubt_winner(study: Study, site: Site, won: SearchWinner) -> str:
    """Return a warning if one class everywhere scores as much on validation as the winner; else ""."""
    label, least = score_constant(study, site)
    if won.val_miou > least:
        return ""
    return (
        f"Warning: trial {won.trial} of '{study.name}' won with a validation mIoU of "
        f"{percent(won.val_miou)}, and a map of "
        f"'{label}' everywhere has {percent(least)}: it has learned no more than that. Train longer "
        "(`base.epochs`), search a wider range of learning rates, or give validation more scenes."
    )


def score_constant(study: Study, site: Site) -> tuple[str, float]:
    """Return the class that scores most on validation where a map holds nothing else, and that mIoU."""
    pixels_K = np.array(scenes_of(study.base, "val", site).class_counts)
    classes = dataset_of(study.base.data).classes
    absent_is_zero = protocol_of(study.base).absent_is_zero
    return Scores(classes, np.diag(pixels_K), absent_is_zero).best_constant()
