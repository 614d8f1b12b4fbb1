"""Hyperparameter optimization of geospatial foundation models on cryosphere maps.

What needs torch, Ray or MLflow is imported when it is first used: importing the package is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import CryoError
from .result import Result
from .space import Choice, Float, Int, SearchSpace, When
from .spec import Campaign, Recipe, Site, Study
from .specfile import load_campaign, load_space, load_study

if TYPE_CHECKING:
    from .api import (
        CampaignResult,
        Improvement,
        Model,
        ModelCard,
        export_model,
        load_campaign_result,
        load_model,
        load_result,
        open_model,
        predict_scene,
        relative_improvement,
        run_campaign,
        run_study,
    )

__all__ = [
    "Campaign",
    "CampaignResult",
    "Choice",
    "CryoError",
    "Float",
    "Improvement",
    "Int",
    "Model",
    "ModelCard",
    "Recipe",
    "Result",
    "SearchSpace",
    "Site",
    "Study",
    "When",
    "export_model",
    "load_campaign",
    "load_campaign_result",
    "load_model",
    "load_result",
    "load_space",
    "load_study",
    "open_model",
    "predict_scene",
    "relative_improvement",
    "run_campaign",
    "run_study",
]


def __getattr__(name: str) -> Any:
    """Import the heavy half of the interface when one of its names is asked for."""
    if name in __all__:
        return getattr(import_module(".api", __name__), name)
    message = f"module '{__name__}' has no attribute '{name}'"
    raise AttributeError(message)
