"""Define `cryo-hpo extend`: add seeds or trials to a finished study."""

from __future__ import annotations

from typing import Literal

import click

from ..errors import SpecError
from .guard import read_site


@click.command()
@click.argument("name")
@click.option("--seeds", help="Seeds to add to the comparison: 7,8.")
@click.option("--trials", type=click.IntRange(1), help="How many trials to add to the search.")
@click.option(
    "--at-most",
    type=click.IntRange(1),
    help="Raise the limit of repeats, of a study with seeds: {at_most: N}.",
)
@click.option(
    "--proof",
    type=click.Choice(["full"]),
    help="Add the comparison to a study with `proof: none` or `quick`.",
)
@click.option("--inline", is_flag=True, help="Train in this process, without Ray; as in `run`.")
def extend(
    name: str,
    seeds: str | None,
    trials: int | None,
    at_most: int | None,
    proof: Literal["full"] | None,
    *,
    inline: bool,
) -> None:
    """Add seeds or trials to the finished study NAME, and run it to its new verdict.

    Nothing is repeated: complete trainings and their test scores stay. The earlier result is kept
    beside the new one as result-DATE.json, and the report says what was added. Where more trials
    find another winner, that one is retrained on all seeds and scored on the test split.

    \b
      cryo-hpo extend lakes-lr --seeds 7,8
      cryo-hpo extend lakes-lr --trials 6
      cryo-hpo extend lakes-lr --proof full
    """  # noqa: D301  click takes the backspace itself
    from ..report.verdict import verdict_text
    from ..study import extend_study

    site = read_site()
    result = extend_study(
        name,
        site,
        seeds=() if seeds is None else _numbers(seeds),
        trials=trials or 0,
        at_most=at_most,
        proof=proof,
        inline=inline,
    )
    click.echo(verdict_text(result))
    click.echo(f"result: {site.storage / name / 'result.json'}")
    click.echo(f"report: {site.storage / name / 'report' / 'report.html'}")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"--seeds '{text}' is not a list of numbers. Write it like 7,8."
        raise SpecError(message) from None
