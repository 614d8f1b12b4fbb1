"""Read the costs of encoders that `benchmarks/encoder_cost.py` measured on one machine."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

FILE = "costs.csv"


class Cost(NamedTuple):
    """Hold the cost of one encoder at full size, on square images of its native size."""

    encoder: str
    bands: int
    """Bands of the input."""
    size: int
    """Side of the input, pixels."""
    parameters: int
    gflops: float
    """1e9 operations of a forward pass per image; a multiplication and an addition are two."""
    forward_s: float
    """CPU seconds of a forward pass per image, without gradients, one thread."""
    backward_s: float
    """CPU seconds per image for the gradients of all parameters, one thread."""
    peak_mib: float
    """Peak memory of a training step on one image, without the optimizer, 2^20 bytes."""


@cache
def costs() -> dict[str, Cost]:
    """Return encoder -> cost; an encoder that was not measured is left out."""
    rows = csv.DictReader(line for line in _lines() if not line.startswith("#"))
    return {row["encoder"]: _cost(row) for row in rows}


@cache
def machine() -> str:
    """Return the machine and the method of the measurement, as text."""
    return " ".join(line[1:].strip() for line in _lines() if line.startswith("#"))


def _lines() -> list[str]:
    return (files(__package__) / FILE).read_text(encoding="utf-8").splitlines()


def _cost(row: dict[str, str]) -> Cost:
    return Cost(
        encoder=row["encoder"],
        bands=int(row["bands"]),
        size=int(row["size"]),
        parameters=int(row["parameters"]),
        gflops=float(row["gflops"]),
        forward_s=float(row["forward_s"]),
        backward_s=float(row["backward_s"]),
        peak_mib=float(row["peak_mib"]),
    )
