"""Name the studies and campaigns of a storage, where one that is asked for is not there."""

from __future__ import annotations

from pathlib import Path

from ..errors import SpecError, did_you_mean
from .files import CAMPAIGN, SPEC

SHOWN = 12  # names in a message


def known_names(storage: Path) -> list[str]:
    """Return the names of the studies and campaigns in a storage, sorted."""
    return sorted(
        {file.parent.name for spec in (SPEC, CAMPAIGN) for file in storage.glob(f"*/{spec}")}
    )


def no_such_study(folder: Path) -> SpecError:
    """Return the error for a folder that holds no study: the nearest name, and those there are."""
    names = known_names(folder.parent)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return SpecError(
        f"There is no study '{folder.name}' in '{folder.parent}'."
        f"{did_you_mean(folder.name, names)} Known: {', '.join(names[:SHOWN]) or 'none'}{more}."
    )
