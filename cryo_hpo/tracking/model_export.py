"""A trained model in MLflow's own format: a graph that loads without this package."""

# B batch, C bands, K classes, S side of a window

from __future__ import annotations

import contextlib
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from torch import nn

EXAMPLES = 2  # torch.export takes a batch of 0 or 1 for a constant
FLOAT = np.dtype("float32")


def save_model(model: nn.Module, folder: Path, *, shape: tuple[int, int, int]) -> None:
    """Write a model with its signature and an input example.

    Args:
        model: (B, C, S, S) float32 in the files' units -> logits (B, K, S, S); in eval mode.
        folder: Made; what is there goes.
        shape: C, S, S.

    Raises:
        Exception: Whatever torch.export raises for a model that is no graph.
    """
    shutil.rmtree(folder, ignore_errors=True)
    example_BCHW = np.zeros((EXAMPLES, *shape), dtype=FLOAT)
    with torch.inference_mode():
        classes = model(torch.from_numpy(example_BCHW)).shape[1]
    for batch in (-1, EXAMPLES):
        _save(model, folder, example_BCHW, (batch, classes, *shape[1:]))
        if batch == EXAMPLES or _takes_any_batch(folder, example_BCHW):
            return
        shutil.rmtree(folder)  # the graph holds the batch of its example: say so


def _save(
    model: nn.Module, folder: Path, example_BCHW: NDArray[np.float32], outputs: tuple[int, ...]
) -> None:
    inputs = (outputs[0], *example_BCHW.shape[1:])
    signature = ModelSignature(
        Schema([TensorSpec(FLOAT, inputs)]), Schema([TensorSpec(FLOAT, outputs)])
    )
    with _quietly():
        mlflow.pytorch.save_model(
            model,
            str(folder),
            signature=signature,
            input_example=example_BCHW,
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", "numpy"],
        )


def _takes_any_batch(folder: Path, example_BCHW: NDArray[np.float32]) -> bool:
    with _quietly():
        loaded = mlflow.pytorch.load_model(str(folder))
    try:
        loaded(torch.from_numpy(np.concatenate([example_BCHW, example_BCHW[:1]])))
    except Exception:
        return False
    return True


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what MLflow says of requirements, and torch of its own export."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
