"""Train one job as a Ray Tune trainable, and report each epoch to Tune."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ray import tune

from .worker import train_job

if TYPE_CHECKING:
    from ..config import Site


def work(config: dict[str, Any], *, site: Site, cpus: int, gpus: float) -> None:
    """Train one job; after an exception the driver starts the job again."""
    with closing(train_job(config, site=site, cpus=cpus, gpus=gpus)) as reports:
        for report in reports:
            tune.report(dict(report))
