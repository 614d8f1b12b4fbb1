"""Describe what `init` guessed in a dataset card."""

from __future__ import annotations

from typing import Any

from .dataset_card import DatasetCard
from .split_rule import SplitRule


def describe_guesses(card: DatasetCard) -> str:
    """Return a warning that names the values of a card which `init` guessed."""
    values = "; ".join(f"{key}: {_short(getattr(card, key))}" for key in card.assumed)
    return (
        f"The card of '{card.name}' holds guesses, and a wrong one makes the results wrong without "
        f"an error ({values}). Correct them, then remove the line `assumed` from the card."
    )


def _short(value: Any) -> str:
    if isinstance(value, SplitRule):
        keys = value.model_dump(mode="json", exclude_unset=True)
        return ", ".join(f"{key} {value}" for key, value in keys.items())
    if isinstance(value, dict):
        return ", ".join(f"{key} is {name}" for key, name in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
