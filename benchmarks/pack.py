"""Measure what training several learning rates of one frozen encoder side by side gains.

Production code both ways: each training by `loop.fit` alone, one after another, and all of them by
`pack.fit_pack`. An epoch of each way in turn, with validation and checkpoints: CPU seconds of
this process on one thread, or seconds of the clock on a GPU. Random weights; the time does not depend on
them. Losses and scores of both ways are compared as well.

    python -m benchmarks.pack
    python -m benchmarks.pack --device cuda
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.data.dataset import Split
from cryo_hpo.data.synthetic.generate import generate
from cryo_hpo.training.loop import Epoch, fit
from cryo_hpo.training.pack import Member, fit_pack

from .stacked import clock_of

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 3e-5, 1e-5)
SCENES: dict[Split, int] = {"train": 8, "val": 4, "test": 1}
EPOCHS = 3  # the first warms up


class Case(NamedTuple):
    """Describe a model, its crops, and how many trainings of it are side by side."""

    encoder: str
    decoder: Literal["unet", "upernet"]
    channels: int
    crop: int = 224
    batch: int = 4
    together: int = 4


CASES = (
    Case("dofa-base", "upernet", 64),
    Case("dofa-base", "upernet", 64, together=8),
    Case("dofa-base", "unet", 256),
    Case("dofa-base", "upernet", 512),
    Case("scale-mae-l", "unet", 256),
    Case("galileo-nano", "upernet", 64, crop=96, batch=8),
)


def main() -> None:
    """Print seconds per epoch of both ways, and their ratio, case by case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in rows(CASES[: options.cases], options.device):
        print(row, flush=True)


def rows(cases: Sequence[Case], device: torch.device) -> Iterator[str]:
    """Yield the lines of a table: what each case takes both ways, and whether results are equal."""
    yield "| encoder | decoder | trainings | s alone | s side by side | gain | equal |"
    yield "|---|---|--:|--:|--:|--:|---|"
    with tempfile.TemporaryDirectory() as folder:
        site = _site(Path(folder))
        generate("lakes-demo", site.data, scenes=SCENES, size=224)
        for number, case in enumerate(cases):
            storage = site.storage / str(number)
            yield _row(case, site, storage, device, clock_of(device))
            shutil.rmtree(storage)


def _row(
    case: Case, site: Site, folder: Path, device: torch.device, clock: Callable[[], float]
) -> str:
    recipes = [_recipe(case, lr) for lr in RATES[: case.together]]
    alone = [
        fit(recipe, site=site, workdir=folder / f"alone-{n}", device=device)
        for n, recipe in enumerate(recipes)
    ]
    members = [
        Member(recipe, folder / f"pack-{n}", until=EPOCHS) for n, recipe in enumerate(recipes)
    ]
    pack = fit_pack(members, site=site, device=device)
    ways: tuple[Callable[[], Iterator[object]], ...] = (
        lambda: (next(training) for training in alone),
        lambda: (event for _, event in islice(pack, len(members))),
    )
    seconds: tuple[list[float], list[float]] = [], []
    equal = True
    for _ in range(EPOCHS):
        epochs = []
        for way, taken in zip(ways, seconds, strict=True):
            started = clock()
            epochs.append([_facts(epoch) for epoch in way()])
            taken.append(clock() - started)
        equal &= epochs[0] == epochs[1]
    one, many = (taken[1:] for taken in seconds)
    gain = statistics.median(a / b for a, b in zip(one, many, strict=True))
    return (
        f"| {case.encoder} | {case.decoder} of {case.channels} | {case.together} | "
        f"{statistics.median(one):.1f} | {statistics.median(many):.1f} | {gain:.2f} | "
        f"{'yes' if equal else 'no'} |"
    )


def _facts(epoch: object) -> tuple[float, object]:
    """Return what both ways must agree on."""
    if isinstance(epoch, Exception):
        raise epoch
    assert isinstance(epoch, Epoch)
    return epoch.train_loss, epoch.val


def _recipe(case: Case, lr: float) -> Recipe:
    model = ModelSpec(
        encoder=case.encoder,
        decoder=case.decoder,
        channels=case.channels,
        tune="frozen",
        weights="scratch",
    )
    recipe = Recipe(
        data=DataSpec(name="lakes-demo", crop=case.crop),
        model=model,
        batch_size=case.batch,
        epochs=EPOCHS + 1,  # the last would write the encoder beside each best model
    )
    return recipe.replace({"optim.lr": lr})


def _site(root: Path) -> Site:
    names = ("DATA", "STORAGE", "CACHE", "WEIGHTS")
    return Site.from_env({f"CRYO_{name}": str(root / name.lower()) for name in names})


if __name__ == "__main__":
    main()
