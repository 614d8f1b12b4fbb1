"""Take a training from where it was trained before, in place of training it again.

A reused training has the folder of any other: its best model, and `reused.json` with its origin and
the metrics of its epochs. What is taken whole has ended; what is taken in part has the checkpoints
from which it resumes.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Recipe
from ..config.frozen import Frozen
from ..results import epochs as recording
from ..results.files import REUSED, TRIALS
from ..results.study import Reused
from ..search.confirm import ENDED
from ..search.source import key
from ..storage.atomic import replacing, write_text
from ..training.checkpoint_store import pull_checkpoints, push_checkpoints, stored_history
from ..training.checkpoints import BEST, LAST, PREVIOUS, damage_of_best

if TYPE_CHECKING:
    from ..config import Site
    from ..search.jobs import Job
    from ..search.trials import Record

log = logging.getLogger(__name__)


class Origin(Frozen):
    """Hold where a training was taken from, and the metrics of its epochs there."""

    source: Reused
    history: tuple[dict[str, Any], ...]


def read_origin(workdir: Path) -> Origin | None:
    """Return where a training was taken from; None: it was trained in its folder."""
    try:
        return Origin.model_validate_json((workdir / REUSED).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("'%s' is damaged: the report lacks where that training came from.", workdir)
        return None


def read_origins(folder: Path) -> dict[str, Origin]:
    """Return where trainings of a folder were taken from, by name; those trained there are absent."""
    origins = {file.parent.name: read_origin(file.parent) for file in folder.glob(f"*/{REUSED}")}
    return {name: origin for name, origin in origins.items() if origin is not None}


def history_of(site: Site, workdir: Path, recipe: str, epochs: int) -> Sequence[Mapping[str, Any]]:
    """Return the metrics of a training's epochs, from its folder or from where it was taken.

    Args:
        site: Site of the checkpoints.
        workdir: Folder of the training.
        recipe: Id of the training's recipe.
        epochs: Number of epochs that are needed.

    Raises:
        StorageError: The checkpoint store cannot be read.
    """
    stored = stored_history(site, workdir, recipe, epochs=epochs)
    return stored or getattr(read_origin(workdir), "history", ())


def take_trials(
    jobs: Iterable[Job],
    trials: Mapping[str, Record],
    *,
    site: Site,
    path: Path,
) -> None:
    """Give the trainings of a comparison what the search has trained of the same recipe and seed.

    Args:
        jobs: The trainings of the comparison.
        trials: Training's name -> the trial with its recipe.
        site: Locations of the checkpoints.
        path: The study's folder.

    Raises:
        StorageError: The folder or the checkpoint store cannot be written.
    """
    epochs = recording.by_key(path)
    for job in jobs:
        trial = trials.get(job.key)
        workdir = Path(job.workdir)
        if trial is None or (workdir / REUSED).exists() or (workdir / ENDED).exists():
            continue
        name = key(trial.number)
        history = epochs.get(name, [])
        whole = trial.state == "complete"
        files = (BEST,) if whole else (BEST, PREVIOUS, LAST)
        if not history or not _link(path / TRIALS / name, job, files, site=site, needed=files[-1]):
            continue
        source = Reused(study=path.name, training=name, date=day_of(history), epochs=len(history))
        finish(workdir, Origin(source=source, history=clean(history)), ended=whole)


def finish(workdir: Path, origin: Origin, *, ended: bool) -> None:
    """Write where a training's files were taken from, and whether it has ended with them."""
    write_text(workdir / REUSED, origin.model_dump_json() + "\n")
    if ended:
        write_text(workdir / ENDED, "complete\n")


def clean(history: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the metrics of recorded epochs without the log's own keys."""
    own = {"event", "study", "key", "time", "number", "batch", "id"}
    return tuple({k: v for k, v in epoch.items() if k not in own} for epoch in history)


def day_of(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the day of the last recorded epoch, as ISO 8601."""
    return str(history[-1].get("time", ""))[:10]


def _link(source: Path, job: Job, files: Sequence[str], *, site: Site, needed: str) -> bool:
    """Link a trial's checkpoints into a training's folder; return whether it has what it needs."""
    workdir = Path(job.workdir)
    pull_checkpoints(site, source, *files)
    best = damage_of_best(source / BEST, Recipe.model_validate_json(job.recipe).id)
    if best or not (source / needed).exists():
        return False
    workdir.mkdir(parents=True, exist_ok=True)
    for name in files:
        if (source / name).exists():
            link(source / name, workdir / name)
    push_checkpoints(site, workdir, *files)
    return True


def link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the disk allows no links. Atomic."""
    with replacing(target) as draft:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)
