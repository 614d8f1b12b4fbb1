"""Describe an encoder's published weights: their address, and the rules that make them fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

State = Mapping[str, Tensor]


def as_published(_: nn.Module, state: State) -> State:
    """Return a checkpoint unchanged: its keys are the model's already."""
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Describe the published weights of an encoder.

    Attributes:
        file: Path below the folder of weights.
        url: Web page of the weights, for people.
        address: Address of the file: https://..., or hf://owner/repository/path; empty if a
            program cannot download it.
        sha256: Checksum of the file, hexadecimal, or its first digits; empty if unknown.
        entry: Key of the file's tensors, see `read_checkpoint`; empty if it holds nothing else.
        adapt: (model, checkpoint) -> checkpoint with the model's names and shapes.
        may_miss: Prefixes of keys that the model has and the checkpoint may lack.
        may_have: Prefixes of keys that the checkpoint has and the model does not use.
        download: (model) -> checkpoint, if a library downloads it.
        mirror: The same weights in another file, used if only that is on disk or `address` is "".
    """

    file: str
    url: str
    address: str = ""
    sha256: str = ""
    entry: str = ""
    adapt: Callable[[nn.Module, State], State] = as_published
    may_miss: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    download: Callable[[nn.Module], State] | None = None
    mirror: Weights | None = None

    def chosen(self, root: Path) -> Weights:
        """Return these weights or their mirror: those on disk, or else those to download."""
        if self.mirror is None or (root / self.file).is_file():
            return self
        on_disk = (root / self.mirror.file).is_file()
        return self.mirror if on_disk or not self.address else self

    def of_file(self, wanted: str) -> Weights:
        """Return the rules for a file: the mirror's if the file has the mirror's name."""
        theirs = self.mirror is not None and Path(wanted).name == Path(self.mirror.file).name
        return self.mirror if theirs and self.mirror is not None else self
