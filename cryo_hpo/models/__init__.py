"""Build segmentation models: encoders, decoders, their weights, and the bands they take."""

from . import lean_timm  # noqa: F401  # first: what follows imports timm
from .band_selection import plan_bands
from .decoders import DECODERS
from .lookup import ENCODERS, Backbone, Encoder, check_size, find_encoder
from .lora import add_adapters, is_adapted, merge_adapters
from .model_builder import build
from .pretraining import PRETRAINING
from .rescale import PretrainingScale, pretraining_factors
from .segmenter import FINGERPRINT, Segmenter, freeze, omit_frozen_encoder, restore

__all__ = [
    "DECODERS",
    "ENCODERS",
    "FINGERPRINT",
    "PRETRAINING",
    "Backbone",
    "Encoder",
    "PretrainingScale",
    "Segmenter",
    "add_adapters",
    "build",
    "check_size",
    "find_encoder",
    "freeze",
    "is_adapted",
    "merge_adapters",
    "omit_frozen_encoder",
    "plan_bands",
    "pretraining_factors",
    "restore",
]
