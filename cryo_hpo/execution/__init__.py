"""Run a study's jobs: in this process (`inline`), or on Ray; Ray is imported only to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .executor import Executor


def executor_for(*, inline: bool) -> Executor:
    """Return what runs a study's jobs.

    Args:
        inline: In this process, one after another; False: on Ray.
    """
    if inline:
        from .inline import InlineExecutor

        return InlineExecutor()
    from .ray_executor import RayExecutor

    return RayExecutor()
