"""Export a trained model in MLflow's format: a graph that loads without this package."""

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

EXAMPLES = 2  # torch.export treats a batch of 0 or 1 as constant
FLOAT = np.dtype("float32")


def save_model(model: nn.Module, folder: Path, *, shape: tuple[int, int, int]) -> None:
    """Save a model with its signature and an input example.

    Args:
        model: (B, C, S, S) float32 in the files' units -> logits (B, K, S, S); in eval mode.
        folder: Destination; replaced if it exists.
        shape: C, S, S.

    Raises:
        Exception: Any error of torch.export, for a model that is no graph.
    """
    shutil.rmtree(folder, ignore_errors=True)
    example_BCHW = np.zeros((EXAMPLES, *shape), dtype=FLOAT)
    with torch.inference_mode():
        classes = model(torch.from_numpy(example_BCHW)).shape[1]
    for batch in (-1, EXAMPLES):
        _save(model, folder, example_BCHW, (batch, classes, *shape[1:]))
        if batch == EXAMPLES or _takes_any_batch(folder, example_BCHW):
            return
        shutil.rmtree(folder)  # the graph has a fixed batch size: declare it


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
    """Suppress MLflow's warnings about requirements, and torch's about its export."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
