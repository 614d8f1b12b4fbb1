"""Measure ways to launch fewer kernels from the host, which a card waits for at small batches.

On an H100 a kernel was launched every 23 us (docs/performance.md), so a step of batch 8 is as long as
its launches. Four parts, the most telling first, each in a process of its own with a time limit:

captured   the whole training step in a CUDA graph: one launch replays them all
processes  one, three and five trainings at a time on one card, as `resources.gpus: 0.2` does
shared     a frozen encoder run once for four learning rates (`benchmarks.pack`, `benchmarks.stacked`)
reduced    `torch.compile(mode="reduce-overhead")`, which captures the model alone

    python -m benchmarks.launches             # all four: about five minutes, at most six
    python -m benchmarks.launches captured

**Not run on a card yet.** What a CPU can run of it is rehearsed by `tests/benchmarks/test_launches.py`:
a CPU has no graphs, so the captured step runs there kernel by kernel, and must train as the loop's does.
"""

# B batch, C bands, H W pixels
from __future__ import annotations

import argparse
import multiprocessing
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cryo_hpo.config import ModelSpec, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.training.opening import open_run
from cryo_hpo.training.run import Run
from cryo_hpo.training.step import take_step

from . import pack, stacked
from .capture import CapturedStep
from .card_steps import (
    BATCH,
    MODELS,
    count_flop,
    first_batch,
    free_memory,
    make_recipe,
    reserved_gib,
    site_below,
    synchronize,
    time_rounds,
    write_scenes,
)

CAPTURED = [(name, size) for size in (BATCH, 4 * BATCH) for name in MODELS]
# The aim is a third of the card at batch 8 of this model: its two rows come first.
CAPTURED.sort(key=lambda row: not row[0].startswith("ViT"))
REDUCED = ("ViT-B, UPerNet-512", "Galileo-nano, UPerNet-64")
NUMBERS = (1, 3, 5)  # trainings at a time
WINDOW_S, START_S = 5.0, 60.0  # how long they are timed, and waited for
SCENES = {"train": 8, "val": 2}
ROUNDS = 20  # steps of each of the five lots
LIMITS_S = {"captured": 130, "processes": 90, "shared": 30, "reduced": 110}
Take = Callable[..., tuple[Tensor, Tensor]]  # a step: (x, y, position=) -> loss, norm


def main() -> None:
    """Print one part, or all, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    given = parser.parse_args()
    if given.device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No CUDA card is visible to torch here: nothing was measured.")
    if given.part is None:
        for row in run_parts():
            print(row, flush=True)
        return
    with tempfile.TemporaryDirectory() as root:
        for row in PARTS[given.part](Path(root), given.device):
            print(row, flush=True)


def run_parts() -> Iterator[str]:
    """Run every part in a process of its own, which prints; yield what ended badly.

    A card that fails in one, or takes too long, costs none of the others.
    """
    for part, limit_s in LIMITS_S.items():
        print(f"\n### {part}\n", flush=True)
        words = [sys.executable, "-m", "benchmarks.launches", part]
        try:
            code = subprocess.run(words, timeout=limit_s, check=False).returncode
        except subprocess.TimeoutExpired:
            yield f"{part}: stopped after {limit_s} s; what it printed is whole"
            continue
        if code:
            yield f"{part}: does not run: its process ended with {code}"


def captured(root: Path, device: torch.device) -> Iterator[str]:
    """Time the step of the training loop, and the same step replayed from a CUDA graph."""
    card, site = write_scenes(root, SCENES), site_below(root)
    yield "| model, 224 px | batch | loop, ms | captured, ms | times | TFLOP/s | share of 989 | GiB held | s to capture |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, size in CAPTURED:
        yield f"| {name} | {size} | {compare_captured(card, site, device, MODELS[name], size)} |"
        free_memory()


def compare_captured(
    card: DatasetCard, site: Site, device: torch.device, model: ModelSpec, size: int, **changes: Any
) -> str:
    """Return the cells of a row; what does not run says why, and keeps what was measured."""
    cells = []
    try:
        recipe = make_recipe(card, model=model, batch_size=size, **changes)
        run = open_run(recipe, site, device)
        x, y = first_batch(run, device)
        flop, plain = count_flop(run, (x, y)), _time(run, _loop_step(run), x, y)
        cells.append(f"{1e3 * plain:.1f}")
        del run
        free_memory()
        run = open_run(recipe, site, device)
        run.model.train()
        started = time.perf_counter()
        step = CapturedStep(run, x, y)
        step(x, y, position=0)
        synchronize()
        start = time.perf_counter() - started
        seconds = _time(run, step, x, y)
        rate = flop / seconds / 1e12
        cells += [f"{1e3 * seconds:.1f}", f"{plain / seconds:.2f}", f"{rate:.0f}"]
        cells += [f"{rate / 9.89:.0f} %", f"{reserved_gib():.1f}", f"{start:.1f}"]
    except Exception as error:  # one row that fails must not cost the others
        cells.append(_why(error))
    return " | ".join(cells)


def reduced(root: Path, device: torch.device) -> Iterator[str]:
    """Time steps whose model is compiled with CUDA graphs; compiling may take a minute."""
    card, site = write_scenes(root, SCENES), site_below(root)
    yield "| model, batch 8, 224 px | reduce-overhead, ms | GiB held | s to start |"
    yield "|---|--:|--:|--:|"
    for name in REDUCED:
        yield f"| {name} | {time_reduced(card, site, device, MODELS[name])} |"
        free_memory()


def time_reduced(
    card: DatasetCard, site: Site, device: torch.device, model: ModelSpec, **changes: Any
) -> str:
    """Return the cells of a row of a compiled model."""
    try:
        run = open_run(make_recipe(card, model=model, **changes), site, device)
        x, y = first_batch(run, device)
        started = time.perf_counter()
        run.step._forward = _reduce(run, device)
        run.model.train()
        take_step(run, x, y, position=0)
        synchronize()
        start = time.perf_counter() - started
        seconds = _time(run, _loop_step(run), x, y)
    except Exception as error:
        return _why(error)
    return f"{1e3 * seconds:.1f} | {reserved_gib():.1f} | {start:.1f}"


def _reduce(run: Run, device: torch.device) -> Callable[[Tensor], Tensor]:
    network: Any = torch.compile(run.model, mode="reduce-overhead")

    def forward(x_BCHW: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits: Tensor = network(x_BCHW.contiguous(memory_format=torch.channels_last))
        return logits.float()

    return forward


def processes(root: Path, device: torch.device) -> Iterator[str]:
    """Time several trainings of Galileo-nano at a time, each a process of its own."""
    model = MODELS["Galileo-nano, UPerNet-64"]
    task = Task(root, write_scenes(root, SCENES), device, model, {})
    yield "| trainings at a time | steps/s, all together | ms a step of each |"
    yield "|--:|--:|--:|"
    for number in NUMBERS:
        yield f"| {number} | {time_processes(task, number)} |"


class Task(NamedTuple):
    """Describe trainings that run at the same time: what a process needs to open one."""

    root: Path
    card: DatasetCard
    device: torch.device
    model: ModelSpec
    changes: dict[str, Any]
    window_s: float = WINDOW_S


def time_processes(task: Task, number: int) -> str:
    """Return steps per second of all trainings together, and the milliseconds of one step of each."""
    spawn = multiprocessing.get_context("spawn")
    told, ready = spawn.Queue(), spawn.Barrier(number)
    workers = [
        spawn.Process(target=_train_for, args=(task, ready, told), daemon=True)
        for _ in range(number)
    ]
    for worker in workers:
        worker.start()
    limit_s = START_S + task.window_s
    try:
        rates = [told.get(timeout=limit_s) for _ in workers]
    except queue.Empty:
        return f"does not run: no answer within {limit_s:.0f} s"
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    failed = [rate for rate in rates if isinstance(rate, str)]
    if failed:  # the others say only that they waited for it in vain
        return min(failed, key=lambda why: "BrokenBarrier" in why)
    return f"{sum(rates):.1f} | {1e3 * number / sum(rates):.1f}"


def _train_for(task: Task, ready: Any, told: Any) -> None:
    """Train until the window is over, from when all are ready; tell the steps per second, or why not."""
    torch.set_num_threads(1)
    try:
        recipe = make_recipe(task.card, model=task.model, **task.changes)
        run = open_run(recipe, site_below(task.root), task.device)
        x, y = first_batch(run, task.device)
        run.model.train()
        step, positions = _loop_step(run), count()
        for _ in range(5):
            step(x, y, position=next(positions) % 3)
        synchronize()
        ready.wait(START_S)
        started, steps = time.perf_counter(), 0
        while time.perf_counter() < started + task.window_s:
            step(x, y, position=next(positions) % 3)
            steps += 1
        synchronize()
        told.put(steps / (time.perf_counter() - started))
    except Exception as error:
        ready.abort()  # the others wait for it
        told.put(_why(error))


def shared(_: Path, device: torch.device) -> Iterator[str]:
    """Time a step of four learning rates whose frozen encoder runs once; see `benchmarks.pack`, `benchmarks.stacked`."""
    yield from stacked.compare(None, steps=20, device=device)
    yield from pack.rows(pack.CASES[:3], device)


def _loop_step(run: Run) -> Take:
    def step(x: Tensor, y: Tensor, *, position: int) -> tuple[Tensor, Tensor]:
        return take_step(run, x, y, position=position)

    return step


def _time(run: Run, step: Take, x: Tensor, y: Tensor) -> float:
    """Return the seconds of a step whose loss and norm are read as in training: one step late."""
    run.model.train()
    positions = count()

    def work() -> None:
        position = next(positions) % 3
        run.readout.push(position, *step(x, y, position=position))

    return time_rounds(work, rounds=ROUNDS)


def _why(error: Exception) -> str:
    return f"does not run: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


PARTS = {"captured": captured, "processes": processes, "shared": shared, "reduced": reduced}


if __name__ == "__main__":
    main()
