"""Each encoder at full size, from a checkpoint in its published layout, against upstream's numbers.

The weights are drawn from the names of the keys; the file goes through the loader that users'
files go through, with the rules of the card: every key is used or on the card's list.
"""

# B batch, C channels, H W pixels

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cryo_hpo.bands import find_band
from cryo_hpo.models import find_encoder
from cryo_hpo.models.weights import load_weights

Reference = Callable[[Path], tuple[dict[str, Any], Any]]
Value = Callable[[str, dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Case:
    """An encoder, upstream's name of it, and what built it.

    `log_10` are ends of keys of parameters that the reference left at log(10), as built.
    `not_in_file` are ends of keys that the published file has and the reference lacks.
    """

    encoder: str
    reference: str
    log_10: tuple[str, ...] = ()


CASES = [
    Case("vit-b16", "vit"),
    Case("s12-moco", "ssl4eo_moco"),
    Case("prithvi-100m", "prithvi"),
]


def checkpoint(described: dict[str, Any], value: Value, log_10: tuple[str, ...]) -> dict[str, Any]:
    """Draw the tensors, and nest them as the keys say: entry/name."""
    state: dict[str, Any] = {}
    for key, entry in described["checkpoint"].items():
        *outer, name = key.split("/")
        inner = state
        for part in outer:
            inner = inner.setdefault(part, {})
        if "kept" not in entry:
            inner[name] = value(key, entry)
        elif key.endswith(log_10 or ("/",)):
            inner[name] = torch.full(entry["shape"], math.log(10))
    return state


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.encoder)
def test_encoder_agrees_with_upstream_on_the_same_weights(
    case: Case, shared: Path, tmp_path: Path, reference: Reference, value: Value
) -> None:
    torch.set_num_threads(2)
    described, stored = reference(shared / "parity" / "encoders" / f"{case.reference}.json")
    torch.save(checkpoint(described, value, case.log_10), tmp_path / "weights.pt")
    card = find_encoder(case.encoder, protocol="cryo-bench")
    bands = [find_band(name) for name in described["bands"]]
    assert card.bands is None or list(card.bands) == bands
    encoder: Any = card.build(bands).eval()
    load_weights(encoder, "weights.pt", published=card.weights, root=tmp_path, name=case.encoder)
    size = described["input_size"]
    image = np.random.default_rng(0).standard_normal((1, len(bands), size, size), np.float32)
    with torch.no_grad():
        levels = encoder(torch.from_numpy(image))
    worst = max(_difference(level, stored, i) for i, level in enumerate(levels))
    assert f"level{len(levels)}_values" not in stored
    assert worst < 1e-5
    del encoder, levels
    gc.collect()


def _difference(level: Tensor, stored: Any, i: int) -> float:
    """Return the largest difference relative to the largest value, of sampled values and means."""
    assert level.shape == tuple(stored[f"level{i}_shape"])
    picked = np.random.default_rng(1).integers(0, level.numel(), 512)
    found = {
        "values": level.flatten().numpy()[picked],
        "channel_mean": level.mean(dim=(0, 2, 3)).numpy(),
        "channel_std": level.double().std(dim=(0, 2, 3), correction=0).numpy(),
    }
    scale = np.abs(stored[f"level{i}_values"]).max()
    return max(
        float(np.abs(x - stored[f"level{i}_{key}"]).max() / scale) for key, x in found.items()
    )
