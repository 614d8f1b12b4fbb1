"""Model a training step and an epoch on an H100 from its operations: arithmetic, not a measurement.

`python -m benchmarks.roofline` runs one step of a ViT-B with a UPerNet of 512 channels on tensors
without values, counts every kernel with its bytes and operations, and prints the tables of
docs/performance.md. Operations are those of torch's CPU path: those of its GPU path differ a little.

The model: a kernel takes the longest of its bytes at 75 % of 3.35 TB/s, its operations at 55 % of
989 TFLOP/s (bf16), and 2.5 us; the host takes 8 us to launch one. A step takes the longer of both.
A compiled model is taken to fuse neighboring elementwise kernels into one, which reads what comes
from outside and writes what is read later, and to launch each kernel in 2 us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.models import Segmenter
from cryo_hpo.training.build import freeze, parameter_groups, segmenter

BYTES_S, FLOP_S, KERNEL_S = 3.35e12 * 0.75, 989e12 * 0.55, 2.5e-6
LAUNCH_S, COMPILED_LAUNCH_S = 8e-6, 2e-6
BATCH, SIDE = 8, 224
RATES = 4  # learning rates that would share the launches of one step
# Bytes of AdamW for each parameter in fp32: parameter, gradient and two moments are read and three
# written; unfused, counted for the review, each kernel of a group reads and writes them again.
FUSED_BYTES, FOREACH_BYTES, FOREACH_KERNELS = 28, 84, 8
NO_KERNELS = ("empty", "detach", "new_empty", "as_strided", "_unsafe_view")
FUSED = ("native_layer_norm", "sum", "mean", "_to_copy", "clone", "copy_", "_log_softmax")
# An epoch of a set like GLID: scenes of 512 pixels, of which a window of 224 sees nine parts.
TRAIN, VAL, WINDOWS = 12_857, 2_755, 9
CHECKPOINT = 1.5e9  # bytes
DISK_S, HOST_S = 0.5e9, 4e9  # bytes a second to a disk, and from the card to the host: assumptions
COUNT_ON_HOST_S = 4e-3  # confusion matrix of a scene, measured on a CPU for the review


@dataclass(frozen=True, slots=True)
class Kernel:
    """Hold one kernel: the storages that it reads and writes with their bytes, and its operations."""

    name: str
    reads: dict[int, int]
    writes: dict[int, int]
    flop: int
    elementwise: bool

    @property
    def seconds(self) -> float:
        """Modeled time on the card."""
        moved = sum(self.reads.values()) + sum(self.writes.values())
        return max(moved / BYTES_S, self.flop / FLOP_S, KERNEL_S)


class Counter(TorchDispatchMode):
    """Record every kernel that runs; views and allocations are none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: list[Kernel] = []
        self._alive: list[Any] = []  # the place of a freed storage is used again

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.is_view or func.namespace == "prim" or name.startswith(NO_KERNELS):
            return out
        formula = flop_registry.get(func.overloadpacket)
        flop = formula(*args, **kwargs, out_val=out) if formula else 0
        elementwise = torch.Tag.pointwise in func.tags or name.startswith(FUSED)
        self._alive.append((args, kwargs, out))
        self.kernels.append(
            Kernel(name, _bytes((args, kwargs)), _bytes(out), int(flop), elementwise)
        )
        return out


def _bytes(values: Any) -> dict[int, int]:
    """Return storage -> bytes of every tensor in some values."""
    tensors = [x for x in _pytree.tree_leaves(values) if isinstance(x, Tensor)]
    return {x.untyped_storage()._cdata: x.numel() * x.element_size() for x in tensors}


def fuse(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return kernels with each run of elementwise ones as one."""
    last_read = {key: n for n, kernel in enumerate(kernels) for key in kernel.reads}
    fused: list[Kernel] = []
    numbered = enumerate(kernels)
    for elementwise, run in groupby(numbered, key=lambda pair: pair[1].elementwise):
        members = list(run)
        if not elementwise:
            fused += [kernel for _, kernel in members]
            continue
        made: dict[int, int] = {}
        reads: dict[int, int] = {}
        for _, kernel in members:
            reads |= {key: size for key, size in kernel.reads.items() if key not in made}
            made |= kernel.writes
        end = members[-1][0]
        writes = {key: size for key, size in made.items() if last_read.get(key, end + 1) > end}
        fused.append(Kernel("fused", reads, writes, 0, elementwise=True))
    return fused


def recipe() -> Recipe:
    """Return the recipe of the review."""
    model = ModelSpec(encoder="vit-b16", decoder="upernet", channels=512)
    return Recipe(data=DataSpec(name="glid", crop=SIDE), model=model)


def small_recipes() -> dict[str, Recipe]:
    """Return recipes of models that leave a card idle, and of the review's for comparison."""
    galileo = ModelSpec(encoder="galileo-nano", decoder="upernet", channels=64)
    unet = ModelSpec(encoder="unet", decoder="unet", width=16)
    return {
        "Galileo-nano, UPerNet-64, 96 pixels": Recipe(
            data=DataSpec(name="glid", crop=96), model=galileo
        ),
        "U-Net, width 16": Recipe(data=DataSpec(name="glid", crop=SIDE), model=unet),
        "ViT-B, UPerNet-512": recipe(),
    }


def frozen_recipes() -> dict[str, Recipe]:
    """Return recipes of frozen encoders, whose trainings can share their forward pass."""
    models = {
        "ViT-B, UPerNet-64": ModelSpec(encoder="vit-b16", decoder="upernet", channels=64),
        "ViT-B, U-Net decoder of 256": ModelSpec(encoder="vit-b16", decoder="unet", channels=256),
        "ViT-B, UPerNet-512": ModelSpec(encoder="vit-b16", decoder="upernet", channels=512),
        "ViT-L, U-Net decoder of 256": ModelSpec(encoder="scale-mae-l", decoder="unet"),
        "Galileo-nano, UPerNet-64, 96 pixels": ModelSpec(
            encoder="galileo-nano", decoder="upernet", channels=64
        ),
    }
    return {
        name: Recipe(
            data=DataSpec(name="glid", crop=96 if "96" in name else SIDE),
            model=model.model_copy(update={"tune": "frozen"}),
        )
        for name, model in models.items()
    }


def _count(work: Callable[[], Any]) -> list[Kernel]:
    counter = Counter()
    with counter:
        work()
    return counter.kernels


def _model(spec: Recipe) -> Segmenter:
    """Return the model on tensors without values, in the current fake mode."""
    with torch.device("meta"):
        return segmenter(spec, site=Site.from_env({}), weights="scratch")


def _without_values(model: Segmenter) -> int:
    """Replace the tensors of a model on the meta device by fake ones; return the bands it takes."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(torch.empty(p.shape), p.requires_grad)
        for name, x in module._buffers.items():
            if x is not None:
                module._buffers[name] = torch.empty(x.shape, dtype=x.dtype)
    return next(p for p in model.parameters() if p.ndim == 4).shape[1]


def _adamw(spec: Recipe, model: Segmenter, *, fused: bool) -> list[Kernel]:
    """Return the kernels of AdamW: one for each group, or many that read and write all again."""
    groups = [group.num_values for group in parameter_groups(spec, model)]
    moved, kernels = (FUSED_BYTES, 1) if fused else (FOREACH_BYTES, FOREACH_KERNELS)
    return [
        Kernel("AdamW", {number: values * moved // kernels}, {}, 0, elementwise=False)
        for number, values in enumerate(groups)
        for _ in range(kernels)
    ]


def step(spec: Recipe, *, fused_optimizer: bool) -> dict[str, list[Kernel]]:
    """Return the kernels of each part of a training step."""
    model = _model(spec)
    freeze(spec, model)
    optimizer = _adamw(spec, model, fused=fused_optimizer)
    with FakeTensorMode():
        bands = _without_values(model)
        side = spec.data.crop
        x, y = torch.empty(BATCH, bands, side, side), torch.zeros(BATCH, side, side).long()
        losses: list[Tensor] = []

        def forward() -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
            losses.append(nn.functional.cross_entropy(logits.float(), y))

        def norm() -> Tensor:
            return nn.utils.get_total_norm(
                [p.grad for p in model.parameters() if p.grad is not None]
            )

        return {
            "forward": _count(forward),
            "backward": _count(lambda: losses[0].backward()),  # type: ignore[no-untyped-call]
            "gradient norm": _count(norm),
            "AdamW": optimizer,
        }


def encoder_pass(spec: Recipe) -> list[Kernel]:
    """Return the kernels of a frozen encoder's part of a training step."""
    model = _model(spec).eval()
    with FakeTensorMode():
        bands = _without_values(model)
        x = torch.empty(BATCH, bands, spec.data.crop, spec.data.crop)

        def encode() -> None:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                model.get_submodule("encoder")(x)

        return _count(encode)


def shared_gain(kernels: Sequence[Kernel], shared: Sequence[Kernel], number: int) -> float:
    """Return how much faster a card would be with a frozen encoder's pass shared.

    Args:
        kernels: Kernels of a step alone.
        shared: Those of them that run once for all.
        number: Trainings side by side.
    """
    own_card = card_s(kernels) - card_s(shared)
    card = card_s(shared) + number * own_card
    launched = len(shared) + number * (len(kernels) - len(shared))
    return number * step_s(kernels) / max(card, LAUNCH_S * launched)


def forward_pass(spec: Recipe, windows: int) -> list[Kernel]:
    """Return the kernels of a forward pass without gradients."""
    model = _model(spec).eval()
    with FakeTensorMode():
        bands = _without_values(model)
        x = torch.empty(windows, bands, SIDE, SIDE)

        def forward() -> None:
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
                model(x)

        return _count(forward)


def card_s(kernels: Sequence[Kernel]) -> float:
    """Return the modeled seconds on the card."""
    return sum(kernel.seconds for kernel in kernels)


def step_s(kernels: Sequence[Kernel], *, launch_s: float = LAUNCH_S) -> float:
    """Return the modeled seconds of a step: of the card or of the host, whichever is longer."""
    return max(card_s(kernels), launch_s * len(kernels))


def packed_gain(kernels: Sequence[Kernel]) -> float:
    """Return how much faster a card would be at most with `RATES` steps in the launches of one."""
    alone = RATES * step_s(kernels)
    return alone / max(RATES * card_s(kernels), LAUNCH_S * len(kernels))


def _rows(parts: dict[str, list[Kernel]]) -> Iterator[str]:
    for name, kernels in parts.items():
        moved = sum(sum(k.reads.values()) + sum(k.writes.values()) for k in kernels) / 1e9
        flop = sum(k.flop for k in kernels) / 1e12
        yield f"| {name} | {len(kernels)} | {moved:.1f} | {flop:.2f} | {1e3 * card_s(kernels):.1f} |"


def _together(parts: dict[str, list[Kernel]]) -> list[Kernel]:
    return [kernel for kernels in parts.values() for kernel in kernels]


def main() -> None:
    """Print the tables."""
    spec = recipe()
    before, after = (step(spec, fused_optimizer=fused) for fused in (False, True))
    print("| part | kernels | GB moved | TFLOP | ms on the card |\n|---|--:|--:|--:|--:|")
    print("\n".join(_rows(after)))
    steps = {
        "before: AdamW in many kernels": step_s(_together(before)),
        "fused AdamW": step_s(_together(after)),
    }
    compiled = fuse(after["forward"]), fuse(after["backward"])
    rest = [*after["gradient norm"], *after["AdamW"]]
    host = COMPILED_LAUNCH_S * sum(map(len, compiled)) + LAUNCH_S * len(rest)
    steps["compiled too"] = max(sum(map(card_s, (*compiled, rest))), host)
    flop = sum(k.flop for k in _together(after))
    print("\n| step | ms | share of 989 TFLOP/s |\n|---|--:|--:|")
    for name, seconds in steps.items():
        print(f"| {name} | {1e3 * seconds:.1f} | {100 * flop / seconds / 989e12:.0f} % |")
    alone, many = (step_s(forward_pass(spec, n)) for n in (WINDOWS, 7 * WINDOWS))
    epochs = {
        "before": (
            steps["before: AdamW in many kernels"],
            VAL * (alone + COUNT_ON_HOST_S),
            CHECKPOINT / DISK_S,
        ),
        "now": (steps["fused AdamW"], VAL / 7 * many, CHECKPOINT / HOST_S),
        "now, compiled": (steps["compiled too"], VAL / 7 * many, CHECKPOINT / HOST_S),
    }
    print("\n| epoch | training, s | validation, s | waiting for the checkpoint, s | all, s |")
    print("|---|--:|--:|--:|--:|")
    for name, (seconds, validation, waiting) in epochs.items():
        training = TRAIN // BATCH * seconds
        total = training + validation + waiting
        print(f"| {name} | {training:.0f} | {validation:.0f} | {waiting:.1f} | {total:.0f} |")
    print(
        f"\n| model | kernels | ms of launches | ms on the card | {RATES} rates at once, at most |"
    )
    print("|---|--:|--:|--:|--:|")
    for name, small in small_recipes().items():
        kernels = _together(step(small, fused_optimizer=True))
        launches = 1e3 * LAUNCH_S * len(kernels)
        gain = packed_gain(kernels)
        print(
            f"| {name} | {len(kernels):,} | {launches:.1f} | {1e3 * card_s(kernels):.1f} | {gain:.1f} |"
        )
    print("\n| frozen encoder | kernels | of the encoder | 4 side by side | 8 side by side |")
    print("|---|--:|--:|--:|--:|")
    for name, frozen in frozen_recipes().items():
        kernels, shared = _together(step(frozen, fused_optimizer=True)), encoder_pass(frozen)
        gains = " | ".join(f"{shared_gain(kernels, shared, number):.1f}" for number in (4, 8))
        print(f"| {name} | {len(kernels):,} | {len(shared):,} | {gains} |")


if __name__ == "__main__":
    main()
