"""Measure the cost of every encoder of the table at its native size: FLOP, CPU time and memory.

Each is built at full size in its own process, forked before any model was built, with one
thread. CPU seconds of that process are counted, not wall time: they depend less on the load of the
machine. Arithmetic is counted on the meta device. The table is written to the package, where
`cryo-hpo list encoders` reads it.
"""

# B batch, C bands, H W pixels

from __future__ import annotations

import argparse
import csv
import datetime
import multiprocessing
import platform
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cryo_hpo.bands import BANDS, Band
from cryo_hpo.models.costs import FILE, Cost
from cryo_hpo.models.lookup import ENCODERS, Encoder

OUT = Path(__file__).parents[1] / "cryo_hpo" / "models" / FILE
ANY = tuple(
    band for band in BANDS.values() if band.sensor == "sentinel-2"
)  # for encoders of any bands
UNPRETRAINED = 224  # pixels; for encoders without a native size, as the other transformers
ROUNDS = 2  # the lesser counts: other load only ever adds time


def bands_of(card: Encoder) -> tuple[Band, ...]:
    """Return the bands to measure an encoder with: all it has, or Sentinel-2's."""
    return card.bands or ANY


def size_of(card: Encoder) -> int:
    """Return the side of the images to measure an encoder on, pixels."""
    size = card.native_size or UNPRETRAINED
    return size // card.multiple * card.multiple


def count(card: Encoder) -> tuple[int, float]:
    """Return (parameters, 1e9 operations of a forward pass on one image), without memory."""
    with torch.device("meta"):
        model = card.build(bands_of(card)).eval()
        image_BCHW = torch.empty(1, len(bands_of(card)), size_of(card), size_of(card))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image_BCHW)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, counter.get_total_flops() / 1e9


def measure(card: Encoder) -> Cost:
    """Measure an encoder in this process, which must be fresh for memory to be attributed."""
    parameters, gflops = count(card)
    before = _resident_mib()
    model = card.build(bands_of(card))
    image_BCHW = torch.randn(1, len(bands_of(card)), size_of(card), size_of(card))
    forward = min(_forward(model.eval(), image_BCHW) for _ in range(ROUNDS))
    backward = min(_backward(model.train(), image_BCHW) for _ in range(ROUNDS))
    return Cost(
        encoder=card.name,
        bands=len(bands_of(card)),
        size=size_of(card),
        parameters=parameters,
        gflops=round(gflops, 2),
        forward_s=round(forward, 3),
        backward_s=round(backward, 3),
        peak_mib=round(_peak_mib() - before),
    )


def _forward(model: nn.Module, image_BCHW: torch.Tensor) -> float:
    start = time.process_time()
    with torch.no_grad():
        model(image_BCHW)
    return time.process_time() - start


def _backward(model: nn.Module, image_BCHW: torch.Tensor) -> float:
    model.zero_grad()
    loss = torch.stack([level.square().mean() for level in model(image_BCHW)]).sum()
    start = time.process_time()
    torch.autograd.backward(loss)
    return time.process_time() - start


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def conditions() -> list[str]:
    """Describe the machine and method of the measurement."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return [
        f"# {today}, {names[0] if names else platform.machine()}, torch {torch.__version__}, "
        "float32, one thread, one image; CPU seconds of the process, the lesser of "
        f"{ROUNDS} runs; memory above that of the imported libraries.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all encoders, or those named, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="encoders; left out: all of the table")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--side-by-side", type=int, default=1, help="processes at a time")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)  # before the fork: a forked pool of threads has none
    cards = [ENCODERS[name] for name in asked.names or ENCODERS]
    fork = multiprocessing.get_context("fork")
    with (
        fork.Pool(asked.side_by_side, maxtasksperchild=1) as pool,
        asked.out.open("w", newline="") as file,
    ):
        file.writelines(f"{line}\n" for line in conditions())
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Cost._fields)
        for cost in pool.imap(_measure, [card.name for card in cards], chunksize=1):
            print(*cost, flush=True)
            writer.writerow(cost)
            file.flush()


def _measure(name: str) -> Cost:
    return measure(ENCODERS[name])


if __name__ == "__main__":
    main()
