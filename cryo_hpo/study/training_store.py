"""Keep finished trainings for later studies: weights, history and scores, by what made them.

An entry is a folder of CRYO_STORAGE/.trainings whose name is a hash of all that decides a training:
recipe with seed and epochs, metric that selects the best model, content of the data, initial weights, code, libraries, precision and
kind of device. A study takes from it what it would train again, with the scores on the test split,
which is not opened for that training again. An entry is written beside its place and renamed, so
that a reader finds a whole one or none, and every file of it has a checksum.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Recipe
from ..config.frozen import Frozen
from ..errors import StorageError
from ..models.weights.hash import hash_weights
from ..results.provenance import hash_training_code, training_libraries
from ..results.study import Reused
from ..search.confirm import ENDED, read_end
from ..storage.atomic import write_text
from ..training.build import runs_in_bf16, scenes_of, segmenter
from ..training.checkpoint_store import push_checkpoints
from ..training.checkpoints import BEST, LAST
from .data_guard import SPLITS
from .reuse import Origin, finish, link

if TYPE_CHECKING:
    from ..config import Site
    from ..execution.executor import TrialResources
    from ..search.jobs import Job

NAME = ".trainings"  # no study's name begins with a dot
ENTRY, SCENES = "entry.json", "scenes.npz"
MADE_BY = "made-by"  # in a training's folder: the name of its entry when it began

log = logging.getLogger(__name__)

Confusions = Mapping[str, NDArray[np.int64]]  # scene -> (K, K)


class Stored(Frozen):
    """Describe one finished training.

    Attributes:
        source: Study and training that it comes from, and the day.
        recipe: Its recipe, complete.
        facts: What else decides it: data, weights, code, libraries, device.
        history: Metrics of its epochs.
        scores: Scores on the test split.
        sha256: File -> hash of its content.
    """

    source: Reused
    recipe: dict[str, Any]
    facts: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    scores: dict[str, Any]
    sha256: dict[str, str]


class TrainingStore:
    """Find and keep the trainings of one site and one kind of device."""

    def __init__(self, site: Site, slots: TrialResources) -> None:
        """Open a store.

        Args:
            site: Locations of storage, data and weights.
            slots: Resources of a training, which decide the device.
        """
        self._site, self._slots = site, slots
        self._weights: dict[str, str] = {}  # model of a recipe -> hash of its initial weights
        self.folder = site.storage / NAME

    def take(self, job: Job) -> tuple[Stored, Confusions] | None:
        """Give a training of a comparison what an equal one left; None if there is none.

        What has begun or ended in the study itself is left as it is. The caller keeps the scores,
        then calls `end`. A training that is to begin gets a note of what it is made by: a study
        that is resumed after an update must not keep it as the work of the new code.

        Raises:
            StorageError: The training's folder cannot be written.
        """
        workdir = Path(job.workdir)
        if (workdir / ENDED).exists() or (workdir / LAST).exists():
            return None
        key = self.key(job)
        entry = self.folder / key
        stored = read_entry(entry)
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            if stored is not None:
                link(entry / BEST, workdir / BEST)
            elif not (workdir / MADE_BY).exists():
                write_text(workdir / MADE_BY, key + "\n", durable=False)
        except FileNotFoundError:  # pruned meanwhile
            return None
        except OSError as error:
            message = f"CRYO_STORAGE must be writable, '{workdir}' is not: {error}. Free space."
            raise StorageError(message) from error
        if stored is not None:
            push_checkpoints(self._site, workdir, BEST)
        return stored

    def end(self, job: Job, stored: Stored) -> None:
        """Record that a training was taken from the store, and has ended."""
        finish(Path(job.workdir), Origin(source=stored.source, history=stored.history), ended=True)

    def put(
        self,
        job: Job,
        *,
        source: Reused,
        history: tuple[dict[str, Any], ...],
        scores: Mapping[str, Any],
        scenes: Confusions,
    ) -> None:
        """Keep a training that is complete and scored, unless an equal one is kept.

        A store that cannot be written costs later studies their time, not this one its result.
        """
        if read_end(job) != "complete" or not (Path(job.workdir) / BEST).exists():
            return
        try:
            key = self.key(job)
            place = self.folder / key
            if place.exists() or not _made_by(job, key):
                return
            draft = self.folder / f".draft-{secrets.token_hex(8)}"
            draft.mkdir(parents=True)
            try:
                self._write(draft, job, source, history, scores=scores, scenes=scenes)
                draft.rename(place)
            except OSError:
                shutil.rmtree(draft, ignore_errors=True)
                if not place.exists():  # else another study kept an equal one first
                    raise
        except OSError as error:
            log.warning("'%s' is not kept for later studies: %s.", job.key, error)

    def _write(
        self,
        draft: Path,
        job: Job,
        source: Reused,
        history: tuple[dict[str, Any], ...],
        *,
        scores: Mapping[str, Any],
        scenes: Confusions,
    ) -> None:
        link(Path(job.workdir) / BEST, draft / BEST)
        ids = np.array(list(scenes), dtype=np.str_)
        np.savez_compressed(
            draft / SCENES, allow_pickle=False, ids=ids, counts=np.stack(list(scenes.values()))
        )
        recipe = Recipe.model_validate_json(job.recipe)
        stored = Stored(
            source=source,
            recipe=recipe.model_dump(mode="json"),
            facts={"metric": job.metric, **self._facts(recipe)},
            history=history,
            scores=dict(scores),
            sha256={name: hash_file(draft / name) for name in (BEST, SCENES)},
        )
        body = stored.model_dump_json(indent=1)
        write_text(draft / ENTRY, f"{_hash(body)}\n{body}\n")

    def key(self, job: Job) -> str:
        """Return the name of a training's entry."""
        recipe = Recipe.model_validate_json(job.recipe)
        made_of = {"recipe": recipe.model_dump(mode="json"), "metric": job.metric}
        facts = {**made_of, **self._facts(recipe)}
        return _hash(json.dumps(facts, sort_keys=True))[:32]

    def _facts(self, recipe: Recipe) -> dict[str, Any]:
        device = torch.device("cuda" if self._slots.gpus else "cpu")
        return {
            "data": {s: scenes_of(recipe, s, self._site).fingerprint for s in SPLITS},
            "weights": self._hash_weights(recipe),
            "precision": "bf16" if runs_in_bf16(recipe, device) else "fp32",
            **self._machine,
        }

    @cached_property
    def _machine(self) -> dict[str, Any]:
        return {
            "code": hash_training_code(),
            "libraries": training_libraries(),
            "device": _device(self._slots),
        }

    def _hash_weights(self, recipe: Recipe) -> str:
        """Return a hash of the weights that a training starts from, whatever file they come from."""
        model = f"{recipe.protocol} {recipe.data.crop} {recipe.model.model_dump_json()}"
        if model not in self._weights:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                built = segmenter(recipe, site=self._site, weights=recipe.model.weights)
            self._weights[model] = hash_weights(built.state_dict())
        return self._weights[model]


def _made_by(job: Job, key: str) -> bool:
    """Return whether a training began under the same code, libraries and device."""
    try:
        return (Path(job.workdir) / MADE_BY).read_text(encoding="utf-8").strip() == key
    except (OSError, UnicodeDecodeError):
        return False


def read_entry(entry: Path) -> tuple[Stored, Confusions] | None:
    """Return a kept training and its scores scene by scene; None if there is none.

    A damaged entry is removed, with a warning: the training runs, and is kept anew.
    """
    try:
        stored = read_stored(entry)
        if stored is None:
            return None
        wrong = [name for name, value in stored.sha256.items() if hash_file(entry / name) != value]
        if wrong:
            message = f"{', '.join(wrong)} has another checksum"
            raise ValueError(message)
        with np.load(entry / SCENES, allow_pickle=False) as data:
            scenes = dict(zip(data["ids"].tolist(), data["counts"], strict=True))
    except FileNotFoundError:
        if not entry.exists():  # pruned meanwhile
            return None
        _discard(entry, "a file is missing")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        _discard(entry, str(error).splitlines()[0])
    else:
        return stored, scenes
    return None


def read_stored(entry: Path) -> Stored | None:
    """Return the description of a kept training; None if there is none.

    Raises:
        ValueError: It is damaged.
    """
    if not entry.is_dir():
        return None
    digest, _, body = (entry / ENTRY).read_text(encoding="utf-8").partition("\n")
    body = body.removesuffix("\n")
    if _hash(body) != digest:
        message = f"'{ENTRY}' has another checksum"
        raise ValueError(message)
    return Stored.model_validate_json(body)


def _discard(entry: Path, why: str) -> None:
    log.warning(
        "The kept training '%s' is damaged (%s). It is removed, and trained anew.", entry, why
    )
    remove(entry)


def list_stored(storage: Path) -> Iterator[tuple[Path, Stored | None]]:
    """Yield the folder of every kept training and its description; None where it is damaged."""
    for entry in sorted((storage / NAME).glob("[!.]*")):
        try:
            yield entry, read_stored(entry)
        except (OSError, ValueError):
            yield entry, None


def remove(entry: Path) -> None:
    """Remove a kept training; studies that took it keep their files."""
    aside = entry.with_name(f".draft-{secrets.token_hex(8)}")
    try:
        entry.rename(aside)  # from here on nobody takes a part of it
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def size_of(entry: Path) -> int:
    """Return the bytes of a kept training; those it shares with a study's folder count too."""
    return sum(file.stat().st_size for file in entry.glob("*"))


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _device(slots: TrialResources) -> str:
    """Return the kind of device: on CPUs results depend on instruction set and threads too."""
    if slots.gpus:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "of the cluster"
        return f"GPU {name}"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {slots.cpus} threads"
