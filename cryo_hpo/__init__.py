"""Optimize hyperparameters of geospatial foundation models on cryosphere maps.

Hands out the public names. Those that need torch, Ray or MLflow are imported when first used, so
that `import cryo_hpo` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from .config import (
    Asha,
    Campaign,
    DatasetCard,
    DataSpec,
    DefineByRun,
    Hours,
    LoraSpec,
    LossSpec,
    Matrix,
    ModelSpec,
    NoStopping,
    OptimSpec,
    Prior,
    Recipe,
    Resources,
    Search,
    SeedLimit,
    SharedSeedLimit,
    Site,
    Skip,
    StartFrom,
    Study,
    dump_campaign,
    dump_space,
    dump_study,
    load_campaign,
    load_card,
    load_space,
    load_study,
)
from .config.space import Choice, Float, Int, SearchSpace, When
from .errors import CryoError
from .results.campaign import CampaignResult, load_campaign_result
from .results.study import Result, load_result
from .results.views import Views, open_door

if TYPE_CHECKING:
    from .campaign import run_campaign
    from .prediction.bundle import export_folder
    from .prediction.ensemble import Ensemble, open_ensemble
    from .prediction.model import Model, ModelCard, export_model, load_model, open_model
    from .prediction.outlines import outline_map
    from .prediction.scene import predict_scene
    from .results.comparison import Comparison, compare
    from .stats import Improvement, Interval, relative_improvement
    from .study import extend_study, run_study
    from .study.draft_folder import Draft, draft_folder
    from .study.open_points import OpenPoint

__all__ = [
    "Asha",
    "Campaign",
    "CampaignResult",
    "Choice",
    "Comparison",
    "CryoError",
    "DataSpec",
    "DatasetCard",
    "DefineByRun",
    "Draft",
    "Ensemble",
    "Float",
    "Hours",
    "Improvement",
    "Int",
    "Interval",
    "LoraSpec",
    "LossSpec",
    "Matrix",
    "Model",
    "ModelCard",
    "ModelSpec",
    "NoStopping",
    "OpenPoint",
    "OptimSpec",
    "Prior",
    "Recipe",
    "Resources",
    "Result",
    "Search",
    "SearchSpace",
    "SeedLimit",
    "SharedSeedLimit",
    "Site",
    "Skip",
    "StartFrom",
    "Study",
    "When",
    "compare",
    "draft_folder",
    "dump_campaign",
    "dump_space",
    "dump_study",
    "export_folder",
    "export_model",
    "extend_study",
    "load_campaign",
    "load_campaign_result",
    "load_card",
    "load_model",
    "load_result",
    "load_space",
    "load_study",
    "open_ensemble",
    "open_model",
    "outline_map",
    "predict_scene",
    "relative_improvement",
    "run_campaign",
    "run_study",
]

# Where the heavy names are made.
_LAZY = {
    "Comparison": ".results.comparison",
    "Draft": ".study.draft_folder",
    "Ensemble": ".prediction.ensemble",
    "Improvement": ".stats",
    "Interval": ".stats",
    "Model": ".prediction.model",
    "ModelCard": ".prediction.model",
    "OpenPoint": ".study.open_points",
    "compare": ".results.comparison",
    "draft_folder": ".study.draft_folder",
    "export_folder": ".prediction.bundle",
    "extend_study": ".study",
    "export_model": ".prediction.model",
    "load_model": ".prediction.model",
    "open_ensemble": ".prediction.ensemble",
    "open_model": ".prediction.model",
    "outline_map": ".prediction.outlines",
    "predict_scene": ".prediction.scene",
    "relative_improvement": ".stats",
    "run_campaign": ".campaign",
    "run_study": ".study",
}


def _load_views() -> Views:
    """Import what shows a result in a notebook, and matplotlib with it."""
    return cast("Views", import_module(".report.notebook", __name__))


open_door(_load_views)


def __getattr__(name: str) -> Any:
    """Import a heavy name when it is first used."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    message = f"module '{__name__}' has no attribute '{name}'"
    raise AttributeError(message)
