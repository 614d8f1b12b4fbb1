"""Draw the pictures of the docs, from generated scenes and from the folders of finished studies.

    python -m benchmarks.pictures scenes
    python -m benchmarks.pictures study runs/quickstart --figures lr-response
    python -m benchmarks.pictures study runs/calving-fronts --figures lr-response maps
    python -m benchmarks.pictures page runs/quickstart      # a screenshot; needs Chromium

CONTRIBUTING.md says which picture is made by which command.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cryo_hpo import report
from cryo_hpo.bands import find_band
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.data.palette import IGNORED, class_color, rgb
from cryo_hpo.data.preview import render_scene
from cryo_hpo.data.synthetic.generate import CARDS, generate
from cryo_hpo.results.files import TEST_MAPS, TEST_SCENES
from cryo_hpo.results.study import load_result

DOCS = Path(__file__).parents[1] / "docs"
OWN_NAME = {"maps"}  # figures of one study only, without its name in theirs
DEMOS = ("lakes-demo", "fronts-demo")
ROWS, PER_ROW = 2, 2  # scenes of each dataset
PAGE = "900,1500"  # pixels of the top of a report
COLORS = 256  # of a screenshot; text and lines need no more


def scenes(out: Path) -> None:
    """Draw generated scenes beside their masks, in the colors that classes have everywhere."""
    fig = Figure(figsize=(11.3, 2.8), dpi=100)
    columns = 2 * PER_ROW * len(DEMOS)
    axes = fig.subplots(ROWS, columns, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    with tempfile.TemporaryDirectory() as folder:
        for block, name in enumerate(DEMOS):
            generate(name, Path(folder), scenes={"train": ROWS * PER_ROW, "val": 1, "test": 1})
            bands = [find_band(band) for band in CARDS[name].bands]
            for number, (image_CHW, mask_HW) in enumerate(_pairs(Path(folder) / name, name)):
                row, column = divmod(number, PER_ROW)
                picture = render_scene(bands, image_CHW, mask_HW)
                first = 2 * (block * PER_ROW + column)
                axes[row, first].imshow(picture, cmap="gray", vmin=0, vmax=1)
                axes[row, first + 1].imshow(_colored(mask_HW))
    for axis in axes.ravel():
        axis.set_axis_off()
    fig.subplots_adjust(0, 0, 1, 1)
    fig.savefig(out, metadata={"Software": None})


def _pairs(folder: Path, name: str) -> Iterator[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Yield image and mask of the training scenes that were generated."""
    templates = [
        path.replace("{split}", "train") for path in (CARDS[name].images, CARDS[name].masks)
    ]
    images, masks = (sorted(folder.glob(path.replace("{id}", "*"))) for path in templates)
    for image, mask in zip(images, masks, strict=True):
        with rasterio.open(image) as pixels, rasterio.open(mask) as labels:
            yield pixels.read(), labels.read(1)


def _colored(mask_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colors = np.array([rgb(class_color(value)) for value in range(256)], np.uint8)
    colors[IGNORE] = rgb(IGNORED)
    colored: NDArray[np.uint8] = colors[mask_HW]
    return colored


def study(folder: Path, figures: Sequence[str]) -> list[Path]:
    """Draw figures of a finished study as its report has them."""
    result = load_result(folder)
    drawn = []
    with tempfile.TemporaryDirectory() as out:
        _keep_ends(folder, Path(out))
        report.write(result, Path(out), folder=Path(out))
        for name in figures:
            to = DOCS / (f"{name}.png" if name in OWN_NAME else f"{result.study}-{name}.png")
            shutil.copyfile(Path(out) / f"{name}.png", to)
            drawn.append(to)
    return drawn


def _keep_ends(folder: Path, out: Path) -> None:
    """Copy what the figure of maps is drawn from, with the first and the last scene only."""
    with np.load(folder / TEST_MAPS) as opened:
        kept = dict(opened)
    ends = {"0": 0, str(len(kept["scenes"]) - 1): 1}
    few: dict[str, Any] = {
        f"{ends[number]}.{name}": value
        for key, value in kept.items()
        for number, _, name in [key.partition(".")]
        if number in ends
    }
    few |= {name: kept[name][[0, -1]] for name in ("scenes", "differences")}
    np.savez(out / TEST_MAPS, allow_pickle=False, seed=kept["seed"], **few)
    shutil.copyfile(folder / TEST_SCENES, out / TEST_SCENES)


def page(folder: Path, out: Path) -> None:
    """Take a screenshot of the top of a finished study's report, as the code writes it today."""
    with tempfile.TemporaryDirectory() as written:
        report.write(load_result(folder), Path(written), folder=folder)
        shot = Path(written) / "shot.png"
        words = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
        subprocess.run(
            [
                *("chromium", *words, f"--window-size={PAGE}", f"--screenshot={shot}"),
                f"file://{written}/report.html",
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        shrink(shot, out)


def shrink(shot: Path, out: Path) -> None:
    """Write a screenshot with few colors, which is a third of the size."""
    with Image.open(shot) as picture:
        picture.convert("RGB").quantize(COLORS).save(out, optimize=True)


def main() -> None:
    """Draw what the command line asks for, and print the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("scenes", "study", "page", "shrink"))
    parser.add_argument("folder", type=Path, nargs="?", help="of a finished study; or a screenshot")
    parser.add_argument("--figures", nargs="+", default=["lr-response"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    drawn = [asked.out or DOCS / {"scenes": "scenes.png", "page": "report.png"}.get(asked.what, "")]
    match asked.what:
        case "scenes":
            scenes(drawn[0])
        case "page":
            page(asked.folder, drawn[0])
        case "shrink":
            shrink(asked.folder, drawn[0])
        case _:
            drawn = study(asked.folder, asked.figures)
    print(*drawn, sep="\n")


if __name__ == "__main__":
    main()
