"""Tell which trainings can be trained side by side, and let them share a frozen encoder."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, cast

from torch import nn

from ..models.encoder_pass import EncoderPass
from .build import protocol_of
from .run import Run

if TYPE_CHECKING:
    from ..config import Recipe
    from ..models import Segmenter

# What trainings side by side may have of their own: all else of a recipe decides what the batches and
# the encoder's levels are.
OWN = ("optim", "loss")
OWN_OF_MODEL = ("decoder", "channels")


def shared_key(recipe: Recipe) -> str | None:
    """Return what trainings have in common that can be trained side by side; None: it trains alone.

    An encoder that is trained, or is frozen in training mode as Cryo-Bench has it, gives each training
    other levels. A compiled model is one piece.
    """
    shares = recipe.model.tune == "frozen" and recipe.compile == "off"
    protocol = protocol_of(recipe)
    if not shares or protocol.frozen_in_train_mode or protocol.scores_untrained:
        return None
    raw = recipe.model_dump(mode="json", exclude=set(OWN))
    for name in OWN_OF_MODEL:
        del raw["model"][name]
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


class SharedEncoders:
    """Let trainings use one encoder where theirs have the same weights; their own is freed."""

    def __init__(self) -> None:
        self._passes: dict[str, tuple[EncoderPass, nn.Module]] = {}

    def join(self, run: Run) -> None:
        """Let a training use the encoder of an earlier one with the same weights, if there is one.

        Weight averages use it too: the mean of weights that do not change is the same weights.
        """
        own = run.model.get_submodule("encoder")
        shared, encoder = self._passes.setdefault(run.model.omitted_sha256, (EncoderPass(), own))
        for model in {run.model, cast("Segmenter", run.scored)}:
            model.shared = shared
            model.add_module("encoder", encoder)

    def clear(self) -> None:
        """Free what is kept of the latest batches."""
        for shared, _ in self._passes.values():
            shared.clear()
