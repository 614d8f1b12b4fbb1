"""Define `cryo-hpo data rasterize`: draw outlines as masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError, SpecError, count_of

if TYPE_CHECKING:
    from ..config.vector_layer import VectorLayer
    from ..data.drawn_mask import DrawnMask, Outlines

MAX_NAMED = 5  # outlines in a message


@click.command()
@click.argument("outlines", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the masks.")
@click.option("--layer", help="Layer of the file, where it has several.")
@click.option("--where", help="Features to use: \"BgnDate < '20100101'\".")
@click.option("--attribute", help="Column that decides the class; with --class VALUE=NUMBER.")
@click.option(
    "--class", "pairs", multiple=True, metavar="VALUE=NUMBER", help="Value of the column."
)
@click.option("--buffer-m", default=0.0, show_default=True, help="Grow features, meters.")
@click.option("--all-touched", is_flag=True, help="Label every pixel that a feature touches.")
@click.option(
    "--within",
    type=click.Path(path_type=Path),
    help="Outlines of the area that was digitized: no label outside (255).",
)
def rasterize(
    outlines: Path, images: tuple[Path, ...], out: Path, within: Path | None, **how: Any
) -> None:
    """Draw OUTLINES as a mask for each of IMAGES.

    OUTLINES is a GeoPackage, Shapefile, GeoJSON or KML, or a .zip or .kmz that holds one of these.

    Masks are GeoTIFFs on the grid of their image: 0 where no feature is, 1 in every feature, or the
    number that --class gives to a value of --attribute (255: no label). Outlines on another
    reference system are reprojected; lines and points need --buffer-m.
    """
    from ..config.vector_layer import vector_layer
    from ..data.drawn_mask import find_outlines, refuse_replacing
    from ..storage.atomic import restoring

    masks = [out / f"{image.stem}.tif" for image in images]
    _refuse_twins(images, masks)
    refuse_replacing(masks)
    try:
        layer = vector_layer(file=outlines.name, **_layer_of(how))
    except SpecError as error:
        raise DataError(f"{outlines}: {error}") from error
    with restoring(masks):  # half of the masks would look like all of them
        drawn = [
            _draw(outlines, layer, *files, within) for files in zip(images, masks, strict=True)
        ]
        click.echo(_describe_outlines(outlines, find_outlines(outlines, layer), drawn))
        for remark in _describe_repairs(drawn):
            click.echo(remark)
        _refuse_empty(outlines, drawn)


def _draw(
    outlines: Path, layer: VectorLayer, image: Path, mask: Path, within: Path | None
) -> DrawnMask:
    """Draw one mask, and print what it holds."""
    from ..data.drawn_mask import write_mask

    drawn = write_mask(outlines, layer, image, mask, within=within)
    click.echo(_describe_mask(drawn))
    return drawn


def _refuse_empty(outlines: Path, drawn: Sequence[DrawnMask]) -> None:
    """Refuse masks without any labeled pixel.

    Raises:
        DataError: No outline lies on an image, or none of those that do labels a pixel.
    """
    if any(mask.share for mask in drawn):
        return
    if any(mask.ids for mask in drawn):
        raise DataError(
            f"{outlines}: every mask is empty, though outlines lie on an image: they hold no center of a "
            "pixel (--all-touched labels every pixel that one touches), have class 0, or lie outside "
            "of --within. No mask is kept."
        )
    raise DataError(
        f"{outlines}: no outline lies on any of the images ({len(drawn)}), every mask is empty and none "
        "is kept. Is the CRS right, longitude before latitude, and does --where select features?"
    )


def _describe_mask(mask: DrawnMask) -> str:
    """Return the share of a mask in outlines, and how many outlines lie on the image."""
    share = f"{mask.file}: {100 * mask.share:.2f} % of the pixels in outlines"
    if not mask.ids:
        return f"{share}, as none lies on the image"
    cut = f", {mask.cut} of them beyond its edge too" if mask.cut else ""
    contested = (
        f"{100 * mask.contested:.2f} % lie in outlines of several classes, whose last counts"
    )
    return (
        f"{share}{f' ({contested})' if mask.contested else ''}; "
        f"{count_of(len(mask.ids), 'outline')} on the image{cut}, {mask.extent}"
    )


def _describe_outlines(path: Path, outlines: Outlines, drawn: Sequence[DrawnMask]) -> str:
    """Return how many outlines were read, where they lie, and how many lie on none of the images."""
    used = frozenset[int]().union(*(mask.ids for mask in drawn))
    outside = len(outlines.ids - used)
    images = "the image" if len(drawn) == 1 else f"any of the {len(drawn)} images"
    where = f"{outside} of them not on {images}" if outside else "all of them on an image"
    return f"{path}: {count_of(len(outlines.ids), 'outline')} {outlines.extent}; {where}"


def _describe_repairs(drawn: Sequence[DrawnMask]) -> Iterator[str]:
    """Yield a remark on the outlines that were drawn only after a repair, if there are any."""
    faults = {number: why for mask in drawn for number, why in mask.repaired.items()}
    if not faults:
        return
    shown = "; ".join(
        f"feature {number}: {why}" for number, why in islice(faults.items(), MAX_NAMED)
    )
    more = f"; {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    which = (
        "itself or broken otherwise was"
        if len(faults) == 1
        else "themselves or broken otherwise were"
    )
    yield (
        f"note: {count_of(len(faults), 'outline')} crossing {which} repaired "
        f"to be drawn ({shown}{more}): what such an outline encloses twice is left out. Look at these "
        "pixels, or repair the file first, as QGIS's Fix geometries does."
    )


def _refuse_twins(images: Sequence[Path], masks: Sequence[Path]) -> None:
    """Refuse images whose masks would have one name.

    Raises:
        DataError: The second mask would replace the first.
    """
    seen: dict[Path, Path] = {}
    for image, mask in zip(images, masks, strict=True):
        twin = seen.setdefault(mask, image)
        if twin != image:
            raise DataError(
                f"{image}: its mask would be '{mask}', as that of {twin}. Draw them into folders of "
                "their own, with --out."
            )


def _layer_of(how: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `rasterize` as fields of a layer, with numbers as class names."""
    pairs = dict(pair.partition("=")[::2] for pair in how.pop("pairs"))
    wrong = [f"{k}={v}" for k, v in pairs.items() if not (v.isdigit() and int(v) <= 255)]
    if wrong:
        raise DataError(
            f"--class takes VALUE=NUMBER with a number from 0 to 255, got '{wrong[0]}'."
        )
    if how["attribute"] is None:
        return {**how, "label": "1"}
    return {**how, "labels": pairs}
