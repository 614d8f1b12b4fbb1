"""Define `cryo-hpo learn`: make a portfolio of known good points from what has been trained."""

from __future__ import annotations

from pathlib import Path

import click

from .guard import read_site


@click.command()
@click.argument("sources", metavar="RESULT...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Portfolio to write, a .json."
)
def learn(sources: tuple[str, ...], out: Path) -> None:
    """Make a portfolio of the best points of finished studies, for `search.start`.

    RESULT... are studies (names, folders or result.json files) and recorded tables (.npz of
    benchmarks/record_lr_table.py). A folder of portfolios is one portfolio.

    \b
      cryo-hpo learn lakes-lr fronts-lr ponds-lr --out portfolios/ours.json
      search: {start: {from: portfolios}, ...}
    """  # noqa: D301  click takes the backspace itself
    from ..report.table import align_columns
    from ..results.known import study_path
    from ..search.learn import learn as learn_from
    from ..search.portfolio import RATE
    from ..storage.atomic import write_text

    storage = read_site().storage
    paths = [study_path(source, storage) for source in sources]
    portfolio = learn_from(paths)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, portfolio.model_dump_json(indent=1, exclude_none=True) + "\n")
    rows = [
        (x.problem, x.encoder, x.regime, str(x.epochs), f"{x.best[RATE]:.2g}", str(x.trainings))
        for x in portfolio.lessons
    ]
    head = ("problem", "encoder", "regime", "epochs", RATE, "trainings")
    click.echo(align_columns(head, rows))
    click.echo(f"{len(rows)} lessons: {out}")
