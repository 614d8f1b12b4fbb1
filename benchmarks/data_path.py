"""Measure the speed of training tiles against Cryo-Bench's way of reading, in one run.

Cryo-Bench's way: in every epoch, every item opens its files with rasterio, decodes the whole image,
cuts the encoder's crop, and normalizes it band by band; workers of a DataLoader do so, and the
loader assembles batches. Our way: the split is decoded once, crops are copied out of the
memory-mapped copy in their native type, and a whole batch is normalized at once, in the training
process.

Images have each dataset's real size and type. Both ways produce the same crops, bit by bit,
which is checked first. Then the quickstart's model is trained for a few epochs, to measure
the share of its time spent waiting for tiles. Absolute numbers depend on the machine,
so the ratio is what matters.
"""

# B batch, C bands, H W pixels

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from numpy.random import SeedSequence
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cryo_hpo.config import Site, load_study
from cryo_hpo.data import find_dataset
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.dataset import SceneFiles
from cryo_hpo.data.synthetic.generate import generate
from cryo_hpo.data.synthetic.terrain import fractal
from cryo_hpo.data.tiles import Normalize, Tiles
from cryo_hpo.training.loop import Epoch, fit

CPU = torch.device("cpu")
QUICKSTART = Path(__file__).parents[1] / "search_spaces" / "studies" / "quickstart.yaml"
SEED, CROP, WORKERS = 0, 224, 2  # 224: the size that most encoders take
EPOCHS = 3  # of a round: the first batch after the other way's turn cannot reuse memory
Batch = tuple[Tensor, Tensor]
Place = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Case:
    """Images of a dataset's size and type, in files like its own."""

    name: str
    images: str
    masks: str
    suffix: str
    size: tuple[int, int]
    dtype: str


CASES = {
    case.name: case
    for case in (
        Case("glid", "GLID/train/images", "GLID/train/masks", ".png", (512, 512), "uint8"),
        Case("gld", "GLD/train/image", "GLD/train/mask", ".tif", (300, 300), "float32"),
        Case("sicd", "SICD/train/images", "SICD/train/masks", ".tif", (512, 512), "float32"),
        # The published scenes are of many sizes, from below to some thousands of pixels.
        Case("caffe", "CaFFe/images/train", "CaFFe/labels/train", ".png", (1200, 1500), "uint8"),
        Case("gsdd", "GSDD/train/image", "GSDD/train/mask", ".tif", (512, 512), "float32"),
    )
}


@dataclass(frozen=True, slots=True)
class Speed:
    """The measurements for one dataset.

    Attributes:
        tiles: Images per second of `Tiles`, median over the rounds.
        loader: Images per second of Cryo-Bench's way, median over the rounds.
        ratio: Median over the rounds of tiles / loader.
        ratio_low: Least of the rounds.
        ratio_high: Greatest of the rounds.
        cpu_ratio: Processor time per image, Cryo-Bench's way over ours; insensitive to other load
            on the machine.
        decode_seconds: One-time cost of the decoded copy.
    """

    tiles: float
    loader: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float
    decode_seconds: float


def write_scenes(case: Case, root: Path, *, scenes: int, size: tuple[int, int]) -> None:
    """Write smooth ground with a little noise, so that PNGs compress as pictures do."""
    dataset = find_dataset(case.name)
    assert dataset.mean is not None
    assert dataset.std is not None
    rng = np.random.default_rng(SEED)
    ground_HW = fractal(max(size), exponent=3.0, rng=rng)[: size[0], : size[1]]
    levels = np.linspace(-1.5, 1.5, len(dataset.classes) + 1)[1:-1]
    for number in range(scenes):
        here_HW = np.roll(ground_HW, (number * 37, number * 53), axis=(0, 1))
        mask_HW = np.digitize(here_HW, levels).astype(np.uint8)
        noise_CHW = rng.normal(0, 0.05, (len(dataset.bands), *size)) + here_HW
        mean_C11, std_C11 = (np.reshape(v, (-1, 1, 1)) for v in (dataset.mean, dataset.std))
        image_CHW = mean_C11 + std_C11 * noise_CHW
        if case.dtype == "uint8":
            image_CHW = image_CHW.clip(0, 255)
        name = f"X_2011-01-01_{number:04d}{case.suffix}"
        _write(root / case.images / name, image_CHW.astype(case.dtype))
        _write(root / case.masks / name, mask_HW[None])


def _write(path: Path, pixels_CHW: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    driver = {".tif": "GTiff", ".png": "PNG"}[path.suffix]
    shape = {"count": count, "height": height, "width": width, "dtype": pixels_CHW.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **shape) as file:
            file.write(pixels_CHW)


class Opened(Dataset[Batch]):
    """Cryo-Bench's way of reading: every item opens its two files anew in every epoch.

    It cuts the same crops as `Tiles`, so that both give the same batches.
    """

    def __init__(
        self, items: Sequence[SceneFiles], mean: Sequence[float], std: Sequence[float], *, crop: int
    ) -> None:
        self.items = items
        self.mean_C11, self.std_C11 = (
            np.array(values, dtype=np.float32)[:, None, None] for values in (mean, std)
        )
        self.crop = crop

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, wanted: tuple[int, int]) -> Batch:
        epoch, number = wanted
        item = self.items[number]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(item.image) as image, rasterio.open(item.mask) as mask:
                image_CHW = image.read().astype(np.float32)
                mask_HW = mask.read(1).astype(np.int64)
        rows, columns = self._place(epoch, number, mask_HW.shape)
        cut_CHW = image_CHW[:, rows, columns]
        cut_CHW -= self.mean_C11
        cut_CHW /= self.std_C11
        return (
            torch.from_numpy(np.ascontiguousarray(cut_CHW)),
            torch.from_numpy(np.ascontiguousarray(mask_HW[rows, columns])),
        )

    def _place(self, epoch: int, number: int, shape: tuple[int, ...]) -> Place:
        rng = np.random.default_rng(SeedSequence([SEED, epoch], spawn_key=(number,)))
        top, left = (int(rng.integers(max(side - self.crop, 0) + 1)) for side in shape)
        return slice(top, top + self.crop), slice(left, left + self.crop)


class Order:
    """Yields (epoch, number) in the order of `Tiles`, which differs every epoch."""

    def __init__(self, scenes: int) -> None:
        self.scenes = scenes
        self.epoch = 0

    def __len__(self) -> int:
        return self.scenes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self.epoch += 1
        order = np.random.default_rng(SeedSequence([SEED, self.epoch])).permutation(self.scenes)
        return iter([(self.epoch, int(number)) for number in order])


def speed(
    case: Case, root: Path, *, scenes: int, size: tuple[int, int], batch_size: int, rounds: int
) -> Speed:
    """Measure both ways in turns.

    Args:
        case: Images of a dataset.
        root: An empty folder for scenes and cache.
        scenes: Number of scenes in the training split.
        size: Height and width of a scene, pixels.
        batch_size: B.
        rounds: Turns of each way, `EPOCHS` each, after one epoch that is not measured.
    """
    write_scenes(case, root, scenes=scenes, size=size)
    dataset = find_dataset(case.name)
    assert dataset.mean is not None
    assert dataset.std is not None
    started = time.perf_counter()
    train = open_split(dataset, root, "train", cache=root / "cache")
    decode_seconds = time.perf_counter() - started
    crop = min(CROP, *size)
    tiles = Tiles(train, crop=crop, normalize=Normalize.of(dataset.mean, dataset.std, device=CPU))
    loader = DataLoader(
        Opened(dataset.index(root, "train"), dataset.mean, dataset.std, crop=crop),
        batch_size=batch_size,
        sampler=Order(scenes),
        num_workers=WORKERS,
        persistent_workers=True,  # starting workers anew every epoch would flatter us
    )

    def tiled(epoch: int) -> Iterable[Batch]:
        return tiles.batches(batch_size, seed=SEED, epoch=epoch, device=CPU)

    before = _cpu_of_workers()
    _require_equal(tiled(1), loader)  # also the warm-up of both
    pairs = [
        (_pass([tiled(EPOCHS * turn + i) for i in range(EPOCHS)]), _pass([loader] * EPOCHS))
        for turn in range(1, rounds + 1)
    ]
    loader._iterator = None  # ends the workers: only then is their time available
    workers = (_cpu_of_workers() - before) / (scenes * (EPOCHS * rounds + 1))
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
    ours, theirs = zip(*pairs, strict=True)
    return Speed(
        tiles=median(one.rate for one in ours),
        loader=median(one.rate for one in theirs),
        ratio=median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        cpu_ratio=(median(one.cpu for one in theirs) + workers) / median(one.cpu for one in ours),
        decode_seconds=decode_seconds,
    )


class Pass(NamedTuple):
    """Several epochs of one way over all scenes."""

    rate: float
    """Images per second."""
    cpu: float
    """CPU seconds of this process per image."""


def _pass(epochs: Iterable[Iterable[Batch]]) -> Pass:
    started, cpu = time.perf_counter(), time.process_time()
    images = sum(len(x_BCHW) for batches in epochs for x_BCHW, _ in batches)
    return Pass(
        images / (time.perf_counter() - started), (time.process_time() - cpu) / max(images, 1)
    )


def _cpu_of_workers() -> float:
    """Return the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _require_equal(ours: Iterable[Batch], theirs: Iterable[Batch]) -> None:
    """Check that both ways give the same batches, bit by bit."""
    for (x_BCHW, y_BHW), (other_BCHW, other_BHW) in zip(ours, theirs, strict=True):
        assert torch.equal(x_BCHW, other_BCHW), "both ways give the same pixels"
        assert torch.equal(y_BHW, other_BHW), "both ways give the same labels"


def share(epochs: Iterable[Epoch]) -> float:
    """Return the time spent waiting for batches, relative to the time spent computing."""
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
    generate("lakes-demo", folder=site.data)
    recipe = study.base.replace({"epochs": epochs})
    return share(fit(recipe, site=site, workdir=root / "fit", device=CPU))


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=24, help="a multiple of the batch size")
    parser.add_argument(
        "--size", type=int, help="side of a scene, pixels; the real ones if left out"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="turns measured")
    parser.add_argument("--epochs", type=int, default=3, help="of the quickstart's model")
    parser.add_argument("--only", choices=CASES, help="one dataset")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    if args.scenes % args.batch_size:
        parser.error(f"--scenes must be a multiple of --batch-size, got {args.scenes}")
    torch.set_num_threads(1)  # as in each of the workers: one process against two
    head = ("dataset", "image", "Cryo-Bench's way, images/s", "here, images/s", "ratio")
    print(f"| {' | '.join(head)} | lowest to highest | ratio of processor time |")
    print("| --- | --- | ---: | ---: | ---: | --- | ---: |")
    found = {}
    for name, case in CASES.items():
        if args.only not in (None, name):
            continue
        size = (args.size, args.size) if args.size else case.size
        with tempfile.TemporaryDirectory() as folder:
            one = found[name] = speed(
                case,
                Path(folder),
                scenes=args.scenes,
                size=size,
                batch_size=args.batch_size,
                rounds=args.rounds,
            )
        image = f"{size[0]} x {size[1]} x {len(find_dataset(name).bands)} {case.dtype} {case.suffix[1:]}"
        rates = f"{one.loader:.0f} | {one.tiles:.0f} | {one.ratio:.1f}"
        span = f"{one.ratio_low:.1f} to {one.ratio_high:.1f}"
        print(f"| {name} | {image} | {rates} | {span} | {one.cpu_ratio:.1f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        waiting = quickstart_share(Path(folder), epochs=args.epochs)
    print(f"\nquickstart: data time / compute time {100 * waiting:.2f} %")
    if args.json:
        speeds = {name: asdict(one) for name, one in found.items()}
        facts = {"data_path": speeds, "quickstart_data_share": waiting}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
