"""Run a campaign from its spec to one table: every cell a study, all trials in one queue."""

from __future__ import annotations

from ..study.folder import CAMPAIGN
from .preflight import check_campaign, plan_campaign, time_campaign
from .run import run_campaign

__all__ = ["CAMPAIGN", "check_campaign", "plan_campaign", "run_campaign", "time_campaign"]
