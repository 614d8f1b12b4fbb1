"""Run one study: preflight, search, paired retraining, test split, verdict."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .extension import extend_study
    from .run import run_study

__all__ = ["extend_study", "run_study"]
_FILES = {"extend_study": ".extension", "run_study": ".run"}


def __getattr__(name: str) -> Any:
    """Import what runs studies, and torch with it, on first access."""
    if name in _FILES:
        return getattr(import_module(_FILES[name], __name__), name)
    message = f"module '{__name__}' has no attribute '{name}'"
    raise AttributeError(message)
