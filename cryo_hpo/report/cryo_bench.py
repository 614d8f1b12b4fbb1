"""Compare a study's scores with Cryo-Bench's published ones, of any of its three revisions.

`published.csv` holds the cells, with their revision and source. Averages and ranks are computed
from the cells: one of the printed averages contradicts its own row.

Source: Cryo-Bench, arXiv:2603.01576, and the tables of its repository (commits 41b6115, 0e43276
and 8048ddb): mIoU in percent, frozen encoders, all labels, UPerNet.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

from ..config import Recipe
from ..config.protocol import DATASETS_OF, PROTOCOLS, departures, family_of
from ..data import DATASETS
from ..errors import SpecError
from .table import align_columns

if TYPE_CHECKING:
    from ..results.study import ArmResult, Result

REVISIONS = tuple(DATASETS_OF)
NEWEST = max(REVISIONS)
EVERY = tuple(dict.fromkeys(name for names in DATASETS_OF.values() for name in names))
ROUNDING = 0.0051  # printed numbers have two decimals


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Hold the published scores of one model in one revision.

    Attributes:
        revision: Revision of the table, from 1.
        model: Name as in the paper.
        family: Prefix of the names of our encoders of this model.
        cells: Dataset -> mIoU, percent.
        printed_average: Average as printed; may contradict the cells.
        printed_rank: Rank as printed: of the kind `rank_kind`.
        rank_kind: "mean of per-dataset ranks" or "place by average".
        source: Source of the cells.
    """

    revision: int
    model: str
    family: str
    cells: dict[str, float]
    printed_average: float
    printed_rank: float
    rank_kind: str
    source: str

    @property
    def average(self) -> float:
        """Mean over the revision's datasets, percent."""
        return mean(self.cells.values())


class Change(NamedTuple):
    """Hold a cell whose value differs between two revisions."""

    dataset: str
    model: str
    before: float
    after: float


@cache
def _every_row() -> tuple[Row, ...]:
    text = files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            revision=int(line["revision"]),
            model=line["model"],
            family=line["family"],
            cells={name: float(line[name]) for name in DATASETS_OF[int(line["revision"])]},
            printed_average=float(line["average_as_printed"]),
            printed_rank=float(line["rank_as_printed"]),
            rank_kind=line["rank_kind"],
            source=f"{line['source']}, commit {line['commit']}",
        )
        for line in csv.DictReader(text.splitlines())
    )


def rows(revision: int) -> tuple[Row, ...]:
    """Return the published table of a revision in its order."""
    return tuple(row for row in _every_row() if row.revision == revision)


def average_ranks(revision: int) -> dict[str, float]:
    """Return model -> rank, 1 the best, averaged over the datasets; equal scores share a rank."""
    table = rows(revision)
    return {
        row.model: mean(
            _rank(row.cells[name], [other.cells[name] for other in table])
            for name in DATASETS_OF[revision]
        )
        for row in table
    }


def places(revision: int) -> dict[str, float]:
    """Return model -> place by average, 1 the best."""
    averages = [row.average for row in rows(revision)]
    return {row.model: _rank(row.average, averages) for row in rows(revision)}


def changes(before: int, after: int) -> list[Change]:
    """Return the cells of the same model and dataset that differ between two revisions."""
    old = {row.model: row.cells for row in rows(before)}
    return [
        Change(name, row.model, old[row.model][name], row.cells[name])
        for name in EVERY
        for row in rows(after)
        if row.model in old
        and name in row.cells
        and name in old[row.model]
        and old[row.model][name] != row.cells[name]
    ]


# Of a family in the table, but another model: other weights, sizes or modalities.
NOT_IN_TABLE = frozenset(
    {
        "croma-joint",
        "prithvi-v2-300m",
        "prithvi-v2-600m",
        "terramind-tiny",
        "terramind-small",
        "terramind-tiny-s2s1",
        "terramind-small-s2s1",
        "terramind-base-s2s1",
        "terramind-large-s2s1",
    }
)


def row_of(encoder: str, revision: int) -> Row | None:
    """Return the row of an encoder's model in a revision; None if it lacks the model."""
    if encoder in NOT_IN_TABLE:
        return None
    family = family_of(encoder)
    return next((row for row in rows(revision) if row.family == family), None)


def revision_named(name: str) -> int | None:
    """Return the revision that `cryo-bench@2` names; None for `cryo-bench` without one.

    Raises:
        SpecError: The name is neither.
    """
    match = re.fullmatch(r"cryo-bench(?:@(\d+))?", name)
    if match is None or (match[1] and int(match[1]) not in REVISIONS):
        names = ", ".join(f"cryo-bench@{number}" for number in REVISIONS)
        message = f"There is no published table '{name}'. Take {names}, or cryo-bench."
        raise SpecError(message)
    return int(match[1]) if match[1] else None


def tables(revision: int | None = None) -> list[str]:
    """Return the published tables as lines: that of a revision, or all, with what changed."""
    if revision is not None:
        return table(revision)
    lines: list[str] = []
    for number in REVISIONS:
        lines += [*table(number), ""]
    for before, after in pairwise(REVISIONS):
        lines += changed_lines(before, after)
    return lines


def table(revision: int) -> list[str]:
    """Return a published table as lines, with averages and ranks computed from its cells."""
    names, ranks, placed = DATASETS_OF[revision], average_ranks(revision), places(revision)
    body = [
        (
            row.model,
            *(f"{row.cells[name]:.2f}" for name in names),
            f"{row.average:.2f}",
            f"{ranks[row.model]:.2f}",
            f"{placed[row.model]:g}",
        )
        for row in rows(revision)
    ]
    wrong = [
        f"{row.model}: printed average {row.printed_average:.2f}, its cells give {row.average:.2f}."
        for row in rows(revision)
        if abs(row.average - row.printed_average) > ROUNDING
    ]
    header = ("model", *names, "average", "mean rank", "place by average")
    return [
        f"Revision {revision}: mIoU in percent, frozen encoders, all labels, UPerNet, one run each.",
        *align_columns(header, body).splitlines(),
        *wrong,
        f"Source: {rows(revision)[0].source}. Its rank column is the {rows(revision)[0].rank_kind}.",
    ]


def changed_lines(before: int, after: int) -> list[str]:
    """Describe the cells that differ between two revisions, a line for each dataset."""
    changed = changes(before, after)
    return [
        f"Revision {before} -> {after}, {name}: {_describe([c for c in changed if c.dataset == name])}."
        for name in dict.fromkeys(change.dataset for change in changed)
    ]


def _describe(changed: list[Change]) -> str:
    cells = "; ".join(f"{c.model} {c.before:.2f} -> {c.after:.2f}" for c in changed)
    return f"{len(changed)} {'cell' if len(changed) == 1 else 'cells'} changed: {cells}"


def against(result: Result, revision: int | None = None) -> list[str]:
    """Return a study's test scores beside the published ones of its dataset, with caveats.

    Args:
        result: Result of the study.
        revision: Revision to compare with; None: the one that the study's protocol reproduces, else
            the newest with the dataset.

    Raises:
        SpecError: The revision has no scores on the study's dataset.
    """
    name = result.spec["base"]["data"]["name"]
    revision = _revision_for(result, name, revision)
    column = {row.model: row.cells[name] for row in rows(revision)}
    best = max(column, key=lambda model: column[model])
    header = ("arm", "encoder", "ours", "seeds", "published", "difference", "rank among theirs")
    body = [_line(arm, name, revision) for arm in result.arms]
    return [
        f"Test mIoU in percent on {name}, beside revision {revision} of Cryo-Bench's table "
        "(frozen, all labels, one run each):",
        *align_columns(header, body).splitlines(),
        f"Best published on {name}: {best} {column[best]:.2f}.",
        *_cautions(result, name, revision),
        f"Source: {rows(revision)[0].source}.",
    ]


def _revision_for(result: Result, name: str | None, wanted: int | None) -> int:
    holding = [number for number in REVISIONS if name in DATASETS_OF[number]]
    if not holding:
        message = (
            f"Cryo-Bench published scores on {', '.join(EVERY)}; study '{result.study}' is on "
            f"'{result.dataset}'. Compare a study whose data.name is one of them."
        )
        raise SpecError(message)
    own = PROTOCOLS[_recipe(result.spec["base"]).protocol].revision
    revision = wanted or (own if own in holding else max(holding))
    if revision not in holding:
        message = (
            f"Revision {revision} of Cryo-Bench has no scores on '{name}'. "
            f"Take {' or '.join(f'cryo-bench@{number}' for number in holding)}."
        )
        raise SpecError(message)
    return revision


def _line(arm: ArmResult, name: str, revision: int) -> tuple[str, ...]:
    encoder = arm.recipe["model"]["encoder"]
    theirs = row_of(encoder, revision)
    ours = 100 * arm.mean_test_miou
    scores = [100 * seed.test_miou for seed in arm.seeds]
    spread = f" sd {stdev(scores):.2f}" if len(scores) > 1 else ""
    rank = 1 + sum(row.cells[name] > ours for row in rows(revision))
    return (
        arm.name,
        encoder,
        f"{ours:.2f}{spread}",
        str(len(scores)),
        "none" if theirs is None else f"{theirs.cells[name]:.2f} ({theirs.model})",
        "" if theirs is None else f"{ours - theirs.cells[name]:+.2f}",
        f"{rank} of {len(rows(revision)) + 1}",
    )


def _cautions(result: Result, name: str, revision: int) -> Iterator[str]:
    """Yield the reasons why the two numbers are not the same measurement."""
    for arm in result.arms:
        recipe = _recipe(arm.recipe)
        apart = [*_regime(recipe), *_procedure(recipe, revision)]
        if apart:
            yield f"Mind, {arm.name}: {'; '.join(apart)}."
    if DATASETS[name].centered and revision == 1:
        yield (
            "Mind: revision 1 scored the center of each scene, 512 x 512 pixels for radar models and "
            "224 x 224 for optical ones. Its numbers are of other pixels than a score of whole scenes."
        )
    yield from _changed(name)
    if result.data_split != "official":
        yield f"Mind: the split is '{result.data_split}', theirs the official one."
    if DATASETS[name].shared:
        yield f"Mind, what the parts of the official split share: {DATASETS[name].shared}."
    yield "Mind: nobody published a checksum of the copy that Cryo-Bench read; yours may differ."


def _changed(name: str) -> Iterator[str]:
    """Yield how many cells of a dataset differ between revisions."""
    counts = [
        f"{sum(change.dataset == name for change in changes(before, after))} of them "
        f"from revision {before} to {after}"
        for before, after in pairwise(REVISIONS)
        if any(change.dataset == name for change in changes(before, after))
    ]
    if counts:
        yield f"Mind: published cells on {name} changed, {' and '.join(counts)}; see `list published`."


def _regime(recipe: Recipe) -> Iterator[str]:
    family = family_of(recipe.model.encoder)
    if family == "vit":
        yield "whether their ViT is trained, frozen or pretrained differs by dataset"
    elif recipe.model.tune != "frozen" and family != "unet":
        yield "the encoder is tuned, theirs is frozen"
    if recipe.data.label_fraction < 1:
        yield f"it learns from {100 * recipe.data.label_fraction:g} % of the scenes, theirs from all"


def _procedure(recipe: Recipe, revision: int) -> Iterator[str]:
    if PROTOCOLS[recipe.protocol].revision != revision:
        yield f"protocol {recipe.protocol}, theirs has the faults of docs/protocol.md"
    yield from departures(recipe.flat(), recipe.model.encoder, recipe.data.name, revision=revision)


def _recipe(raw: object) -> Recipe:
    return Recipe.model_validate_json(json.dumps(raw))


def _rank(value: float, among: list[float]) -> float:
    """Return the best rank of equal scores, 1 the highest."""
    return 1 + sum(other > value for other in among)
