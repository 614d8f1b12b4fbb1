"""Hold a study to the files of initial weights that it began with, and describe exported models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from ..models.weights.load import HUB, SCRATCH
from ..results.files import INITIAL_WEIGHTS
from ..storage.atomic import write_text
from ..storage.plain_files import parse_json
from ..training.build import exported_start, scenes_of, statistics
from ..training.warm_start import start_lines
from .preflight import recipes_of

if TYPE_CHECKING:
    from ..config import Site, Study


def hold_weights(study: Study, site: Site, path: Path) -> dict[str, str]:
    """Record the files that `model.weights` names, or compare them with those of the study's start.

    Args:
        study: The study.
        site: Folder of weights.
        path: The study's folder.

    Returns:
        Value of `model.weights` -> sha256 of the file.

    Raises:
        WeightsError: A file is missing, or has changed since the study began.
    """
    before = read_held(path)
    files = {name: _hash(site.weights / name) for name in _named(study)}
    changed = [name for name, digest in files.items() if before.get(name, digest) != digest]
    if changed:
        message = (
            f"The weights that the study starts from have changed since it began: "
            f"{', '.join(changed)}. Its trainings could not be compared with later ones. Restore the "
            f"files, or remove '{path}' to begin anew with today's."
        )
        raise WeightsError(message)
    held = {**before, **files}
    if held != before:
        write_text(path / INITIAL_WEIGHTS, json.dumps(held, indent=2) + "\n")
    return held


def read_held(path: Path) -> Mapping[str, str]:
    """Return the recorded files of initial weights, value of `model.weights` -> sha256."""
    try:
        held: dict[str, str] = parse_json((path / INITIAL_WEIGHTS).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        file = path / INITIAL_WEIGHTS
        message = f"'{file}' is damaged. Remove it to record today's files of weights."
        raise WeightsError(message) from error
    return held


def provenance_of_weights(path: Path) -> dict[str, object]:
    """Return the recorded files as a part of a result's provenance; empty if there are none."""
    held = read_held(path)
    return {"initial_weights": dict(held)} if held else {}


def exported_lines(study: Study, site: Site) -> Iterator[str]:
    """Yield lines on every exported model that a training of the study starts from."""
    described = set()
    for recipe in recipes_of(study):
        wanted = recipe.model.weights
        if wanted in described or (start := exported_start(wanted, site)) is None:
            continue
        described.add(wanted)
        yield from start_lines(start, recipe, *statistics(recipe, scenes_of(recipe, "train", site)))


def _named(study: Study) -> list[str]:
    named = [recipe.model.weights for recipe in recipes_of(study)]
    return list(dict.fromkeys(name for name in named if name not in (None, HUB, SCRATCH)))


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"'{path}' cannot be read: {error.strerror}. Restore the file."
        ) from error
