"""Build a recipe's parts: its dataset, model, optimizer groups and device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..config.protocol import PROTOCOLS, Protocol
from ..data import find_dataset
from ..data.cache import Scenes, open_split
from ..data.custom import custom_dataset
from ..data.label_fraction import sample
from ..data.region_split import split_by_region
from ..data.tiles import Normalize
from ..errors import SpecError
from ..evaluation.sliding_window import Window
from ..models import Segmenter, add_adapters, build, find_encoder, plan_bands
from ..models import freeze as freeze_encoder
from .optimizer import check_groups_cover_model, groups

if TYPE_CHECKING:
    from ..bands import Band, BandPlan
    from ..config import DataSpec, Recipe, Site
    from ..data.dataset import Dataset, Split
    from .optimizer import Group


def dataset_of(data: DataSpec) -> Dataset:
    """Return the dataset a recipe names, from the table or from its card, split as it says."""
    if data.card is not None:
        dataset = custom_dataset(data.card)
    else:
        assert data.name is not None, "the spec holds exactly one of name and card"
        dataset = find_dataset(data.name)
    return dataset if data.split == "official" else split_by_region(dataset, data.split_seed)


def protocol_of(recipe: Recipe) -> Protocol:
    """Return what a recipe's training does beyond its keys."""
    return PROTOCOLS[recipe.protocol]


def overlap_of(data: DataSpec) -> int:
    """Return the pixels that neighboring windows share at prediction."""
    return data.crop // 4 if data.overlap is None else data.overlap


def bands_of(recipe: Recipe) -> tuple[Band, ...]:
    """Return what the layers of the recipe's dataset are, or are taken for by its protocol."""
    dataset = dataset_of(recipe.data)
    declared = dataset.upstream_bands if protocol_of(recipe).declared_bands else None
    return declared or dataset.bands


def band_plan(recipe: Recipe) -> BandPlan:
    """Return which layer of the recipe's dataset goes where in its encoder.

    Raises:
        BandMismatch: The encoder cannot do with the dataset's bands.
    """
    spec = recipe.model
    card = find_encoder(spec.encoder, protocol=recipe.protocol)
    return plan_bands(card, bands_of(recipe), missing=spec.missing_bands)


def window_of(recipe: Recipe, device: torch.device) -> Window:
    """Return how whole scenes are cut for a recipe's model, and its precision on a device."""
    tile = dataset_of(recipe.data).size_px if protocol_of(recipe).scores_tiles else None
    return Window(
        recipe.data.crop, overlap_of(recipe.data), tile, bf16=runs_in_bf16(recipe, device)
    )


def scenes_of(recipe: Recipe, split: Split, site: Site) -> Scenes:
    """Open one split through the node's cache of decoded pixels: what a recipe uses of it.

    A share of the labels is drawn by `data.label_seed`, not by the seed of the training, so that
    baseline and trials, and the arms of the comparison, learn from the same scenes.
    """
    scenes = open_split(dataset_of(recipe.data), site.data, split, cache=site.cache)
    if split not in thinned(recipe):
        return scenes
    kept = sample(
        np.array(scenes.counts),
        fraction=recipe.data.label_fraction,
        seed=recipe.data.label_seed,
        one_of_each=protocol_of(recipe).one_of_each,
    )
    return scenes.only(kept)


def sampled_ids(recipe: Recipe, site: Site) -> dict[str, tuple[str, ...]]:
    """Return the ids of the scenes that a share of the labels holds, for each split it thins."""
    return {split: scenes_of(recipe, split, site).ids for split in thinned(recipe)}


def thinned(recipe: Recipe) -> tuple[Split, ...]:
    """Return the splits of which a recipe uses a share; the test split is always whole."""
    if recipe.data.label_fraction == 1:
        return ()
    return ("train", "val") if protocol_of(recipe).thins_val else ("train",)


def segmenter(recipe: Recipe, *, site: Site, weights: str | None) -> Segmenter:
    """Build the recipe's model on the current default device.

    Under `tune: lora` the recipe's own weights are always loaded, since checkpoints leave them out,
    and the adapters are added.

    Args:
        recipe: What to build.
        site: Where weights lie.
        weights: "scratch", or what the recipe says.
    """
    dataset, spec = dataset_of(recipe.data), recipe.model
    model = build(
        spec.encoder,
        spec.decoder,
        bands=bands_of(recipe),
        missing=spec.missing_bands,
        num_classes=len(dataset.classes),
        size=recipe.data.crop,
        channels=spec.channels,
        width=spec.width,
        drop_path=spec.drop_path,
        weights=spec.weights if spec.tune == "lora" else weights,
        weights_root=site.weights,
        protocol=recipe.protocol,
    )
    if spec.tune == "lora":
        _adapt(model, recipe)
    return model


def _adapt(model: Segmenter, recipe: Recipe) -> None:
    """Add the recipe's adapters to a model.

    Raises:
        SpecError: The encoder has no pretrained weights, or no layers to adapt.
    """
    spec = recipe.model
    if spec.weights is None and find_encoder(spec.encoder).weights is None:
        message = (
            f"model.tune: lora adapts pretrained weights, and encoder '{spec.encoder}' has none. "
            "Set model.tune to full, or model.weights to a file."
        )
        raise SpecError(message)
    add_adapters(model, name=spec.encoder, **spec.lora.model_dump())


def freeze(recipe: Recipe, model: Segmenter) -> None:
    """Stop the encoder from learning, if the recipe says so."""
    if recipe.model.tune == "frozen":
        freeze_encoder(model, in_train_mode=protocol_of(recipe).frozen_in_train_mode)


def parameter_groups(recipe: Recipe, model: Segmenter) -> list[Group]:
    """Return the optimizer groups of a model, each trainable parameter in exactly one.

    Raises:
        SpecError: A trainable parameter is in no group, or in two.
    """
    optim = recipe.optim
    found = groups(
        model,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        encoder_lr_scale=optim.encoder_lr_scale,
        layer_decay=optim.layer_decay,
        decays_all=protocol_of(recipe).decays_all,
    )
    check_groups_cover_model(model, found)
    return found


def runs_in_bf16(recipe: Recipe, device: torch.device) -> bool:
    """Return whether a recipe trains and is scored in bf16; "auto" means bf16 on GPUs only."""
    return recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")


def device_for(gpus: float) -> torch.device:
    """Return the device of a trial that was given this many GPUs.

    A trial without a GPU on a machine that has some must not touch them, so the answer
    depends on what was asked for and not on what is there.

    Raises:
        SpecError: A GPU was asked for and none is visible.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        message = (
            f"resources.gpus is {gpus:g}, and no GPU is visible here. "
            "Set resources.gpus to 0, or run where `nvidia-smi` lists one."
        )
        raise SpecError(message)
    return torch.device("cuda")


def normalizer(recipe: Recipe, train: Scenes, device: torch.device) -> Normalize:
    """The card's statistics where it gives them, the training split's otherwise."""
    dataset = dataset_of(recipe.data)
    mean = train.mean if dataset.mean is None else dataset.mean
    std = train.std if dataset.std is None else dataset.std
    return Normalize.of(mean, std, device=device)
