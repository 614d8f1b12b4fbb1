"""Deliver a study's event log to MLflow, and if wanted to W&B; the only door to both.

Two tags identify a run: `cryo.key`, the caller's name for the run, and `cryo.log`, its log. Every
event keeps the time at which it happened. So delivering a log again, from any point, adds nothing;
and two studies with the same name on two machines stay separate.
"""

from .courier import deliver
from .model_export import save_model
from .server import (
    experiment_pages,
    masked,
    ping,
    require_records,
    run_id,
    study_of,
    ui_command,
)
from .tracker import Tracker
from .view import charts_of
from .wandb_sink import deliver_to_wandb

__all__ = [
    "Tracker",
    "charts_of",
    "deliver",
    "deliver_to_wandb",
    "experiment_pages",
    "masked",
    "ping",
    "require_records",
    "run_id",
    "save_model",
    "study_of",
    "ui_command",
]
