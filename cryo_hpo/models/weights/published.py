"""The published weights of an encoder: where they are, and how they become the model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

State = Mapping[str, Tensor]


def as_published(_: nn.Module, state: State) -> State:
    """Return a checkpoint whose keys are the model's already."""
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The published weights of an encoder.

    Attributes:
        file: Path below the folder of weights.
        url: Where a person finds them.
        address: Of the file itself: https://..., or hf://owner/repository/path; empty where a
            machine cannot fetch it.
        sha256: Of the file, hexadecimal, or its first digits; empty if it is not known.
        entry: Name under which the file holds the tensors; empty if it holds nothing else.
        adapt: Turn the checkpoint's names and shapes into those of the model.
        may_miss: Prefixes of keys that the model has and the checkpoint need not.
        may_have: Prefixes of keys that the checkpoint has and the model does not use.
        download: Return the checkpoint for a model, where a library fetches it.
        mirror: The same numbers in a file of others, used if it is here or this one has no address.
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
        """Return this or its mirror: what is here, or else what can be fetched."""
        if self.mirror is None or (root / self.file).is_file():
            return self
        here = (root / self.mirror.file).is_file()
        return self.mirror if here or not self.address else self

    def of_file(self, wanted: str) -> Weights:
        """Return the rules for a file: the mirror's if it has that name."""
        theirs = self.mirror is not None and Path(wanted).name == Path(self.mirror.file).name
        return self.mirror if theirs and self.mirror is not None else self
