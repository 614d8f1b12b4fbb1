"""The only door to MLflow. Events go to a spool on disk at once; one thread delivers them.

Runs are found by two tags: `cryo.key`, the caller's name for the run, and `cryo.spool`, the spool
it came from. Every event keeps the time at which it happened. So delivering a spool again, from
any point, adds nothing; and two studies of one name, on two machines, stay apart.
"""

from .model_export import save_model
from .server import masked, ping, run_id, study_of, ui_command
from .tracker import Tracker, deliver

__all__ = ["Tracker", "deliver", "masked", "ping", "run_id", "save_model", "study_of", "ui_command"]
