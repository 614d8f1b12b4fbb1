"""Run, check, plan and report campaigns, for the commands that also take studies."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .guard import heartbeat, line_numbers, read_site


def is_campaign(file: Path) -> bool:
    """Return whether a file is a campaign: it has a matrix."""
    from ..config import is_campaign

    return is_campaign(file)


def run(file: Path, *, inline: bool) -> None:
    """Run a campaign to its final table."""
    from ..campaign import run_campaign
    from ..config import load_campaign
    from ..execution.submit import require_storage
    from ..report import campaign_text
    from .outcome import print_outcome

    campaign, site = load_campaign(file), read_site()
    require_storage(os.environ)
    with line_numbers(file):
        result = run_campaign(campaign, site, inline=inline)
    done = site.storage / campaign.name / "campaign-result.json"
    print_outcome(campaign_text(result), done, site.mlflow)


def check(file: Path) -> None:
    """Check everything that any cell needs."""
    from ..campaign import check_campaign
    from ..config import cell_studies, format_source, load_campaign
    from ..study.packing import pack_lines

    campaign = load_campaign(file)
    with line_numbers(file):
        check_campaign(campaign, site=read_site())
    for cell in campaign.cells():
        click.echo(campaign.study_name(cell))
    for line in pack_lines(cell_studies(campaign).values(), read_site()):
        click.echo(line)
    click.echo(
        f"'{campaign.name}' can run, {len(campaign.cells())} cells: cryo-hpo run {format_source(file)}"
    )


def plan(file: Path) -> None:
    """Estimate the cost of a campaign, cell by cell."""
    from ..campaign import plan_campaign, time_campaign
    from ..config import cell_studies, load_campaign
    from ..study.packing import pack_lines

    campaign, site = load_campaign(file), read_site()
    with line_numbers(file), heartbeat():
        size = time_campaign(campaign, plan_campaign(campaign, site=site), site=site)
        packs = pack_lines(cell_studies(campaign).values(), site)
    for line in (*size.lines(), *packs):
        click.echo(line)


def report(path: Path, out: Path | None) -> bool:
    """Write the report of a finished campaign; return whether the path holds one."""
    from ..report import campaign_text, write_campaign
    from ..results.campaign import NAME, load_campaign_result

    folder = path if path.is_dir() else path.parent
    if path.name != NAME and not (path / NAME).is_file():
        return False
    result = load_campaign_result(path)
    for file in write_campaign(result, out or folder / "report"):
        click.echo(file)
    click.echo(campaign_text(result))
    return True
