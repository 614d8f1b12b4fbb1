"""Open a training: its data, model, optimizer and loss, ready for the first step."""

# B batch, C bands, K classes, H W pixels
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config.metric import MIOU
from ..data.tiles import Tiles
from ..evaluation.metrics import Scores
from .build import (
    dataset_of,
    initial_model,
    normalizer,
    parameter_groups,
    protocol_of,
    runs_in_bf16,
    scale_to_pretraining,
    scenes_of,
    takes_fast_kernels,
    window_of,
)
from .divergence import DivergenceMonitor
from .ema import WeightAverage
from .kernels import choose_kernels, compile_model, compiles
from .losses import even_guess, inverse_frequency, make_loss, make_weight
from .micro_batch import AccumulatingStep, Forward
from .optimizer import make_optimizer, schedule
from .readout import StepReadout
from .run import Run
from .validation import Validation

if TYPE_CHECKING:
    from ..config import Recipe, Site
    from ..data.cache import Scenes
    from ..models import Segmenter


def open_run(
    recipe: Recipe, site: Site, device: torch.device, *, metric: str = MIOU, resumes: bool = False
) -> Run:
    """Open data and build model, optimizer and loss; every random draw depends on the seed.

    Args:
        recipe: Recipe to train.
        site: Folders of data, weights and cache.
        device: Device to train on.
        metric: Which validation metric is best.
        resumes: A checkpoint will replace the weights, so pretrained ones are read only where they
            are frozen.
    """
    dataset = dataset_of(recipe.data)
    train, val = (scenes_of(recipe, split, site) for split in ("train", "val"))
    model = initial_model(recipe, site=site, resumes=resumes, device=device)
    scale_to_pretraining(recipe, model, train)
    model.to(device)
    fast = takes_fast_kernels(recipe, device)
    if fast:
        to_channels_last(model)
    protocol = protocol_of(recipe)
    normalize = normalizer(recipe, train, device)
    tiles = Tiles(
        train,
        crop=recipe.data.crop,
        normalize=normalize,
        augment=recipe.data.augment,
        tile=window_of(recipe, device).tile,
        replicate=recipe.data.replicate,
        foreground=recipe.data.foreground,
        redraws=protocol.redraws_crops,
    )
    steps = tiles.num_batches(recipe.batch_size)
    optimizer = make_optimizer(
        recipe.optim.name,
        model,
        parameter_groups(recipe, model),
        fused=fast,
        warms_up=recipe.optim.warmup_epochs > 0,
    )
    choose_kernels(recipe, device)
    forward = _forward(recipe, model, device, steps=steps)
    return Run(
        recipe=recipe,
        protocol=protocol,
        model=model,
        average=None if recipe.optim.ema is None else WeightAverage(model, decay=recipe.optim.ema),
        optimizer=optimizer,
        tiles=tiles,
        validation=Validation.of(recipe, val, metric=metric, normalize=normalize, device=device),
        forward=forward,
        step=_accumulating_step(recipe, model, train, forward, device),
        readout=StepReadout(device),
        monitor=DivergenceMonitor(
            even_guess(
                recipe.loss.name,
                num_classes=len(dataset.classes),
                focal_gamma=recipe.loss.focal_gamma,
            ),
            steps=steps,
            what=f"lr {recipe.optim.lr:g}, recipe {recipe.id}",
        ),
        factor=schedule(
            recipe.optim.schedule,
            total_steps=steps * recipe.epochs,
            warmup_steps=round(steps * recipe.optim.warmup_epochs),
        ),
        steps=steps,
        device=device,
        history=[],
        val=Scores.zero(dataset.classes),
    )


def to_channels_last(model: nn.Module) -> None:
    """Convert the weights of 2-D convolutions to channels-last, the layout tensor cores read.

    `model.to(memory_format=...)` would also convert the weights of 3-D convolutions, and fail.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _forward(recipe: Recipe, model: Segmenter, device: torch.device, *, steps: int) -> Forward:
    """Return the model in its precision, from normalized bands to logits in float32."""
    bf16, fast = runs_in_bf16(recipe, device), takes_fast_kernels(recipe, device)
    network = compile_model(model) if compiles(recipe, device, steps=steps) else model

    def forward(x_BCHW: Tensor) -> Tensor:
        if fast:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits: Tensor = network(x_BCHW)
        return logits.float()

    return forward


def _accumulating_step(
    recipe: Recipe, model: Segmenter, train: Scenes, forward: Forward, device: torch.device
) -> AccumulatingStep:
    """Build the gradient step from the model in its precision and the loss."""
    name, num_classes, weights = recipe.loss.name, len(train.class_counts), None
    if name == "weighted_ce":
        weights = inverse_frequency(train.class_counts).to(device)
    gamma = recipe.loss.focal_gamma
    return AccumulatingStep(
        model,
        forward=forward,
        loss=make_loss(name, num_classes=num_classes, focal_gamma=gamma, class_weights=weights),
        weight=make_weight(name, class_weights=weights),
        micro_batch=recipe.batch_size,
    )
