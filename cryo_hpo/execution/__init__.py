"""Run a study's jobs in this process (`inline`) or on Ray, which is imported only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .executor import Executor


def executor_for(*, inline: bool) -> Executor:
    """Return the executor of a study's jobs.

    Args:
        inline: Run the jobs in this process, one after another; False: on Ray.
    """
    if inline:
        from .inline import InlineExecutor

        return InlineExecutor()
    from .ray_executor import RayExecutor

    return RayExecutor()
