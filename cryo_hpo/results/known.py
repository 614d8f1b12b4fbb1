"""Name the studies and campaigns of a storage, where one that is asked for is not there."""

from __future__ import annotations

from pathlib import Path

from ..errors import SpecError, did_you_mean
from .files import CAMPAIGN, SPEC

SHOWN = 12  # names in a message
# What makes a folder a study, a campaign, or an exported model.
SIGNS = (SPEC, CAMPAIGN, "result.json", "campaign-result.json", "config.json")


def known_names(storage: Path) -> list[str]:
    """Return the names of the studies and campaigns in a storage, sorted."""
    return sorted(
        {file.parent.name for spec in (SPEC, CAMPAIGN) for file in storage.glob(f"*/{spec}")}
    )


def study_path(name: str, storage: Path) -> Path:
    """Return what a name of the command line means: a path that is there, else a study of the storage.

    A folder of the same name that is neither study nor model, such as the images that the study was
    drafted from, does not hide the study.
    """
    given, stored = Path(name), storage / name
    is_other = given.is_dir() and not any((given / sign).is_file() for sign in SIGNS)
    return given if given.exists() and not (is_other and stored.is_dir()) else stored


def no_such_study(folder: Path) -> SpecError:
    """Return the error for a folder that holds no study: the nearest name, and those there are."""
    names = known_names(folder.parent)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return SpecError(
        f"There is no study '{folder.name}' in '{folder.parent}'."
        f"{did_you_mean(folder.name, names)} Known: {', '.join(names[:SHOWN]) or 'none'}{more}."
    )
