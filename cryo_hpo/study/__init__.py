"""Run one study: preflight, search, paired retraining, test split, verdict."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run import run_study

__all__ = ["run_study"]


def __getattr__(name: str) -> Any:
    """Import `run_study`, and torch with it, on first access."""
    if name in __all__:
        return getattr(import_module(".run", __name__), name)
    message = f"module '{__name__}' has no attribute '{name}'"
    raise AttributeError(message)
