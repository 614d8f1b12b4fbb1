"""What to do, as frozen values: a study, its recipes, and the machine it runs on."""

from __future__ import annotations

from .campaign import Campaign, Cell, Matrix, Skip
from .explain import explain
from .prior import Belief
from .recipe import PATHS, DataSpec, LossSpec, ModelSpec, OptimSpec, Recipe
from .site import Site
from .study import Asha, DefineByRun, NoStopping, Resources, Search, Study, refusal

__all__ = [
    "PATHS",
    "Asha",
    "Belief",
    "Campaign",
    "Cell",
    "DataSpec",
    "DefineByRun",
    "LossSpec",
    "Matrix",
    "ModelSpec",
    "NoStopping",
    "OptimSpec",
    "Recipe",
    "Resources",
    "Search",
    "Site",
    "Skip",
    "Study",
    "explain",
    "refusal",
]
