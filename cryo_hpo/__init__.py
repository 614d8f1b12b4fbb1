"""Hyperparameter optimization of geospatial foundation models on cryosphere maps."""

from __future__ import annotations

from .errors import CryoError
from .space import Choice, Float, Int, SearchSpace, When
from .spec import Recipe, Site, Study
from .specfile import load_space, load_study

__all__ = [
    "Choice",
    "CryoError",
    "Float",
    "Int",
    "Recipe",
    "SearchSpace",
    "Site",
    "Study",
    "When",
    "load_space",
    "load_study",
]
