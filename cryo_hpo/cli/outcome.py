"""Print the outcome of a run: the verdict, and where its files and its MLflow pages are."""

from __future__ import annotations

from pathlib import Path

import click


def print_outcome(verdict: str, result: Path, mlflow: str, experiment: str | None = None) -> None:
    """Print the outcome of a study or a campaign.

    Args:
        verdict: What was found, in words.
        result: File of the result, in the folder of the study or campaign.
        mlflow: As in MLFLOW_TRACKING_URI.
        experiment: Name of the MLflow experiment; None: the page of all of them.
    """
    from ..tracking import ui_command

    click.echo(verdict)
    click.echo(f"result: {result}")
    click.echo(f"report: {result.parent / 'report' / 'report.html'}")
    page = ui_command(mlflow, experiment=experiment)
    click.echo(f"MLflow UI: {page if page.startswith('http') else 'cryo-hpo ui'}")
