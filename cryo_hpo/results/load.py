"""Read and write results as JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import CryoError
from ..storage import atomic
from ..storage.plain_files import read_file, require_plain_folder
from .known import no_such_study

LATER = "extra_forbidden"  # pydantic's type of a field that only a later version has

Model = TypeVar("Model", bound=BaseModel)


def load_json(
    model: type[Model],
    path: Path | str,
    *,
    name: str,
    what: str,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = lambda raw: raw,
) -> Model:
    """Read the result file of a study or campaign.

    Args:
        model: Model of the content; the default of the field `version` is the newest version.
        path: The folder, or the file itself.
        name: Name of the file in the folder.
        what: Origin of the result, for messages: "study".
        upgrade: Converts the content of an older version to the newest.

    Raises:
        SpecError: There is no such folder.
        CryoError: The file is missing, damaged, or of another version.
    """
    path = Path(path)
    file = path / name if path.is_dir() else path
    if file.name == name:
        require_plain_folder(file.parent)
    if not path.exists() and not path.suffix:
        raise no_such_study(path.absolute())
    if not file.exists():
        message = f"A finished {what} leaves '{name}', '{path}' has none. Run the {what} first."
        raise CryoError(f"{message}{_earlier(file)}")
    try:
        raw = json.loads(read_file(file))
    except (ValueError, RecursionError) as error:
        message = (
            f"'{file}' is damaged: it is no whole JSON ({error}). Remove it and run the same "
            f"command again: the {what}'s other records are kept, and the file is written anew."
        )
        raise CryoError(message) from error
    version = raw.get("version") if isinstance(raw, dict) else None
    try:
        return model.model_validate_json(json.dumps(upgrade(raw) if version else raw))
    except ValidationError as error:
        expected = model.model_fields["version"].default
        if version == expected and not any(e["type"] == LATER for e in error.errors()):
            raise CryoError(_damage(file, error, what)) from error
        message = (
            f"'{file}' must be a {what}'s result of version {expected}, it says {version} "
            f"({error.error_count()} problems). Read it with the version of cryo_hpo that wrote it."
        )
        raise CryoError(message) from error


def _damage(file: Path, error: ValidationError, what: str) -> str:
    """Return the message of a result of this version whose values are wrong."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"])) or "as a whole"
    more = f", and {error.error_count() - 1} more problems" if error.error_count() > 1 else ""
    return (
        f"'{file}' is damaged: {place}: {problem['msg']}{more}. Remove it and run the same command "
        f"again: the {what}'s other records are kept, and the file is written anew."
    )


def write_json(result: BaseModel, path: Path) -> Path:
    """Write a result, whole or not at all, and return its path."""
    atomic.write_text(path, result.model_dump_json(indent=2) + "\n")
    return path


def _earlier(file: Path) -> str:
    """Return a sentence on the newest result that an extension has set aside; "": there is none."""
    kept = [f for f in file.parent.glob(f"{file.stem}-[0-9]*{file.suffix}") if f.is_file()]
    if not kept:
        return ""
    newest = max(kept, key=lambda file: (file.stat().st_mtime_ns, len(file.name), file.name))
    return f" The result from before its extension is '{newest}'."
