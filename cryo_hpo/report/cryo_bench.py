"""Compare a study's scores with Cryo-Bench's published ones.

`published.csv` holds the cells, with their source. Averages and ranks are computed from the cells:
one of the printed averages contradicts its own row.

Source: Cryo-Bench, arXiv:2603.01576, table of the repository at commit 41b6115: mIoU in percent,
frozen encoders, all labels, UPerNet.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import mean, stdev
from typing import TYPE_CHECKING

from ..config import Recipe
from ..config.protocol import CRYO_BENCH, departures, family_of
from ..data import DATASETS
from ..errors import SpecError
from .table import align_columns

if TYPE_CHECKING:
    from ..results.study import ArmResult, Result

FIVE = ("glid", "gld", "sicd", "caffe", "gsdd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Hold the published scores of one model.

    Attributes:
        model: Name as in the paper.
        family: Prefix of the names of our encoders of this model.
        cells: Dataset -> mIoU, percent.
        printed_average: Average as printed; may contradict the cells.
        printed_rank: Rank as printed; may contradict the cells.
        source: Source of the cells.
    """

    model: str
    family: str
    cells: dict[str, float]
    printed_average: float
    printed_rank: float
    source: str

    @property
    def average(self) -> float:
        """Mean over the five datasets, percent."""
        return mean(self.cells.values())


@cache
def rows() -> tuple[Row, ...]:
    """Return the published table in its order."""
    text = files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            model=line["model"],
            family=line["family"],
            cells={name: float(line[name]) for name in FIVE},
            printed_average=float(line["average_as_printed"]),
            printed_rank=float(line["rank_as_printed"]),
            source=f"{line['source']}, commit {line['commit']}",
        )
        for line in csv.DictReader(text.splitlines())
    )


def average_ranks() -> dict[str, float]:
    """Return model -> rank, 1 the best, averaged over the datasets; equal scores share a rank."""
    return {
        row.model: mean(_rank(row.cells[name], [r.cells[name] for r in rows()]) for name in FIVE)
        for row in rows()
    }


# Of a family in the table, but another model: other weights, sizes or modalities.
NOT_IN_TABLE = frozenset(
    {
        "croma-joint",
        "prithvi-v2-300m",
        "terramind-tiny",
        "terramind-small",
        "terramind-tiny-s2s1",
        "terramind-small-s2s1",
        "terramind-base-s2s1",
        "terramind-large-s2s1",
    }
)


def row_of(encoder: str) -> Row | None:
    """Return the row of an encoder's model; None if Cryo-Bench lacks it."""
    if encoder in NOT_IN_TABLE:
        return None
    family = family_of(encoder)
    return next((row for row in rows() if row.family == family), None)


def table() -> list[str]:
    """Return the published table as lines, with averages and ranks computed from its cells."""
    ranks = average_ranks()
    body = [
        (
            row.model,
            *(f"{row.cells[name]:.2f}" for name in FIVE),
            f"{row.average:.2f}",
            f"{ranks[row.model]:.2f}",
        )
        for row in rows()
    ]
    wrong = [
        f"{row.model}: printed average {row.printed_average:.2f}, its cells give {row.average:.2f}."
        for row in rows()
        if round(row.average, 2) != row.printed_average
    ]
    return [
        "mIoU in percent, frozen encoders, all labels, UPerNet, one run each.",
        *align_columns(("model", *FIVE, "average", "rank"), body).splitlines(),
        *wrong,
        f"Source: {rows()[0].source}.",
    ]


def against(result: Result) -> list[str]:
    """Return a study's test scores beside the published ones of its dataset, with caveats.

    Raises:
        SpecError: Cryo-Bench has no scores on the study's dataset.
    """
    name = result.spec["base"]["data"]["name"]
    if name not in FIVE:
        message = (
            f"Cryo-Bench published scores on {', '.join(FIVE)}; study '{result.study}' is on "
            f"'{result.dataset}'. Compare a study whose data.name is one of the five."
        )
        raise SpecError(message)
    column = {row.model: row.cells[name] for row in rows()}
    best = max(column, key=lambda model: column[model])
    header = ("arm", "encoder", "ours", "seeds", "published", "difference", "rank among theirs")
    return [
        f"Test mIoU in percent on {name}, beside Cryo-Bench's (frozen, all labels, one run each):",
        *align_columns(header, [_line(arm, name, column) for arm in result.arms]).splitlines(),
        f"Best published on {name}: {best} {column[best]:.2f}.",
        *_cautions(result, name),
        f"Source: {rows()[0].source}.",
    ]


def _line(arm: ArmResult, name: str, column: dict[str, float]) -> tuple[str, ...]:
    encoder = arm.recipe["model"]["encoder"]
    theirs = row_of(encoder)
    ours = 100 * arm.mean_test_miou
    scores = [100 * seed.test_miou for seed in arm.seeds]
    spread = f" sd {stdev(scores):.2f}" if len(scores) > 1 else ""
    rank = 1 + sum(value > ours for value in column.values())
    return (
        arm.name,
        encoder,
        f"{ours:.2f}{spread}",
        str(len(scores)),
        "none" if theirs is None else f"{theirs.cells[name]:.2f} ({theirs.model})",
        "" if theirs is None else f"{ours - theirs.cells[name]:+.2f}",
        f"{rank} of {len(column) + 1}",
    )


def _cautions(result: Result, name: str) -> Iterator[str]:
    """Yield the reasons why the two numbers are not the same measurement."""
    for arm in result.arms:
        recipe = Recipe.model_validate_json(json.dumps(arm.recipe))
        apart = [*_regime(recipe), *_procedure(recipe)]
        if apart:
            yield f"Mind, {arm.name}: {'; '.join(apart)}."
    if result.data_split != "official":
        yield f"Mind: the split is '{result.data_split}', theirs the official one."
    if DATASETS[name].shared:
        yield f"Mind, what the parts of the official split share: {DATASETS[name].shared}."
    yield "Mind: nobody published a checksum of the copy that Cryo-Bench read; yours may differ."


def _regime(recipe: Recipe) -> Iterator[str]:
    if recipe.model.tune != "frozen" and recipe.model.encoder != "unet":
        yield "the encoder is tuned, theirs is frozen"
    if recipe.data.label_fraction < 1:
        yield f"it learns from {100 * recipe.data.label_fraction:g} % of the scenes, theirs from all"


def _procedure(recipe: Recipe) -> Iterator[str]:
    if recipe.protocol != CRYO_BENCH:
        yield f"protocol {recipe.protocol}, theirs has the faults of docs/protocol.md"
    yield from departures(recipe.flat(), recipe.model.encoder, recipe.data.name)


def _rank(value: float, among: list[float]) -> float:
    better, as_good = (sum(a > value for a in among), sum(a >= value for a in among))
    return (better + 1 + as_good) / 2
