"""Measure training steps, encoders and an epoch on a CUDA card, and ways to launch fewer kernels.

`make bench-gpu` prints the tables of docs/performance.md. Steps are those of the training loop
(`cryo_hpo.training.loop`), timed by the host over many steps between two synchronizations;
floating-point operations are counted by torch for the same step.

`make bench-gpu PARTS=launches` alone takes about five minutes: `benchmarks.launches`, which has not run
on a card yet.
"""

# B batch, C bands, H W pixels
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryo_hpo.config import LossSpec, ModelSpec, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.models.lookup import ENCODERS
from cryo_hpo.training import loop
from cryo_hpo.training.kernels import compile_model

from . import launches
from .card_steps import (
    MODELS,
    SCENE,
    SIDE,
    VIT,
    count_flop,
    first_batch,
    free_memory,
    make_recipe,
    site_below,
    time_rounds,
    time_steps,
    write_scenes,
)

CUDA = torch.device("cuda")
GLID = {"train": 12_857, "val": 2_755}  # its scenes
# Encoders that differ from another one in sizes only.
TWINS = (
    *(f"thor-{size}" for size in ("tiny", "small", "large")),
    *(f"terramind-{size}" for size in ("tiny", "small", "large")),
    *(f"terramind-{size}-s2s1" for size in ("tiny", "small", "large")),
    "s12-mae",
)
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "ViT-B, UPerNet-512": {
        "bf16": {},
        "bf16, AdamW in many kernels": {"fused": False},
        "bf16, recompute": {"recompute": True},
        "bf16, bitwise": {"reproducible": "bitwise"},
        "bf16, ce+dice": {"loss": LossSpec(name="ce+dice")},
        "bf16, batch 32": {"batch_size": 32},
        "tf32": {"precision": "tf32"},
        "fp32": {"precision": "fp32"},
    },
    "U-Net, width 32": {"bf16": {}, "fp32": {"precision": "fp32"}},
    "Swin-T, UPerNet-256": {"bf16": {}},
    "Galileo-nano, UPerNet-64": {"bf16": {}},
}


def main() -> None:
    """Print the tables that are asked for, all by default."""
    parts: dict[str, Callable[..., Iterator[str]]] = {
        "launches": lambda *_: launches.run_parts(),
        "ceilings": ceilings,
        "steps": steps,
        "epoch": epoch,
        "encoders": encoders,
        "compiled": compiled,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(parts), metavar="|".join(parts))
    parser.add_argument("--scenes", type=int, default=400, help="training scenes of the epoch")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA card is visible to torch here: nothing was measured.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for part in given.parts:
            print(f"\n## {part}\n", flush=True)
            for row in parts[part](Path(root), given.scenes):
                print(row, flush=True)


def ceilings(*_: Any) -> Iterator[str]:
    """Measure what the card can do at most: bytes copied and bf16 products of matrices."""
    values = torch.randn(1 << 29, device=CUDA)
    copy = torch.empty_like(values)
    seconds = time_rounds(lambda: copy.copy_(values), rounds=20)
    yield f"copy on the card: {2 * values.nbytes / seconds / 1e12:.2f} TB/s, read and written"
    matrix = torch.randn(8192, 8192, device=CUDA, dtype=torch.bfloat16)
    seconds = time_rounds(lambda: matrix @ matrix, rounds=20)
    yield f"bf16 product of matrices: {2 * 8192**3 / seconds / 1e12:.0f} TFLOP/s"


def steps(root: Path, _: int) -> Iterator[str]:
    """Time a training step of some models in some ways."""
    yield from _table(root, WAYS)


def compiled(root: Path, _: int) -> Iterator[str]:
    """Time steps of compiled models; compiling takes minutes."""
    names = ("ViT-B, UPerNet-512", "U-Net, width 32")
    yield from _table(root, {name: {"bf16, compiled": {"compiled": True}} for name in names})


def _table(root: Path, rows: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    card, site = write_scenes(root / "steps", {"train": 8, "val": 2}), site_below(root / "steps")
    yield "| model, batch 8, 224 px | way | ms | TFLOP | TFLOP/s | share of 989 | peak GiB | s to start |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for model, ways in rows.items():
        for way, changes in ways.items():
            yield _row(card, site, model, way, {"model": MODELS[model], **changes})
            free_memory()


def _row(card: DatasetCard, site: Site, model: str, way: str, changes: dict[str, Any]) -> str:
    fused, compiles = changes.pop("fused", True), changes.pop("compiled", False)
    try:
        run = loop.open_run(make_recipe(card, **changes), site, CUDA)
        if not fused:
            for group in run.optimizer.param_groups:
                group.update(fused=False, foreach=True)
        batch = first_batch(run, CUDA)
        flop = count_flop(run, batch)
        started = time.perf_counter()
        if compiles:
            run.step._forward = _in_bf16(compile_model(run.model))
        run.model.train()
        loop.take_step(run, *batch, position=0)
        torch.cuda.synchronize()
        start = time.perf_counter() - started
        torch.cuda.reset_peak_memory_stats()
        seconds = time_steps(run, batch)
    except Exception as error:  # one row that fails must not cost the others
        return f"| {model} | {way} | {type(error).__name__}: {str(error)[:200]} |"
    peak = torch.cuda.max_memory_allocated() / 2**30
    rate = flop / seconds / 1e12
    return (
        f"| {model} | {way} | {1e3 * seconds:.1f} | {flop / 1e12:.2f} | {rate:.0f} "
        f"| {rate / 9.89:.0f} % | {peak:.1f} | {start:.1f} |"
    )


def _in_bf16(model: Any) -> Callable[[Tensor], Tensor]:
    def forward(x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits: Tensor = model(x_BCHW)
        return logits.float()

    return forward


def encoders(root: Path, _: int) -> Iterator[str]:
    """Time a training step of every kind of encoder at its own size."""
    cards: dict[tuple[str, ...], DatasetCard] = {}
    yield "| encoder, batch 8, UPerNet-64 | px | ms a step | peak GiB | loss |"
    yield "|---|--:|--:|--:|--:|"
    for name, encoder in ENCODERS.items():
        if name in TWINS:
            continue
        bands = tuple(band.name for band in encoder.bands or ()) or ("B4", "B3", "B2")
        if bands not in cards:
            place = root / f"bands{len(cards)}"
            cards[bands] = write_scenes(place, {"train": 8, "val": 2}, bands=bands, name=place.name)
        here = site_below(root / cards[bands].name)
        size = (encoder.native_size or SIDE) // encoder.multiple * encoder.multiple
        spec = ModelSpec(encoder=name, decoder="upernet", channels=64, weights="scratch")
        yield f"| {name} | {size} | {_encoder_cells(cards[bands], here, spec, size)} |"
        free_memory()


def _encoder_cells(card: DatasetCard, site: Site, spec: ModelSpec, size: int) -> str:
    changes: dict[str, Any] = {"model": spec, "crop": min(size, SCENE)}
    try:
        run = loop.open_run(make_recipe(card, **changes), site, CUDA)
        batch = first_batch(run, CUDA)
        torch.cuda.reset_peak_memory_stats()
        seconds = time_steps(run, batch, rounds=10)
        peak = torch.cuda.max_memory_allocated() / 2**30
        loss, _ = loop.take_step(run, *batch, position=0)
        cells = f"{1e3 * seconds:.1f} | {peak:.1f} | {float(loss):.3f}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:160]} | |"
    return cells


def epoch(root: Path, scenes: int) -> Iterator[str]:
    """Train whole epochs of a part of a set like GLID, through the door of a trial."""
    count = {"train": scenes, "val": round(scenes * GLID["val"] / GLID["train"])}
    card = write_scenes(root / "glid", count, name="glid-like")
    site = site_below(root / "glid")
    recipe = make_recipe(card, model=VIT, epochs=3)
    work = Path(tempfile.mkdtemp(dir=root))
    yield f"{count['train']} training and {count['val']} validation scenes of {SCENE} pixels"
    last = time.perf_counter()
    for one in loop.fit(recipe, site=site, workdir=work, device=CUDA):
        now = time.perf_counter()
        yield (
            f"epoch {one.number}: {now - last:.2f} s until yielded, {one.seconds:.2f} s of it in the "
            f"epoch, {one.data_seconds:.2f} s waiting for batches, peak {one.peak_gib:.1f} GiB"
        )
        last = now
    run = loop.open_run(recipe, site, CUDA)
    started = time.perf_counter()
    run.validation.score(run.model)
    validation = time.perf_counter() - started
    yield f"validation alone: {validation:.2f} s, {1e3 * validation / count['val']:.1f} ms a scene"
    started = time.perf_counter()
    loop._train(run, 1)
    torch.cuda.synchronize()
    training = time.perf_counter() - started
    yield f"training alone: {training:.2f} s, {1e3 * training / run.steps:.1f} ms a step"
    factor = GLID["train"] / count["train"]
    yield (
        f"scaled to GLID's {GLID['train']:,} and {GLID['val']:,} scenes: training "
        f"{factor * training:.0f} s, validation {factor * validation:.0f} s"
    )


if __name__ == "__main__":
    main()
