"""How fast training tiles come, measured against a DataLoader that opens GeoTIFFs, in one run.

Both ways give the same pixels, which is checked first. Then the quickstart's model is trained for a
few epochs, to see how much of its time goes into waiting for tiles. Numbers of one machine say little about
another, so what counts is the ratio.
"""

# B batch, C bands, H W pixels

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import rasterio
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cryo_hpo.data import find
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.generate import generate
from cryo_hpo.data.scenes import Item
from cryo_hpo.data.tiles import Normalise, Tiles
from cryo_hpo.spec import Site
from cryo_hpo.specfile import load_study
from cryo_hpo.train import Epoch, fit

CPU = torch.device("cpu")
DATASET = "lakes-demo"
QUICKSTART = Path(__file__).parents[1] / "search_spaces" / "studies" / "quickstart.yaml"
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        tiles: Images per second of `Tiles`, median over the rounds.
        loader: Likewise of the DataLoader.
        ratio: Median over the rounds of tiles / loader.
        ratio_low: Least of the rounds.
        ratio_high: Greatest of the rounds.
        decode_seconds: Spent once, to build the decoded copy.
    """

    tiles: float
    loader: float
    ratio: float
    ratio_low: float
    ratio_high: float
    decode_seconds: float


class Opened(Dataset[Batch]):
    """The usual way: every item opens its two GeoTIFFs, every epoch again."""

    def __init__(self, items: Sequence[Item], *, normalise: Normalise) -> None:
        self.items = items
        self.normalise = normalise

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Batch:
        item = self.items[number]
        with rasterio.open(item.image) as image, rasterio.open(item.mask) as mask:
            return self.normalise(image.read()), torch.from_numpy(mask.read(1).astype(np.int64))


def share(epochs: Iterable[Epoch]) -> float:
    """Return the time spent waiting for batches, as a part of the time spent computing."""
    waited = total = 0.0
    for epoch in epochs:
        waited += epoch.data_seconds
        total += epoch.seconds
    return waited / (total - waited)


def quickstart_share(root: Path, *, epochs: int) -> float:
    """Train the quickstart's model for a few epochs on one thread, and return its `share`."""
    torch.set_num_threads(1)
    study = load_study(QUICKSTART)
    folders = {"CRYO_DATA": root / "data", "CRYO_CACHE": root / "cache", "CRYO_STORAGE": root}
    site = Site.from_env({name: str(path) for name, path in folders.items()})
    generate(DATASET, folder=site.data)
    recipe = study.base.replace({"epochs": epochs})
    return share(fit(recipe, site=site, workdir=root / "fit", device=CPU))


def speed(root: Path, *, scenes: int, size: int, batch_size: int, rounds: int) -> Speed:
    """Measure both ways in turns on generated scenes.

    Args:
        root: An empty folder for scenes and cache.
        scenes: In the training split.
        size: Side of a scene and of a crop, pixels.
        batch_size: B.
        rounds: Epochs of each way that are measured, after one that is not.
    """
    generate(DATASET, folder=root, scenes={"train": scenes, "val": 1, "test": 1}, size=size)
    dataset = find(DATASET)
    started = time.perf_counter()
    train = open_split(dataset, root, "train", cache=root / "cache")
    decode_seconds = time.perf_counter() - started
    normalise = Normalise.of(train.mean, train.std, device=CPU)
    tiles = Tiles(train, crop=size, normalise=normalise)
    loader = DataLoader(
        Opened(dataset.index(root, "train"), normalise=normalise),
        batch_size=batch_size,
        num_workers=2,
        persistent_workers=True,  # starting workers anew every epoch would flatter us
    )

    def tiled(epoch: int) -> Iterable[Batch]:
        return tiles.batches(batch_size, seed=0, epoch=epoch, device=CPU)

    _require_equal(tiled(1), loader)  # also the warm-up of both
    pairs = [(_rate(tiled(epoch)), _rate(loader)) for epoch in range(1, rounds + 1)]
    ratios = [ours / theirs for ours, theirs in pairs]
    ours, theirs = (median(rates) for rates in zip(*pairs, strict=True))
    return Speed(ours, theirs, median(ratios), min(ratios), max(ratios), decode_seconds)


def _rate(batches: Iterable[Batch]) -> float:
    started = time.perf_counter()
    images = sum(len(x_BCHW) for x_BCHW, _ in batches)
    return images / (time.perf_counter() - started)


def _require_equal(ours: Iterable[Batch], theirs: Iterable[Batch]) -> None:
    """Check that both ways give the same scenes, whatever their order."""
    first, second = (
        sorted(
            x_CHW.numpy().tobytes() + y_HW.numpy().tobytes()
            for x_BCHW, y_BHW in batches
            for x_CHW, y_HW in zip(x_BCHW, y_BHW, strict=True)
        )
        for batches in (ours, theirs)
    )
    assert first == second, "both ways give the same pixels"


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=64, help="a multiple of the batch size")
    parser.add_argument("--size", type=int, default=128, help="side of a scene, pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9, help="epochs measured")
    parser.add_argument("--epochs", type=int, default=3, help="of the quickstart's model")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    if args.scenes % args.batch_size:
        parser.error(f"--scenes must be a multiple of --batch-size, got {args.scenes}")
    torch.set_num_threads(1)  # as in each of the workers: one process against two
    with tempfile.TemporaryDirectory() as folder:
        found = speed(
            Path(folder),
            scenes=args.scenes,
            size=args.size,
            batch_size=args.batch_size,
            rounds=args.rounds,
        )
    with tempfile.TemporaryDirectory() as folder:
        waiting = quickstart_share(Path(folder), epochs=args.epochs)
    print(f"{'Tiles, no workers':<36}{found.tiles:10.0f} images/s")
    print(f"{'DataLoader, 2 workers, GeoTIFFs':<36}{found.loader:10.0f} images/s")
    span = f"({found.ratio_low:.1f} to {found.ratio_high:.1f} over {args.rounds} rounds)"
    print(f"{'ratio':<36}{found.ratio:10.1f} {span}")
    print(f"{'decoding, once':<36}{found.decode_seconds:10.2f} s")
    print(f"{'quickstart: data time / compute time':<36}{100 * waiting:10.2f} %")
    if args.json:
        facts = {"data_path": asdict(found), "quickstart_data_share": waiting}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
