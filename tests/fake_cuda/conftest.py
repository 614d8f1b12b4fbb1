"""A CUDA device made of fake tensors: they know shape, type and device, and hold no values.

Production code runs as on a GPU, but for autograd's engine, which asks the driver for a context:
`backward` leaves gradients of the right shape. A tensor on the wrong device, in a layout that it
cannot have or of a type that does not fit raises, and what would wait for the GPU is counted. What
this cannot show: values, memory, speed, kernels that do not exist. Of streams it shows that no
kernel reads a copy before it waits for it, and that torch knows which stream uses a copy's memory.

Several private names of torch are patched: the lock pins the version they belong to.
"""

from __future__ import annotations

import collections
import contextlib
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.optim.optimizer as optimizers
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils, _pytree
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

from cryo_hpo.config import Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data import ahead
from cryo_hpo.models import lookup

from ..support.fakes import write

S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
BANDS = {"optical": S2, "radar": ("VV", "VH"), "both": (*S2, "VV", "VH")}
IN_PACKAGE, IN_TEST = "/cryo_hpo/", "test_"
aten = torch.ops.aten


class SyncCounter(TorchDispatchMode):
    """Answer what a fake tensor cannot, and count what would wait for the GPU, by line.

    Attributes:
        syncs: Waits of the host for the GPU, by line.
        copied: Tensors that a stream of copies has made, all together.
        in_flight: Those that the kernels' stream does not wait for yet: no kernel may read them.
        unguarded: Those whose memory could be used for the next copy while kernels still read it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.syncs: collections.Counter[str] = collections.Counter()
        self.stream, self.copied = "kernels", 0
        self.in_flight: list[torch.Tensor] = []
        self.unguarded: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # no kernel: where a tensor is
            return func(*args, **kwargs)
        if self.stream != "kernels":
            return self._copy(func, args, kwargs)
        read = [x for x in _pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        assert not _any_of(read, self.in_flight), f"read before its copy was there: {_line()}"
        if func is aten._local_scalar_dense.default:
            return self._item(args[0])
        if func.overloadpacket is aten.index:
            return self._index(func, args, kwargs)
        if _copies_to_host(func, args, kwargs):
            self.syncs[_line()] += 1
        return func(*args, **kwargs)

    def _copy(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> torch.Tensor:
        """Copy a tensor to the GPU on the stream of copies, where nothing else runs."""
        assert func is aten._to_copy.default
        assert kwargs["non_blocking"]
        assert args[0].device.type == "cpu"
        made: torch.Tensor = func(*args, **kwargs)
        self.copied += 1
        self.in_flight.append(made)
        return made

    def await_copies(self, tensors: list[torch.Tensor]) -> None:
        """Let kernels from now on wait for copies, and so read them."""
        self.unguarded += [x for x in self.in_flight if _any_of([x], tensors)]
        self.in_flight = [x for x in self.in_flight if not _any_of([x], tensors)]

    def guard(self, tensor: torch.Tensor) -> None:
        """Keep the memory of a tensor until the kernels that read it have run."""
        self.unguarded = [x for x in self.unguarded if x is not tensor]

    def _item(self, value: torch.Tensor) -> float | int | bool:
        if value.device.type == "cuda":
            self.syncs[_line()] += 1
        elif value.dtype == torch.bool:
            return _line().startswith("losses.py")  # is there a class with pixels? There is.
        elif "models/" in _frame().filename:
            return 0.0 if value.is_floating_point() else 1
        return 1.0 if value.is_floating_point() else 1

    def _index(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        masks = [m for m in args[1] if m is not None and m.dtype == torch.bool]
        if not masks:
            return func(*args, **kwargs)
        if args[0].device.type == "cuda":
            self.syncs[_line()] += 1
        return args[0].reshape(masks[0].numel(), *args[0].shape[masks[0].ndim :]).clone()


def _copies_to_host(func: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
    if func is aten._to_copy.default:
        device, waits = kwargs.get("device"), not kwargs.get("non_blocking")
        to_host = device is not None and torch.device(device).type == "cpu"
        return args[0].device.type == "cuda" and to_host and waits
    if func is aten.copy_.default:
        waits = not (len(args) > 2 and args[2]) and not kwargs.get("non_blocking")
        return args[0].device.type == "cpu" and args[1].device.type == "cuda" and waits
    return False


def _frame() -> traceback.FrameSummary:
    """Return the innermost line of the package, or of the test where there is none."""
    return [f for f in traceback.extract_stack() if IN_PACKAGE in f.filename or IN_TEST in f.name][
        -1
    ]


def _line() -> str:
    frame = _frame()
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _any_of(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return any(x is other for x in tensors for other in others)


class _Stream:
    """The stream of kernels, or another one, whose copies a counter follows."""

    def __init__(self, counter: SyncCounter, name: str) -> None:
        self.counter, self.name = counter, name

    def wait_event(self, event: _Event) -> None:
        assert self.name == "kernels"
        self.counter.await_copies(event.after)


class _Event:
    """An event of a stream, that is over whenever the host asks."""

    after: list[torch.Tensor]

    def record(self, stream: _Stream | None = None) -> None:
        self.after = [] if stream is None else list(stream.counter.in_flight)

    def synchronize(self) -> None: ...


@contextlib.contextmanager
def _in_stream(stream: _Stream) -> Iterator[None]:
    """Run a block in a stream, as `torch.cuda.stream` does."""
    before, stream.counter.stream = stream.counter.stream, stream.name
    try:
        yield
    finally:
        stream.counter.stream = before


def _record_stream(self: torch.Tensor, stream: _Stream) -> None:
    """Do `Tensor.record_stream`: torch then knows that the stream uses the tensor."""
    assert not _any_of([self], stream.counter.in_flight)
    stream.counter.guard(self)


def _apply(self: torch.nn.Module, fn: Any, recurse: bool = True) -> torch.nn.Module:
    """Do `Module._apply` without exchanging tensors in place, which fake ones do not allow."""
    for child in self.children():
        child._apply(fn)
    for name, p in self._parameters.items():
        if p is not None:
            with torch.no_grad():
                self._parameters[name] = torch.nn.Parameter(fn(p), p.requires_grad)
    for name, b in self._buffers.items():
        if b is not None:
            self._buffers[name] = fn(b)
    return self


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncCounter]:
    """Run a test on fake tensors, with a fake GPU; gives the counter of what waits for it."""

    @contextlib.contextmanager
    def kept(*_: Any, **__: Any) -> Iterator[None]:
        yield

    def numpy(self: torch.Tensor, *_: Any, **__: Any) -> Any:
        assert self.device.type == "cpu", "numpy() of a tensor on the GPU"
        return np.zeros(tuple(self.shape), str(self.dtype).removeprefix("torch."))

    # torch remembers its constructors at first use: they must be its own, not the one patched below
    _device_constructors()
    empty = torch.empty

    def unpinned(*args: Any, **kwargs: Any) -> torch.Tensor:
        made: torch.Tensor = empty(*args, **{k: v for k, v in kwargs.items() if k != "pin_memory"})
        return made

    counter = SyncCounter()
    put = monkeypatch.setattr
    put(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    put(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    put(torch.cuda, "get_rng_state", lambda *_: torch.zeros(16, dtype=torch.uint8))
    put(torch.cuda, "max_memory_allocated", lambda *_: 0)
    put(torch.cuda, "reset_peak_memory_stats", lambda *_: None)
    put(torch.cuda, "Event", _Event)
    put(torch.cuda, "Stream", lambda _: _Stream(counter, "copies"))
    put(torch.cuda, "current_stream", lambda _: _Stream(counter, counter.stream))
    put(torch.cuda, "stream", _in_stream)
    put(torch.Tensor, "record_stream", _record_stream)
    put(torch, "empty", unpinned)
    put(lookup, "_keeps_promise", lambda *_: True)  # it builds a model without values by itself
    put(torch.random, "fork_rng", kept)
    put(torch.Tensor, "pin_memory", lambda self: self)
    put(FakeTensor, "numpy", numpy, raising=False)
    put(torch.nn.Module, "_apply", _apply)
    put(_foreach_utils, "_foreach_supported_types", [torch.Tensor, FakeTensor])
    put(optimizers, "_foreach_supported_types", [torch.Tensor, torch.nn.Parameter, FakeTensor])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ahead._copy_stream.cache_clear()
        with FakeTensorMode(allow_non_fake_inputs=True), counter:
            yield counter
        ahead._copy_stream.cache_clear()
    assert not counter.unguarded, "a batch whose memory may be used while it is read"


Places = dict[str, tuple[Site, DatasetCard]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Datasets of all optical bands, of radar and of both, with scenes larger than a window."""
    places, rng = {}, np.random.default_rng(0)
    for kind, bands in BANDS.items():
        root = tmp_path_factory.mktemp(kind)
        card = DatasetCard(
            name="fake",
            root="fake",
            images="{split}/i/{id}.tif",
            masks="{split}/m/{id}.png",
            bands=bands,
            classes=("a", "b", "c"),
            ignore=255,
            license="x",
        )
        for split, count in (("train", 4), ("val", 2), ("test", 1)):
            for number in range(count):
                image = rng.integers(0, 255, (len(bands), 96, 96)).astype(np.uint16)
                mask = rng.integers(0, 3, (1, 96, 96)).astype(np.uint8)
                write(root / f"data/fake/{split}/i/{number}.tif", image)
                write(root / f"data/fake/{split}/m/{number}.png", mask)
        names = ("DATA", "STORAGE", "CACHE", "WEIGHTS")
        site = Site.from_env({f"CRYO_{name}": str(root / name.lower()) for name in names})
        places[kind] = (site, card)
    return places
