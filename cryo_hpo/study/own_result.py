"""Read the result in a study's folder, and refuse the result of another study."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import changed_values
from ..config.files.load import validate_study
from ..errors import StorageError
from ..results.extensions import read_extensions
from ..results.study import NAME, Result, load_result

if TYPE_CHECKING:
    from ..config import Study

SHOWN = 5  # differences in a message
PLANNED = ("search.budget", "seeds")  # keys that a budget in hours decides


def own_result(study: Study, folder: Path) -> Result:
    """Return the result of a study from its folder.

    Raises:
        StorageError: The result is another study's: it was copied here, or the spec was replaced, by
            an extension that was cut short too.
        CryoError: The result is damaged, or of another version.
    """
    result = load_result(folder)
    changed = _differences(result, study)
    if changed and is_kept_already(folder):
        message = (
            f"An extension of '{study.name}' was cut short just before it began: its spec is the "
            "extended one, its result the earlier one. Give the same `cryo-hpo extend` command again."
        )
        raise StorageError(message)
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        message = (
            f"'{folder / NAME}' is the result of another study than '{study.name}': "
            f"{'; '.join(changed[:SHOWN])}{more}. Move it to the folder it was copied from; if the "
            "study was changed after it had finished, give it a new name."
        )
        raise StorageError(message)
    return result


def is_kept_already(folder: Path) -> bool:
    """Return whether the result is the one that the newest extension keeps, and removes last."""
    newest = read_extensions(folder)[-1:]
    text = (folder / NAME).read_bytes()
    kept = [folder / extension.kept for extension in newest]
    return any(file.is_file() and file.read_bytes() == text for file in kept)


def _differences(result: Result, study: Study) -> list[str]:
    spec: dict[str, Any] = study.model_dump(mode="json")
    planned = () if study.budget is None else PLANNED
    stored = {**result.spec, "name": result.study}
    changed = changed_values(stored, spec)
    # A value that this version writes otherwise, such as cryo-bench for cryo-bench@1, is no change.
    still = changed_values(_as_written_today(stored), spec)
    return [t for key, t in changed.items() if key in still and not key.startswith(planned)]


def _as_written_today(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a stored spec with the words of this version; as it is, where this version refuses it."""
    study, _ = validate_study(copy.deepcopy(spec))  # which takes out what is wrong
    return spec if study is None else study.model_dump(mode="json")
