"""Define `cryo-hpo doctor`: check whether this machine, or the cluster, is ready for a study."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..errors import CryoError
from .guard import read_site

if TYPE_CHECKING:
    from ..execution.node import Node


@click.command()
@click.option("--gpus", is_flag=True, help="Report a node without a GPU as a problem.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for machines.")
def doctor(*, gpus: bool, as_json: bool) -> None:
    """Look at every node of the cluster (RAY_ADDRESS), or at this machine alone.

    \b
    Says what would break a study later:
      versions that differ between nodes     clocks that disagree
      storage that a node cannot write       data that a node cannot read
      GPUs that Ray promises and torch lacks little disk or shared memory
      MLflow that does not answer

    Ends with exit code 1 if anything is wrong.
    """  # noqa: D301  click takes the backspace itself
    from ..execution.doctor import examined
    from ..execution.node import hints, problems

    site = read_site()
    nodes, silent = examined(site)
    faults = problems(nodes, needs_gpus=gpus) if nodes else []
    faults += [f"{address}: does not answer; see its raylet's log." for address in silent]
    faults += _tracking(site.mlflow)
    if as_json:
        report = {
            "nodes": [asdict(node) for node in nodes],
            "problems": faults,
            "hints": hints(nodes),
        }
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(_table(nodes))
        click.echo("\n".join(f"- {text}" for text in faults) or "Nothing is wrong.")
        click.echo("".join(f"{text}\n" for text in hints(nodes)), nl=False)
    sys.exit(1 if faults else 0)


def _tracking(uri: str) -> list[str]:
    from ..tracking import ping

    try:
        ping(uri)
    except CryoError as error:
        return [str(error)]
    return []


def _table(nodes: list[Node]) -> str:
    from ..report.table import align_columns

    head = (
        "node",
        "host",
        "python",
        "torch",
        "GPUs",
        "storage GiB",
        "cache GiB",
        "shm GiB",
        "clock s",
    )
    rows = [
        (
            node.address,
            node.host,
            str(node.versions["python"]),
            str(node.versions["torch"]),
            str(len(node.gpus)),
            *(f"{gib:.1f}" for gib in node.free_gib.values()),
            f"{node.skew_s:+.1f}",
        )
        for node in nodes
    ]
    return align_columns(head, rows)
