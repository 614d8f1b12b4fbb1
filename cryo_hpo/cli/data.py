"""Define `cryo-hpo data`: manage the datasets on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import DataError, FetchError, SpecError, count_of
from .guard import read_site
from .rasterize import rasterize
from .real_sets import fetch_real_set, show_downloads

if TYPE_CHECKING:
    from ..data.audit import Summary
    from ..data.dataset import Dataset, SceneFiles, Split

SOURCE = click.argument("source", metavar="NAME|CARD")


def _split_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option(
        "--split-seed", default=0, show_default=True, help="Seed of the split by region."
    )(command)
    return click.option(
        "--split",
        type=click.Choice(["official", "region"]),
        default="official",
        show_default=True,
        help="The parts as published, or dealt out anew by region.",
    )(command)


@click.group()
def data() -> None:
    """Get, check and look at datasets; make the generated ones.

    \b
    NAME is one of `cryo-hpo list datasets`; CARD is a YAML file for images and masks of your own:
      name: my-lakes
      root: my_lakes                       # folder below CRYO_DATA
      images: "{split}/images/{id}.tif"
      masks: "{split}/masks/{id}.png"
      bands: [B4, B3, B2]
      classes: [background, lake]
      values: {0: background, 255: lake}   # where masks do not hold 0, 1, ...
      region: "^([A-Z]+)_"                 # what of an id names the region
      license: CC-BY-4.0
    """  # noqa: D301  click takes the backspace itself


data.add_command(rasterize)


@data.command()
@click.argument("name")
@click.option("--seed", default=0, show_default=True, help="Seed of the scenes.")
def generate(name: str, seed: int) -> None:
    """Generate the scenes of NAME (lakes-demo, fronts-demo) below CRYO_DATA."""
    from ..data.synthetic.generate import generate as generate_scenes

    click.echo(f"{name}: {generate_scenes(name, read_site().data, seed=seed)}")


@data.command()
@click.argument("name")
@click.option("--md5", "md5s", multiple=True, metavar="FILE=HEX", help="Expected MD5 checksum.")
@click.option(
    "--sha256", "sha256s", multiple=True, metavar="FILE=HEX", help="Expected SHA-256 checksum."
)
@click.option(
    "--collected", is_flag=True, help="Take the copy that Cryo-Bench collected, not the record."
)
@click.option("--list", "only_list", is_flag=True, help="Show what would be fetched, and stop.")
def get(
    name: str,
    md5s: tuple[str, ...],
    sha256s: tuple[str, ...],
    *,
    collected: bool,
    only_list: bool,
) -> None:
    """Download the public files of dataset NAME below CRYO_DATA, and unpack them.

    NAME may also be a shipped card: melt-ponds, calving-fronts and rock-glaciers, the sets of
    docs/real-studies.md, built from their public sources.

    The same command resumes a download that was cut. Every file must have the checksum that
    its publisher states (Zenodo is asked for it); where none is stated, give one you trust.
    The end of the output names what you must place by hand.
    """
    from ..data import find_dataset
    from ..data.download import KEPT, download, remotes, unpack, with_checksums
    from ..data.real_sets import REAL_SETS

    if name in REAL_SETS:
        fetch_real_set(name, show=show_downloads, only_list=only_list)
        return
    dataset = find_dataset(name)
    if not dataset.page:
        raise DataError(f"'{name}' has no public record. {dataset.source}")
    if collected and not dataset.collected:
        raise DataError(f"No public copy of '{name}' is known that Cryo-Bench collected.")
    root = read_site().data / dataset.folder
    click.echo(f"{name}: {dataset.source}\nlicense: {dataset.license}\nrecord: {dataset.page}")
    try:
        remote_files = dataset.collected if collected else remotes(dataset, scratch=root / KEPT)
        given = {**_checksums("md5", md5s), **_checksums("sha256", sha256s)}
        files = with_checksums(remote_files, given, dataset=dataset, folder=root)
        for file in files:
            click.echo(f"{file.name}: {file.checksum} {file.url}")
        if only_list:
            return
        show_downloads(download(files, root / KEPT))
    except FetchError as error:
        message = (
            f"{error}\nIf the download is blocked, download by hand from {dataset.page} and put "
            f"the data into '{root}': {dataset.layout}."
        )
        raise FetchError(message) from error
    for line in unpack(root / KEPT, root):
        click.echo(line)
    click.echo(f"The layout to arrive at: {dataset.layout}.\n{dataset.notes}")
    click.echo(f"Then: cryo-hpo data check {name}")


@data.command()
@SOURCE
@_split_options
def check(source: str, split: str, split_seed: int) -> None:
    """Read every file of a dataset: counts, sizes, values, and what its parts share.

    Looks for scenes of one region in two parts, for images that are the same byte by byte, and
    for scenes that show the same ground. Ends with exit code 1 if a file is wrong or something is
    shared.
    """
    from ..data.audit import describe_acquisitions, describe_overlap
    from ..data.leakage import find_duplicates, find_shared
    from ..data.review import review
    from ..data.splits import identify_scenes
    from ..report.table import align_columns

    dataset, parts = _opened(source, split, split_seed)
    site = read_site()
    summaries = {part: _summary(dataset, items, label=part) for part, items in parts.items()}
    header = ("part", f"{dataset.unit}s", "pixels", "type", "ignored", *dataset.classes)
    click.echo(align_columns(header, [_row(part, summary) for part, summary in summaries.items()]))
    problems = [line for summary in summaries.values() for line in summary.problems]
    reviewed = review(dataset, {part: summary.facts for part, summary in summaries.items()})
    doubts = [*reviewed.warnings, *dataset.unused(site.data)]
    click.echo("comparing regions, bytes and places", err=True)
    kin = {
        p: identify_scenes(dataset, site.data, items, cache=site.cache)
        for p, items in parts.items()
    }
    leaks = [line for overlap in find_shared(kin) for line in describe_overlap(overlap)]
    leaks += describe_acquisitions(dataset, parts)
    doubles = [pair for scenes in kin.values() for pair in find_duplicates(scenes)]
    for line in (*problems, *reviewed.refusals, *leaks):
        click.echo(line)
    for line in doubts:
        click.echo(f"Warning: {line}")
    if doubles:
        click.echo(
            f"{len(doubles)} images are repeated within one part (first: {' = '.join(doubles[0])})."
        )
    unplaced = sum(k.item.region is None and not k.has_place for ks in kin.values() for k in ks)
    if unplaced:
        click.echo(
            f"{unplaced} scenes have neither region nor place: what they share cannot be detected."
        )
    number = sum(map(len, parts.values()))
    if dataset.num_scenes not in (None, number):
        click.echo(f"{dataset.num_scenes:,} scenes are published, {number:,} are here.")
    if dataset.shared:
        click.echo(f"Known of the official split: it shares {dataset.shared}.")
    click.echo(_verdict(dataset, len(problems), len(reviewed.refusals), len(leaks), len(doubts)))
    sys.exit(1 if problems or reviewed.refusals or leaks else 0)


@data.command()
@SOURCE
@_split_options
def stats(source: str, split: str, split_seed: int) -> None:
    """Compute mean and standard deviation of each band on the training part, and class shares.

    Only labeled pixels count. The last lines are in the form a card takes.
    """
    from ..report.table import align_columns

    dataset, parts = _opened(source, split, split_seed)
    summary = _summary(dataset, parts["train"], label="train")
    if summary.problems:
        raise DataError("\n".join(summary.problems))
    mean, std = summary.moments.mean_C.tolist(), summary.moments.std.tolist()
    rows = [
        (
            band.name,
            "-" if band.center_um is None else f"{band.center_um:.3f}",
            f"{mean[i]:.6g}",
            f"{std[i]:.6g}",
            "-" if dataset.mean is None else f"{dataset.mean[i]:.6g}",
            "-" if dataset.std is None else f"{dataset.std[i]:.6g}",
        )
        for i, band in enumerate(dataset.bands)
    ]
    click.echo(
        align_columns(("band", "um", "mean", "std", "published mean", "published std"), rows)
    )
    published = dataset.class_shares or (None,) * len(dataset.classes)
    shares = [
        (name, f"{100 * share:.2f} %", "-" if other is None else f"{100 * other:.2f} %")
        for name, share, other in zip(dataset.classes, summary.shares, published, strict=True)
    ]
    click.echo(align_columns(("class", "share", "published"), shares))
    click.echo(f"mean: [{', '.join(f'{value:.6g}' for value in mean)}]")
    click.echo(f"std: [{', '.join(f'{value:.6g}' for value in std)}]")


@data.command()
@SOURCE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The PNG to write.")
@click.option("--columns", default=6, show_default=True, help="Scenes of each part.")
@_split_options
def show(source: str, out: Path, columns: int, split: str, split_seed: int) -> None:
    """Draw a contact sheet: images, masks and class shares of each part; and a map of the split.

    Every file is read for the shares; evenly spaced scenes are drawn. The map, a second PNG whose
    name ends in -split, shows the ground, blocks, regions or dates of each part.
    """
    from ..data.class_review import find_lone_places
    from ..report.figures.contact_sheet import contact_sheet
    from ..report.figures.split_map import split_map

    if out.suffix.lower() != ".png":
        raise SpecError(f"{out}: a contact sheet must end in .png, not '{out.suffix}'.")
    dataset, parts = _opened(source, split, split_seed)
    summaries = {part: _summary(dataset, items, label=part) for part, items in parts.items()}
    problems = [line for summary in summaries.values() for line in summary.problems]
    if problems:
        raise DataError("\n".join(problems))
    shares = {
        part: [*(summary.shares * (1 - summary.ignored_share)).tolist(), summary.ignored_share]
        for part, summary in summaries.items()
    }
    click.echo(contact_sheet(dataset, parts, shares, out, columns=columns))
    click.echo(split_map(dataset, parts, out.with_stem(f"{out.stem}-split")))
    for line in find_lone_places(dataset, {p: summary.facts for p, summary in summaries.items()}):
        click.echo(f"Warning: {line}")


def _checksums(kind: str, given: tuple[str, ...]) -> dict[str, str]:
    """Parse 'file=hex' pairs."""
    checksums = {}
    for pair in given:
        name, _, digits = pair.partition("=")
        wanted = {"md5": 32, "sha256": 64}[kind]
        if len(digits) != wanted or set(digits.lower()) - set("0123456789abcdef"):
            raise DataError(
                f"--{kind} '{pair}' is not a checksum. Give FILE=HEX with {wanted} hexadecimal "
                "digits, as published beside the file."
            )
        checksums[name] = f"{kind}:{digits.lower()}"
    return checksums


def _opened(source: str, split: str, seed: int) -> tuple[Dataset, dict[Split, list[SceneFiles]]]:
    """Return the dataset of a name or a card's file, with its parts."""
    from ..config import list_shipped, load_card
    from ..data import DATASETS, find_dataset
    from ..data.custom import custom_dataset
    from ..data.region_split import split_by_region
    from ..data.splits import parts_of

    is_card = Path(source).suffix in (".yaml", ".yml") or (
        source not in DATASETS and source in list_shipped("dataset card")
    )
    dataset = custom_dataset(load_card(source)) if is_card else find_dataset(source)
    site = read_site()
    if split != "official":
        dataset = split_by_region(dataset, seed)
    return dataset, dict(parts_of(dataset, site.data, cache=site.cache))


def _summary(dataset: Dataset, items: Sequence[SceneFiles], *, label: str) -> Summary:
    from ..data.audit import inspect_scenes, summarize

    with _bar(len(items), label=label) as advance:
        return summarize(dataset, inspect_scenes(dataset, items, progress=advance))


@contextmanager
def _bar(scenes: int, *, label: str) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on a terminal, and lines elsewhere; it is given shares of scenes."""
    from ..data.progress_log import ProgressLog

    shown, done, step = sys.stderr.isatty(), 0.0, f"reading {label}"
    if not shown:
        with ProgressLog(step, scenes) as progress:
            yield progress.advance
        return
    with click.progressbar(length=100 * scenes, label=step, file=sys.stderr) as bar:

        def advance(share: float) -> None:
            nonlocal done
            done += 100 * share
            bar.update(round(done) - bar.pos)

        yield advance


def _row(part: str, summary: Summary) -> tuple[str, ...]:
    shares = (f"{100 * share:.2f} %" for share in summary.shares)
    types = " ".join(sorted(summary.dtypes)) or "-"
    return (
        part,
        str(summary.scenes),
        summary.size_words,
        types,
        f"{100 * summary.ignored_share:.2f} %",
        *shares,
    )


def _verdict(dataset: Dataset, problems: int, refusals: int, leaks: int, doubts: int) -> str:
    head = f"{dataset.name}, split {dataset.split_name}:"
    if not problems and not refusals and not leaks:
        if not doubts:
            return f"{head} every file is as it must be, and the parts share nothing that shows."
        return f"{head} every file can be read, with {count_of(doubts, 'warning')} (see above)."
    faults = [count_of(problems, "file")] if problems else []
    faults += [count_of(refusals, "fault") + " of the set as a whole"] if refusals else []
    wrong = f" To be corrected: {' and '.join(faults)} (see above)." if faults else ""
    remedy = " A split by region has no such leak: `data.split: region`." if leaks else ""
    return f"{head}{wrong}{remedy}"
