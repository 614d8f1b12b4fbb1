"""What Python programs call: `cryo_hpo.run_study(...)` and its neighbours.

The command line prints what these functions return, and nothing that they do not know.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import campaign as campaigns
from . import campaign_result
from . import study as studies
from .campaign_result import CampaignResult
from .exported import Model, ModelCard, export_model, load_model, open_model
from .predict import predict_scene
from .result import Result, read
from .spec import Campaign, Site, Study
from .specfile import load_campaign, load_study
from .stats import Improvement, relative_improvement

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Campaign",
    "CampaignResult",
    "Improvement",
    "Model",
    "ModelCard",
    "Result",
    "export_model",
    "load_campaign",
    "load_campaign_result",
    "load_model",
    "load_result",
    "load_study",
    "open_model",
    "predict_scene",
    "relative_improvement",
    "run_campaign",
    "run_study",
]


def run_study(
    study: Study | Path | str, site: Site | None = None, *, console: Console | None = None
) -> Result:
    """Run a study to its verdict, or go on with one, or return the result it already has.

    Args:
        study: What to do, or the YAML file that says it.
        site: Where data, weights, storage, cache and MLflow are; None: from the environment.
        console: Where progress goes; None: standard output.

    Raises:
        CryoError: What is wrong, and the remedy. What was computed is kept.
        Stopped: A signal asked the study to stop.
    """
    spec = study if isinstance(study, Study) else load_study(study)
    return studies.run_study(spec, site or Site.from_env(os.environ), console=console)


def load_result(path: Path | str) -> Result:
    """Read the result of a finished study.

    Args:
        path: Its folder, or its result.json.

    Raises:
        CryoError: There is none, or it is of another version.
    """
    return read(Path(path))


def run_campaign(
    campaign: Campaign | Path | str, site: Site | None = None, *, console: Console | None = None
) -> CampaignResult:
    """Run a campaign to its table, or go on with one, or return the result it already has.

    Args:
        campaign: What to do, or the YAML file that says it.
        site: Where data, weights, storage, cache and MLflow are; None: from the environment.
        console: Where progress goes; None: standard output.

    Raises:
        CryoError: What is wrong, and the remedy. What was computed is kept.
        Stopped: A signal asked the campaign to stop.
    """
    spec = campaign if isinstance(campaign, Campaign) else load_campaign(campaign)
    return campaigns.run_campaign(spec, site or Site.from_env(os.environ), console=console)


def load_campaign_result(path: Path | str) -> CampaignResult:
    """Read the result of a finished campaign.

    Args:
        path: Its folder, or its campaign-result.json.

    Raises:
        CryoError: There is none, or it is of another version.
    """
    return campaign_result.read(Path(path))
