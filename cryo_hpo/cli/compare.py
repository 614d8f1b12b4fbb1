"""Define `cryo-hpo compare`: put two finished studies side by side."""

from __future__ import annotations

import sys

import click

from .guard import read_site


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def compare(first: str, second: str) -> None:
    """Compare the finished studies A and B: names, folders or result.json files.

    Prints verdicts, scores, costs and the differences of the winning recipes. The difference of
    the scores, with its interval over the seeds that both have, only where both studies have the
    same classes, data, splits and scoring rules; else the reasons, and exit code 1.
    """
    from ..report.side_by_side import side_by_side
    from ..results.comparison import compare as compare_results
    from ..results.known import study_path

    storage = read_site().storage
    paths = [study_path(name, storage) for name in (first, second)]
    comparison = compare_results(*paths)
    click.echo(side_by_side(comparison))
    sys.exit(0 if comparison.is_allowed else 1)
