"""What to do, as frozen values: a study, its recipes, and the machine it runs on."""

from __future__ import annotations

from .explain import explain
from .prior import Belief
from .recipe import PATHS, DataSpec, LossSpec, ModelSpec, OptimSpec, Recipe
from .site import Site
from .study import Asha, DefineByRun, NoStopping, Resources, Search, Study, refusal

__all__ = [
    "PATHS",
    "Asha",
    "Belief",
    "DataSpec",
    "DefineByRun",
    "LossSpec",
    "ModelSpec",
    "NoStopping",
    "OptimSpec",
    "Recipe",
    "Resources",
    "Search",
    "Site",
    "Study",
    "explain",
    "refusal",
]
