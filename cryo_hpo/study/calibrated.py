"""Keep the defaults of a study's calibrated baselines: a resumed study compares with the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StorageError
from ..search.calibrated import Calibrated, calibrated_arms, filled
from ..storage.atomic import write_text
from ..storage.plain_files import parse_json

if TYPE_CHECKING:
    from ..config import Study
    from ..config.space import Value

NAME = "calibrated.json"  # in the study's folder


def baselines_in(study: Study, path: Path) -> dict[str, dict[str, Value]]:
    """Return the values of a study's named baselines, those that are calibrated as they were first.

    Raises:
        SpecError: The portfolio has too few problems like the study's.
        StorageError: The file of the defaults is damaged.
    """
    words = study.baselines.keys() - study.given_baselines.keys()
    kept = read_calibrated(path) if words else {}
    if not words <= kept.keys():
        kept = {**calibrated_arms(study), **kept}
        body = {name: parse_json(arm.model_dump_json()) for name, arm in kept.items()}
        write_text(path / NAME, json.dumps(body, indent=1) + "\n")
    return filled(study, kept)


def read_calibrated(path: Path) -> dict[str, Calibrated]:
    """Return the defaults that a study has kept, by the name of their baseline.

    Raises:
        StorageError: Their file is damaged.
    """
    try:
        raw = parse_json((path / NAME).read_bytes())
        return {name: Calibrated.model_validate_json(json.dumps(arm)) for name, arm in raw.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:  # pydantic raises the first, a list the second
        message = (
            f"'{path / NAME}' is damaged ({str(error).splitlines()[0]}). Restore it from a backup; or remove "
            "it and run the same command again: the defaults are learned anew, and trainings of an arm "
            "whose default is another now are repeated."
        )
        raise StorageError(message) from error


def calibrated_lines(study: Study) -> list[str]:
    """Return a line for each calibrated baseline: its values, and where they come from."""
    return [
        f"Calibrated default '{name}': {_values(arm)}, the mean of the best on {', '.join(arm.problems)}."
        for name, arm in calibrated_arms(study).items()
    ]


def _values(arm: Calibrated) -> str:
    return ", ".join(f"{name} {value}" for name, value in arm.values.items())
