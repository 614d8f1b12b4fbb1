"""Tell which trainings can be trained side by side, and let them share a frozen encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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


def share_encoders(runs: Sequence[Run]) -> list[EncoderPass]:
    """Let trainings use one encoder where theirs have the same weights; return the passes through it.

    Weight averages use it too: the mean of weights that do not change is the same weights.
    """
    passes: dict[str, tuple[EncoderPass, nn.Module]] = {}
    for run in runs:
        own = run.model.get_submodule("encoder")
        shared, encoder = passes.setdefault(run.model.omitted_sha256, (EncoderPass(), own))
        for model in {run.model, cast("Segmenter", run.scored)}:
            model.shared = shared
            model.add_module("encoder", encoder)
    return [shared for shared, _ in passes.values()]
