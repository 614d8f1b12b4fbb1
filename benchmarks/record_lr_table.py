"""Record learning curves over learning rates: the tables of the search benchmark.

The production trainer trains every cell of a table (task, encoder, learning rate or optimizer, seed)
to full length and records each epoch: validation and test, with raw and averaged weights. Scenes
and networks are small, so that the largest table costs about an hour of one core; the curves that a
search sees are of the same kind as at full size.

    python -m benchmarks.record_lr_table record --data ../shared/data --weights ../shared/weights
    python -m benchmarks.record_lr_table pack benchmarks/data/lr_table.npz

`--grid` names another table (`benchmarks/grids.py`). `record` appends a line per finished training and
resumes where it stopped. Seeds are outermost, so a table cut short is balanced.
"""

# C bands, H W pixels; T tasks, E encoders, L learning rates, S seeds, N epochs

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
import yaml
from numpy.typing import NDArray

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Split
from cryo_hpo.data.synthetic.generate import CARDS, generate
from cryo_hpo.errors import Diverged
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.evaluation.sliding_window import score_each
from cryo_hpo.training import checkpoints
from cryo_hpo.training.build import initial_model, normalizer, scenes_of, window_of
from cryo_hpo.training.loop import fit
from cryo_hpo.training.scoring import WINDOWS_PER_PASS

from .grids import BATCH, GRIDS, LOSS, SIDE, TASKS, TEST, TRAIN, VAL, Grid, Task

CARDS_OF = Path(__file__).parents[1] / "search_spaces" / "studies" / "cards"
CPU = torch.device("cpu")
SCENES: dict[Split, int] = {"train": TRAIN, "val": VAL, "test": TEST}
SERIES = ("val", "val_ema", "test", "test_ema", "loss")


def prepare(
    root: Path, out: Path, grid: Grid, tasks: Iterable[str] = TASKS
) -> dict[str, DatasetCard]:
    """Write the reduced datasets below `out` and return their cards."""
    return {name: _cut(name, TASKS[name], root, out, grid) for name in tasks}


def _cut(name: str, task: Task, root: Path, out: Path, grid: Grid) -> DatasetCard:
    if task.card in CARDS:
        generate(task.card, out, scenes=SCENES, size=SIDE * task.reduce)
        root, card = out, CARDS[task.card]
    else:
        text = (CARDS_OF / task.card).read_text()
        card = DatasetCard.model_validate_json(json.dumps(yaml.safe_load(text)))
    changes = {
        "root": str(out / "cut" / name),
        "images": "{split}/images/{id}.tif",
        "masks": "{split}/masks/{id}.tif",
        "bands": ("GREY",) if len(card.bands) == 1 else card.bands,  # Galileo has no thermal band
        "ignore": IGNORE,
        "region": None,
    }
    for split, count in {**SCENES, "train": grid.train}.items():
        scenes = open_split(custom_dataset(card), root, split, cache=out / "cache")
        order = np.random.default_rng(0).permutation(len(scenes))
        windows = (
            w for i in order for w in _windows(scenes.image(i), scenes.mask(i), task, grid.side)
        )
        for number, (image_CHW, mask_HW) in enumerate(islice(windows, count)):
            _write(out / "cut" / name / split / "images" / f"{number:03d}.tif", image_CHW)
            _write(out / "cut" / name / split / "masks" / f"{number:03d}.tif", mask_HW[None])
    return card.model_copy(update=changes)


def _windows(
    image_CHW: NDArray[Any], mask_HW: NDArray[np.uint8], task: Task, side: int
) -> list[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Cut one scene into windows on a grid; return those with the most labeled pixels."""
    k = task.reduce * SIDE // side
    height, width = (length // k * k for length in mask_HW.shape)
    blocks = image_CHW[:, :height, :width].reshape(-1, height // k, k, width // k, k)
    small_CHW = blocks.mean(axis=(2, 4)).round().astype(image_CHW.dtype)
    labels_HW = mask_HW[:height:k, :width:k]
    found = []
    for top, left in product(*(range(0, n - side + 1, side) for n in labels_HW.shape)):
        place = np.s_[top : top + side, left : left + side]
        found.append((small_CHW[:, *place], labels_HW[place]))
    found.sort(key=lambda window: -int((window[1] != IGNORE).sum()))
    return found[: task.tiles]


def _write(path: Path, pixels_CHW: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=pixels_CHW.dtype,
        crs="EPSG:32633",  # arbitrary: readers warn about rasters without a georeference
        transform=rasterio.Affine(10, 0, 500_000, 0, -10, 8_700_000),
    ) as file:
        file.write(pixels_CHW)


class Cell(NamedTuple):
    """One training of the table."""

    seed: int
    optim: str
    task: str
    model: str

    @property
    def key(self) -> str:
        """Name in the log."""
        return f"{self.task}/{self.model}/{self.optim}/{self.seed}"


def cells(grid: Grid) -> list[Cell]:
    """Return all trainings, the seed outermost."""
    places = product(grid.seeds, grid.models, grid.optims, TASKS)
    return [Cell(seed, optim, task, model) for seed, model, optim, task in places]


def recipe_of(cell: Cell, card: DatasetCard, grid: Grid) -> Recipe:
    """Return the recipe of one training."""
    return Recipe(
        data=DataSpec(card=card, crop=grid.side, augment=TASKS[cell.task].augment, replicate=1),
        model=grid.models[cell.model],
        loss=LOSS,
        optim=grid.optims[cell.optim],
        batch_size=BATCH,
        epochs=grid.epochs,
        seed=cell.seed,
    )


def train(cell: Cell, card: DatasetCard, site: Site, grid: Grid) -> dict[str, Any]:
    """Train one cell and return its curves, which end if the training diverges."""
    recipe = recipe_of(cell, card, grid)
    started = time.process_time()
    curves: dict[str, list[float]] = {name: [] for name in SERIES}
    diverged = ""
    try:
        _follow(recipe, site, curves)
    except Diverged as error:
        diverged = str(error)
    rounded = {name: [round(v, 5) for v in values] for name, values in curves.items()}
    seconds = round(time.process_time() - started, 2)
    return {"key": cell.key, **rounded, "diverged": diverged, "seconds": seconds}


def _follow(recipe: Recipe, site: Site, curves: dict[str, list[float]]) -> None:
    """Append every epoch to the curves; test scores are those of the best checkpoint so far."""
    tester, validator = (Tester(recipe, site, split) for split in ("test", "val"))
    averaged = recipe.optim.ema is not None
    kept = {"val": "model", "val_ema": "average" if averaged else "model"}
    every = range(1, recipe.epochs + 1)  # the state of an epoch is read before the next one trains
    with in_memory() as states:
        for epoch in fit(
            recipe,
            site=site,
            workdir=site.storage,
            device=CPU,
            keep_best=False,
            decisions=every,
        ):
            state = states[str(site.storage / checkpoints.LAST)]
            raw = validator(state, "model") if averaged else epoch.val.miou
            now = {"val": raw, "val_ema": epoch.val.miou}
            curves["loss"].append(epoch.train_loss)
            for name, part in kept.items():
                better = now[name] > max(curves[name], default=-1.0)
                curves[name].append(now[name])
                tests = curves[name.replace("val", "test")]
                tests.append(tester(state, part) if better else tests[-1])


@contextmanager
def in_memory() -> Iterator[dict[str, dict[str, Any]]]:
    """Keep checkpoints in a dict: on disk they would cost more than such small trainings."""
    states: dict[str, dict[str, Any]] = {}
    save_last = checkpoints.save_last

    def keep(workdir: Path, state: dict[str, Any]) -> None:
        states[str(workdir / checkpoints.LAST)] = state

    checkpoints.save_last = keep
    try:
        yield states
    finally:
        checkpoints.save_last = save_last


class Tester:
    """Scores a checkpoint on a split."""

    def __init__(self, recipe: Recipe, site: Site, split: Split) -> None:
        self._model = initial_model(recipe, site=site, resumes=True, device=CPU)
        self._scenes = scenes_of(recipe, split, site)
        train = scenes_of(recipe, "train", site)
        self._normalize = normalizer(recipe, train, CPU)
        self._classes = tuple(recipe.data.card.classes) if recipe.data.card else ()
        self._window = window_of(recipe, CPU)

    def __call__(self, state: dict[str, Any], part: str) -> float:
        """Return the mIoU of the split."""
        scores = (scores for _, scores in self.by_scene(state, part))
        return sum(scores, start=Scores.zero(self._classes)).miou

    def by_scene(self, state: dict[str, Any], part: str) -> Iterator[tuple[str, Scores]]:
        """Yield the scores of every scene."""
        self._model.load_state_dict(state["model"] if part == "model" else state[part]["model"])
        return score_each(
            self._model,
            self._scenes,
            normalize=self._normalize,
            classes=self._classes,
            window=self._window,
            batch=WINDOWS_PER_PASS,
        )


def described(model: ModelSpec, grid: Grid) -> dict[str, Any]:
    """Return what a portfolio needs of a table's recipe; see `cryo-hpo learn`."""
    optim = next(iter(grid.optims.values()))
    return {
        "encoder": model.encoder,
        "tune": model.tune,
        "optimizer": optim.name,
        "schedule": optim.schedule,
        "loss": LOSS.name,
        "steps_per_epoch": grid.train // BATCH,
    }


def record(name: str, data: Path, weights: Path, work: Path, limit: int | None) -> None:
    """Train the cells of a table that its log does not contain yet."""
    torch.set_num_threads(1)
    grid, log = GRIDS[name], work / f"{name}.jsonl"
    cards = prepare(data, work / f"scenes-{grid.side}-{grid.train}", grid)
    done = (
        {json.loads(line)["key"] for line in log.read_text().splitlines()}
        if log.exists()
        else set()
    )
    site = Site.from_env(
        {
            "CRYO_DATA": str(work),
            "CRYO_WEIGHTS": str(weights),
            "CRYO_STORAGE": str(work / "run"),
            "CRYO_CACHE": str(work / "cache"),
        }
    )
    for cell in islice((c for c in cells(grid) if c.key not in done), limit):
        line = train(cell, cards[cell.task], site, grid)
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")


def pack(grid: Grid, log: Path, out: Path) -> None:
    """Convert the log to arrays (T, E, L, S, N); nan after divergence and where not trained."""
    optims = dict(sorted(grid.optims.items(), key=lambda item: item[1].lr))
    rows = {row["key"]: row for row in map(json.loads, log.read_text().splitlines())}
    shape = (len(TASKS), len(grid.models), len(optims), len(grid.seeds))
    arrays = {name: np.full((*shape, grid.epochs), np.nan, np.float32) for name in SERIES}
    trained, diverged = np.zeros(shape, bool), np.zeros(shape, bool)
    axes: tuple[Any, ...] = (TASKS, grid.models, optims, grid.seeds)
    for (t, task), (e, model), (i, optim), (s, seed) in product(*map(enumerate, axes)):
        row = rows.get(Cell(seed, optim, task, model).key)
        if row is None:
            continue
        trained[t, e, i, s], diverged[t, e, i, s] = True, bool(row["diverged"])
        for name, array in arrays.items():
            array[t, e, i, s, : len(row[name])] = row[name]
    names = {"tasks": np.array(list(TASKS)), "encoders": np.array(list(grid.models))}
    names["recipes"] = np.array(
        [json.dumps(described(model, grid)) for model in grid.models.values()]
    )
    names |= {
        "lr": np.array([optim.lr for optim in optims.values()]),
        "seeds": np.array(grid.seeds),
    }
    names["optimizers"] = np.array([optim.name for optim in optims.values()])
    content: dict[str, Any] = {"trained": trained, "diverged": diverged, **arrays, **names}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **content)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/lr-table"), help="where the log and scenes lie"
    )
    parser.add_argument("--grid", choices=GRIDS, default="lr_table", help="which table")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="train what is missing")
    recording.add_argument(
        "--data", type=Path, required=True, help="folder of the three real datasets"
    )
    recording.add_argument("--weights", type=Path, required=True, help="folder of galileo_nano")
    recording.add_argument("--limit", type=int, help="at most so many trainings")
    packing = commands.add_parser("pack", help="write the table")
    packing.add_argument("out", type=Path)
    asked = parser.parse_args()
    if asked.command == "record":
        data, weights, work = (p.absolute() for p in (asked.data, asked.weights, asked.work))
        record(asked.grid, data, weights, work, asked.limit)
    else:
        pack(GRIDS[asked.grid], asked.work / f"{asked.grid}.jsonl", asked.out)


if __name__ == "__main__":
    main()
