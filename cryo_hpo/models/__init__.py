"""Build segmentation models: encoders, decoders, their weights, and the bands they take."""

from .band_selection import plan_bands
from .decoders import DECODERS
from .lookup import ENCODERS, Backbone, Encoder, check_size, find_encoder
from .lora import add_adapters, is_adapted, merge_adapters
from .model_builder import build
from .pretraining import PRETRAINING
from .rescale import PretrainingScale, pretraining_factors
from .segmenter import Segmenter, freeze

__all__ = [
    "DECODERS",
    "ENCODERS",
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
    "plan_bands",
    "pretraining_factors",
]
