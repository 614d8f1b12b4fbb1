"""Keep the old name of `cryo_hpo.config` for one release."""

from __future__ import annotations

import warnings
from typing import Any

from . import config


def __getattr__(name: str) -> Any:
    """Hand out what `cryo_hpo.config` has, and say that the name has moved."""
    value = getattr(config, name)
    message = f"{__name__} is now cryo_hpo.config: import {name} from there, or from cryo_hpo."
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return value
