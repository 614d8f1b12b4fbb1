"""Measure what it costs to read a training's metrics: from their own file, and from its checkpoint.

`python -m benchmarks.history_read FOLDER` writes a checkpoint of a ViT-B with UPerNet and AdamW
(1.5 GB) into a new folder there, reads it cold (evicted from the page cache) and warm, and removes it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cryo_hpo.training.checkpoints import HISTORY, LAST, save_last
from cryo_hpo.training.history_file import read_history, save_history

WEIGHTS, TENSORS, EPOCHS = 124_000_000, 200, 100
METRICS = "best_val_miou train_loss lr seconds data_seconds peak_gib micro_batch collapsed val_miou"


def main() -> None:
    """Print a table."""
    folder = Path(tempfile.mkdtemp(dir=sys.argv[1] if sys.argv[1:] else None))
    try:
        _write(folder)
        print("| read from | bytes | from disk, cold | s, cold | s, warm | CPU s, warm |")
        print("|---|--:|--:|--:|--:|--:|")
        _measure(HISTORY, folder / HISTORY, lambda: read_history(folder, "x", epochs=EPOCHS))
        (folder / HISTORY).unlink()
        _measure(LAST, folder / LAST, lambda: read_history(folder, "x", epochs=EPOCHS))
    finally:
        shutil.rmtree(folder)


def _write(folder: Path) -> None:
    def values() -> list[torch.Tensor]:
        return [torch.randn(WEIGHTS // TENSORS) for _ in range(TENSORS)]

    moments = zip(values(), values(), strict=True)
    state = {n: {"exp_avg": one, "exp_avg_sq": two} for n, (one, two) in enumerate(moments)}
    model = {f"encoder.blocks.{n}.weight": x for n, x in enumerate(values())}
    history = [
        {"epoch": float(epoch), **dict.fromkeys(METRICS.split(), 1 / (3 + epoch))}
        for epoch in range(1, EPOCHS + 1)
    ]
    held = {"recipe": "x", "model": model, "optimizer": {"state": state}, "history": history}
    save_last(folder, held)
    save_history(folder, "x", history)


def _measure(name: str, file: Path, read: Callable[[], object]) -> None:
    _evict(file)
    before = _from_disk()
    cold, _ = _seconds(read)
    fetched = _from_disk() - before
    warm, cpu = _seconds(read)
    size = file.stat().st_size
    print(f"| `{name}` | {size:,} | {fetched:,} | {cold:.3f} | {warm:.3f} | {cpu:.3f} |")


def _seconds(read: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - wall, time.process_time() - cpu


def _evict(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _from_disk() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


if __name__ == "__main__":
    main()
