"""Load checkpoints into encoders: read, rename, compare every key, and only then load."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from ...errors import WeightsError
from .download import download, explain_manual_install
from .hub import is_offline
from .published import State, Weights
from .safe_unpickle import load_tensors

SCRATCH = "scratch"  # random weights
HUB = "hub"  # the published weights

log = logging.getLogger(__name__)


def load_weights(
    backbone: nn.Module,
    wanted: str | None,
    *,
    published: Weights | None,
    root: Path,
    name: str,
) -> None:
    """Load weights into an encoder, all or nothing.

    Args:
        backbone: The encoder. Changed in place.
        wanted: None for the published weights, if there are any; "hub" if these are required;
            "scratch" for random weights; or a file, relative to `root`. Published weights are
            read from their file, which is downloaded if missing.
        published: Published weights of the encoder; their rules also apply to a file.
        root: Folder of weights.
        name: Name of the encoder, for messages.

    Raises:
        WeightsError: A file is missing, is no checkpoint, or does not fit. Nothing was loaded.
    """
    if wanted == SCRATCH or (wanted is None and published is None):
        return
    if wanted in (None, HUB):
        if published is None:
            raise no_published_weights(name)
        rules = published.chosen(root)
        source, state = published_state(backbone, rules, root=root, name=name)
    else:
        rules = (published or Weights(file="", url="")).of_file(wanted)
        source = str(root / wanted)
        state = read_checkpoint(root / wanted, entry=rules.entry)
    fit_state(backbone, rules.adapt(backbone, state), rules=rules, source=source, name=name)


def read_checkpoint(path: Path, *, entry: str = "") -> dict[str, Tensor]:
    """Read a checkpoint of tensors by name, on CPU; half precision becomes float32.

    Args:
        path: File of safetensors or torch.save; code inside is never run.
        entry: Key of the file's tensors; several keys, separated by commas, become prefixes of
            the tensors' names; empty if the file holds nothing else.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        message = (
            f"'{path}': weights are read from this file, which does not exist. Put it there, or "
            f"set model.weights to another file below CRYO_WEIGHTS or to '{SCRATCH}'."
        )
        raise WeightsError(message)
    try:
        state = _read(path)
    except Exception as error:  # torch's unpickler raises whatever hostile bytes lead to
        message = (
            f"'{path}' must be a checkpoint of plain tensors, and cannot be read as one. "
            "It may be cut short: compare its size with its source and fetch it again."
        )
        raise WeightsError(message) from error
    if entry and isinstance(state, dict):
        state = _join_entries(state, entry.split(",")) if "," in entry else state.get(entry)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(x, Tensor) for key, x in state.items()
    ):
        held = f" under '{entry}'" if entry else ""
        message = (
            f"'{path}' must map names to tensors{held}, and holds something else. "
            "Save the state dict of the model alone."
        )
        raise WeightsError(message)
    return {key: x.float() if x.is_floating_point() else x for key, x in state.items()}


def _join_entries(state: dict[str, object], entries: list[str]) -> dict[str, object] | None:
    """Return the tensors of several entries as entry.name; None if one of them is missing."""
    joined: dict[str, object] = {}
    for entry in entries:
        inner = state.get(entry)
        if not isinstance(inner, dict):
            return None
        joined |= {f"{entry}.{name}": x for name, x in inner.items()}
    return joined


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path, device="cpu")
    return load_tensors(path)


def fit_state(backbone: nn.Module, state: State, *, rules: Weights, source: str, name: str) -> None:
    """Load a state dict with exactly the model's keys and shapes, except those the rules allow.

    Raises:
        WeightsError: Keys are missing, unexpected or of another shape; names the first one.
    """
    have = backbone.state_dict()
    missing = [key for key in have if key not in state and not key.startswith(rules.may_miss)]
    extra = [key for key in state if key not in have and not key.startswith(rules.may_have)]
    other = [key for key in have if key in state and have[key].shape != state[key].shape]
    problems = [
        *_problem("lack {} the model needs", missing),
        *_problem("hold {} the model does not have", extra),
        *_problem("hold {} of another shape", other),
    ]
    if other:
        shapes = [tuple(x[other[0]].shape) for x in (state, have)]
        problems[-1] += f", {shapes[0]} where the model has {shapes[1]}"
    if problems:
        message = (
            f"'{source}': weights must fit '{name}' key by key, these "
            f"{'; they '.join(problems)}. Nothing was loaded. "
            f"Name the checkpoint that belongs to this encoder, or '{SCRATCH}'."
        )
        raise WeightsError(message)
    backbone.load_state_dict({key: state.get(key, have[key]) for key in have})


def _problem(law: str, keys: Iterable[str]) -> list[str]:
    wrong = list(keys)
    noun = "key" if len(wrong) == 1 else "keys"
    return [law.format(f"{len(wrong)} {noun}") + f" (first: {wrong[0]})"] if wrong else []


def _compare_sha256(path: Path, expected: str) -> None:
    if not expected:
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(expected.lower()):
        message = (
            f"'{path}' must have the sha256 {expected}, got {actual}. Fetch it again, or name it "
            "in model.weights if it is your own."
        )
        raise WeightsError(message)


def published_state(
    backbone: nn.Module, published: Weights, *, root: Path, name: str
) -> tuple[str, State]:
    """Return (source, checkpoint) of the published weights, downloaded if they are missing.

    Raises:
        WeightsError: The weights cannot be downloaded or read, or have another checksum.
    """
    path = root / published.file
    if path.is_file():
        _compare_sha256(path, published.sha256)
    elif published.download is not None:
        return published.url, _ask_library(published.download, backbone, published, path, name)
    else:
        log.warning("The weights of '%s' are fetched to '%s'", name, path)
        for _ in download(published, root=root, name=name):
            pass
    return str(path), read_checkpoint(path, entry=published.entry)


def no_published_weights(name: str) -> WeightsError:
    """Return the error for an encoder without published weights."""
    return WeightsError(
        f"Encoder '{name}' has no published weights. Set model.weights to '{SCRATCH}'."
    )


def _ask_library(
    ask: Callable[[nn.Module], State],
    backbone: nn.Module,
    published: Weights,
    path: Path,
    name: str,
) -> State:
    try:
        return ask(backbone)
    except Exception as error:
        # Without a network the client raises its own errors, the transport's, or OSError.
        message = f"The weights of '{name}' cannot be downloaded ({type(error).__name__})."
        if is_offline():
            message = (
                f"The weights of '{name}' are neither below CRYO_WEIGHTS nor in the Hugging Face "
                "cache, and this machine is set to stay offline."
            )
        raise WeightsError(f"{message} {explain_manual_install(published, path)}") from error
