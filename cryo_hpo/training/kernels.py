"""Choose the kernels of a GPU: exact or fast float32, repeatable or fast algorithms, compiled code."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import SpecError

if TYPE_CHECKING:
    from ..config import Recipe

# Steps of a full training from which compiling pays. On an H100 it took 51 s and saved 5 ms a step of
# a ViT-B with UPerNet; of a U-Net it took 18 s and saved nothing (docs/performance.md).
STEPS_TO_COMPILE = 50_000
COMPILERS = ("g++", "gcc", "clang++", "clang", "cc", "c++")
NOT_REPEATABLE = "does not have a deterministic implementation"


def choose_kernels(recipe: Recipe, device: torch.device) -> None:
    """Set what this process does with float32 and algorithms on a GPU; a CPU has no such choice.

    The settings hold for the process until the next training sets its own.

    Args:
        recipe: `precision`: tf32 lets tensor cores round products to 10 bits, all others
            compute float32 as float32. `reproducible`: bitwise takes only kernels that repeat their
            result; seeded takes the fast ones.
        device: Device of the training.
    """
    if device.type != "cuda":
        return
    rounds = recipe.precision == "tf32"
    torch.set_float32_matmul_precision("high" if rounds else "highest")
    torch.backends.cudnn.allow_tf32 = rounds
    bitwise = recipe.reproducible == "bitwise"
    if bitwise:  # read by cuBLAS when the process first uses it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(bitwise)
    torch.backends.cudnn.deterministic = bitwise
    # Trying every algorithm of every shape costs a worker seconds before its first epoch, for no gain
    # that was measured (docs/performance.md); cuDNN's own estimate chooses.
    torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def refusing_unrepeatable(recipe: Recipe) -> Iterator[None]:
    """Refuse a model with an operation that has no repeatable kernel on this device.

    Raises:
        SpecError: `reproducible: bitwise` cannot be had.
    """
    try:
        yield
    except RuntimeError as error:
        if NOT_REPEATABLE not in str(error):
            raise
        message = (
            f"reproducible: bitwise cannot be had with encoder '{recipe.model.encoder}' and decoder "
            f"'{recipe.model.decoder}': {str(error).partition(NOT_REPEATABLE)[0]}{NOT_REPEATABLE}. "
            "Set reproducible: seeded, or choose another model."
        )
        raise SpecError(message) from error


def compiles(recipe: Recipe, device: torch.device, *, steps: int) -> bool:
    """Return whether a recipe's model is compiled.

    Args:
        recipe: `compile: auto` compiles where it pays: on a GPU, with a compiler for the code that
            launches kernels, in a training of at least `STEPS_TO_COMPILE` steps.
        device: Device of the training.
        steps: Steps of an epoch.
    """
    if recipe.compile == "off" or device.type != "cuda":
        return False
    return steps * recipe.epochs >= STEPS_TO_COMPILE and _has_compiler()


def compile_model(model: nn.Module) -> Any:
    """Return a compiled form of a model, which shares its weights; parts that cannot be stay eager."""
    torch._dynamo.config.suppress_errors = True
    return torch.compile(model)


def _has_compiler() -> bool:
    own = os.environ.get("CC") or os.environ.get("CXX")
    return any(shutil.which(name) for name in ([own] if own else COMPILERS))
