"""Capture a whole training step in a CUDA graph: forward, backward, norm, clipping and AdamW.

What a graph asks for, and the training loop does otherwise: inputs in the same memory at every step,
the learning rates in tensors, and an AdamW whose state and decisions stay on the card. It cannot halve
a batch where memory is too small, and it knows AdamW alone.
"""

# B batch, C bands, H W pixels
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cryo_hpo.training import step as loop_step
from cryo_hpo.training.run import Run

WARM_UP = 3  # steps before the capture, in which libraries take their memory


class CapturedStep:
    """Take optimizer steps of a training by replaying one that was captured.

    On a CPU, which has no graphs, each step runs kernel by kernel, and gives the same but for the
    last bits: AdamW is fused here.
    """

    def __init__(self, run: Run, x_BCHW: Tensor, y_BHW: Tensor) -> None:
        """Capture a step of a run that has trained none; on a card its warm-up trains three.

        Args:
            run: Opened run with AdamW, in training mode.
            x_BCHW: Batch of the shape of all that follow.
            y_BHW: Its masks.

        Raises:
            ValueError: The optimizer is another one, or the run keeps an average of its weights.
        """
        if not isinstance(run.optimizer, torch.optim.AdamW) or run.average is not None:
            name = type(run.optimizer).__name__
            raise ValueError(f"A captured step is of AdamW alone and of no average, got {name}.")
        self._run, self._x_BCHW, self._y_BHW = run, x_BCHW.clone(), y_BHW.clone()
        self._rates = [
            torch.tensor(group["lr"], device=x_BCHW.device) for group in run.optimizer.param_groups
        ]
        for group, rate in zip(run.optimizer.param_groups, self._rates, strict=True):
            group.update(lr=rate, capturable=True, fused=True, foreach=False)
        self._replay = self._capture() if x_BCHW.device.type == "cuda" else self._anew

    def __call__(self, x_BCHW: Tensor, y_BHW: Tensor, *, position: int) -> tuple[Tensor, Tensor]:
        """Take a step; return loss and norm of the gradient, which the next step overwrites."""
        self._x_BCHW.copy_(x_BCHW, non_blocking=True)
        self._y_BHW.copy_(y_BHW, non_blocking=True)
        factor = self._run.factor(position)
        for group, rate in zip(self._run.optimizer.param_groups, self._rates, strict=True):
            rate.fill_(group["initial_lr"] * factor)
        return self._replay()

    def _work(self) -> tuple[Tensor, Tensor]:
        """Run the step on the static batch; gradients must be None before it."""
        run = self._run
        loss = run.step._loss(run.forward(self._x_BCHW), self._y_BHW)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = loop_step._clip(run.model, run.recipe.optim.clip_grad_norm)
        run.optimizer.step()
        return loss.detach(), norm

    def _anew(self) -> tuple[Tensor, Tensor]:
        self._run.model.zero_grad(set_to_none=True)
        return self._work()

    def _capture(self) -> Callable[[], tuple[Tensor, Tensor]]:
        """Return the replay of a step; gradients lie in the graph's memory and are written anew."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._anew()
        torch.cuda.current_stream().wait_stream(side)
        self._run.model.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # Threads that gather batches may take pinned memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            loss, norm = self._work()

        def replay() -> tuple[Tensor, Tensor]:
            graph.replay()
            return loss, norm

        return replay
