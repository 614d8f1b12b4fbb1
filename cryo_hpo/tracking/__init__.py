"""Deliver a study's event log to MLflow; the only door to it. One thread delivers.

Runs are found by two tags: `cryo.key`, the caller's name for the run, and `cryo.log`, the log it
came from. Every event keeps the time at which it happened. So delivering a log again, from any
point, adds nothing; and two studies of one name, on two machines, stay apart.
"""

from .courier import deliver
from .model_export import save_model
from .server import masked, ping, run_id, study_of, ui_command
from .tracker import Tracker

__all__ = ["Tracker", "deliver", "masked", "ping", "run_id", "save_model", "study_of", "ui_command"]
