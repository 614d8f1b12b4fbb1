"""Build dataset, model, optimizer groups and device of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..config.protocol import PROTOCOLS, Protocol
from ..data import find_dataset
from ..data.builtin.center import center_scenes
from ..data.cache import Scenes, open_split
from ..data.custom import custom_dataset
from ..data.label_fraction import sample
from ..data.region_split import split_by_region
from ..data.splits import digests_of, items_of
from ..data.tiles import Normalize
from ..errors import SpecError
from ..evaluation.pieces import Window
from ..models import (
    PRETRAINING,
    PretrainingScale,
    Segmenter,
    add_adapters,
    build,
    find_encoder,
    omit_frozen_encoder,
    plan_bands,
    pretraining_factors,
)
from ..models import freeze as freeze_encoder
from ..models.weights.load import SCRATCH
from .optimizer import check_groups_cover_model, groups
from .recompute import recompute_blocks
from .warm_start import WarmStart, find_start, load_start

if TYPE_CHECKING:
    from ..bands import Band, BandPlan
    from ..config import DataSpec, Recipe, Site
    from ..data.dataset import Dataset, Split
    from .optimizer import Group


def dataset_of(data: DataSpec) -> Dataset:
    """Return a recipe's dataset, from the table or from a card, with the split it selects."""
    if data.card is not None:
        dataset = custom_dataset(data.card)
    else:
        assert data.name is not None, "the spec holds exactly one of name and card"
        dataset = find_dataset(data.name)
    return dataset if data.split == "official" else split_by_region(dataset, data.split_seed)


def protocol_of(recipe: Recipe) -> Protocol:
    """Return the protocol of a recipe: training behavior that its keys do not set."""
    return PROTOCOLS[recipe.protocol]


def overlap_of(data: DataSpec) -> int:
    """Return the pixels that neighboring windows share at prediction."""
    return data.crop // 4 if data.overlap is None else data.overlap


def bands_of(recipe: Recipe) -> tuple[Band, ...]:
    """Return the bands of the recipe's dataset, or those that its protocol declares instead."""
    dataset = dataset_of(recipe.data)
    declared = dataset.upstream_bands if protocol_of(recipe).declared_bands else None
    return declared or dataset.bands


def band_plan(recipe: Recipe) -> BandPlan:
    """Return the mapping from the recipe's dataset bands to its encoder's inputs.

    Raises:
        BandMismatch: The encoder cannot use the dataset's bands.
    """
    spec = recipe.model
    card = find_encoder(spec.encoder, protocol=recipe.protocol)
    return plan_bands(card, bands_of(recipe), missing=spec.missing_bands)


def window_of(recipe: Recipe, device: torch.device) -> Window:
    """Return the sliding window and precision for predicting whole scenes on a device."""
    tile = dataset_of(recipe.data).size_px if protocol_of(recipe).scores_tiles else None
    return Window(
        recipe.data.crop, overlap_of(recipe.data), tile, bf16=runs_in_bf16(recipe, device)
    )


def scenes_of(recipe: Recipe, split: Split, site: Site) -> Scenes:
    """Open the scenes of a split that a recipe uses, through the node's cache of decoded pixels.

    The seed `data.label_seed` draws the share of labels, not the seed of the training, so that
    baseline and trials, and the arms of the comparison, train on the same scenes.
    """
    dataset = dataset_of(recipe.data)
    if protocol_of(recipe).centers_scenes:
        dataset = center_scenes(dataset)
    scenes = open_split(dataset, site.data, split, cache=site.cache)
    if split not in thinned(recipe):
        return scenes
    kept = sample(
        np.array(scenes.counts),
        fraction=recipe.data.label_fraction,
        seed=recipe.data.label_seed,
        one_of_each=protocol_of(recipe).one_of_each,
    )
    return scenes.only(kept)


def file_digests(recipe: Recipe, split: Split, site: Site) -> dict[str, list[str]]:
    """Return the files of every scene of a split: image, mask, and the sha256 of each.

    Raises:
        DataError: The files do not match the dataset, or cannot be read.
    """
    dataset, cache = dataset_of(recipe.data), site.cache.absolute()
    items = items_of(dataset, site.data, split, cache=cache)
    digests = digests_of(dataset, site.data, items, cache=cache)
    return {
        item.id: [str(item.image), str(item.mask), *pair]
        for item, pair in zip(items, digests, strict=True)
    }


def sampled_ids(recipe: Recipe, site: Site) -> dict[str, tuple[str, ...]]:
    """Return the ids of the sampled scenes for each split of which a recipe uses a share."""
    return {split: scenes_of(recipe, split, site).ids for split in thinned(recipe)}


def thinned(recipe: Recipe) -> tuple[Split, ...]:
    """Return the splits of which a recipe uses a share; the test split is always whole."""
    if recipe.data.label_fraction == 1:
        return ()
    return ("train", "val") if protocol_of(recipe).thins_val else ("train",)


def segmenter(recipe: Recipe, *, site: Site, weights: str | None) -> Segmenter:
    """Build the recipe's model on the current default device.

    Under `tune: lora` the recipe's own weights are always loaded, since checkpoints leave them out,
    and the adapters are added. An exported model is loaded whole, its decoder included.

    Args:
        recipe: Recipe of the model.
        site: Site with the folder of weights.
        weights: "scratch", or the recipe's `model.weights`.
    """
    dataset, spec = dataset_of(recipe.data), recipe.model
    wanted = spec.weights if spec.tune == "lora" else weights
    start = exported_start(wanted, site)
    model = build(
        spec.encoder,
        spec.decoder,
        bands=bands_of(recipe),
        missing=spec.missing_bands,
        normalize=recipe.data.normalize,
        num_classes=len(dataset.classes),
        size=recipe.data.crop,
        channels=spec.channels,
        width=spec.width,
        drop_path=spec.drop_path,
        weights=wanted if start is None else SCRATCH,
        weights_root=site.weights,
        protocol=recipe.protocol,
    )
    if start is not None:
        bands = [band.name for band in dataset.bands]
        load_start(model, start, recipe, bands=bands, classes=dataset.classes)
    if spec.tune == "lora":
        _adapt(model, recipe)
    if recipe.recompute:
        recompute_blocks(model.get_submodule("encoder"), name=spec.encoder)
    return model


def exported_start(weights: str | None, site: Site) -> WarmStart | None:
    """Return the exported model that a value of `model.weights` names; None: it names none.

    On the meta device nothing is read.

    Raises:
        WeightsError: The exported model cannot be read, or is of another version.
    """
    if torch.get_default_device().type == "meta":
        return None
    return find_start(weights, site.weights)


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
    """Freeze the encoder if the recipe sets `tune: frozen`."""
    if recipe.model.tune == "frozen":
        freeze_encoder(model, in_train_mode=protocol_of(recipe).frozen_in_train_mode)


def initial_model(recipe: Recipe, *, site: Site, resumes: bool, device: torch.device) -> Segmenter:
    """Build the model that a training begins with; every random draw depends on the seed.

    A frozen encoder is left out of the model's state, which holds its sha256: it is built again from
    the same weights and seed.

    Args:
        recipe: Recipe of the training.
        site: Site with the folder of weights.
        resumes: A checkpoint will replace the weights that are trained.
        device: Device whose random state is kept as it is; the model is on the CPU.
    """
    loads = not resumes or recipe.model.tune != "full"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        model = segmenter(recipe, site=site, weights=recipe.model.weights if loads else "scratch")
    freeze(recipe, model)
    omit_frozen(recipe, model)
    return model


def omit_frozen(recipe: Recipe, model: Segmenter) -> None:
    """Leave a frozen encoder out of a model's state, which then holds its sha256."""
    if recipe.model.tune == "frozen":
        omit_frozen_encoder(model, with_buffers=not protocol_of(recipe).frozen_in_train_mode)


def parameter_groups(recipe: Recipe, model: Segmenter) -> list[Group]:
    """Return the optimizer groups of a model, each trainable parameter in exactly one.

    Raises:
        SpecError: A trainable parameter is in no group, or in two.
    """
    optim = recipe.optim
    parameter_sets = groups(
        model,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        encoder_lr_scale=optim.encoder_lr_scale,
        layer_decay=optim.layer_decay,
        decays_all=protocol_of(recipe).decays_all,
    )
    check_groups_cover_model(model, parameter_sets)
    return parameter_sets


def runs_in_bf16(recipe: Recipe, device: torch.device) -> bool:
    """Return True if a recipe trains and is scored in bf16.

    "auto" means bf16 on GPUs that compute in it; older ones emulate it, slower than fp32.
    """
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def takes_fast_kernels(recipe: Recipe, device: torch.device) -> bool:
    """Return True if convolutions are channels-last and AdamW is fused: on a GPU, and in bf16.

    Both change the last bits. fp32 on a CPU keeps those of Cryo-Bench's loop, and goes without.
    """
    return device.type == "cuda" or runs_in_bf16(recipe, device)


def device_for(gpus: float) -> torch.device:
    """Return the device of a trial that was given this many GPUs.

    A trial without a GPU must not touch the GPUs of its machine, so the device depends on the
    number requested, not on the number visible.

    Raises:
        SpecError: A GPU was requested and none is visible, or it is too old for this torch.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        message = (
            f"resources.gpus is {gpus:g}, and no GPU is visible here. "
            "Set resources.gpus to 0, or run where `nvidia-smi` lists one. If it does here, its "
            f"driver is too old for this torch (CUDA {torch.version.cuda}): update the driver."
        )
        raise SpecError(message)
    refuse_old_card()
    return torch.device("cuda")


def refuse_old_card() -> None:
    """Refuse a GPU that this build of torch has no kernels for.

    Raises:
        SpecError: Its compute capability is below the lowest that torch was built for.
    """
    built = [int(arch[3:].rstrip("af")) for arch in torch.cuda.get_arch_list() if "sm_" in arch]
    major, minor = torch.cuda.get_device_capability()
    if built and 10 * major + minor < min(built):
        low = min(built)
        message = (
            f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}, and this torch "
            f"({torch.__version__}) is built for {low // 10}.{low % 10} and later. Install a torch "
            "that is built for it, or set resources.gpus to 0."
        )
        raise SpecError(message)


def normalizer(recipe: Recipe, train: Scenes, device: torch.device) -> Normalize:
    """Build the normalization from the dataset's statistics, else from the training split's."""
    mean, std = statistics(recipe, train)
    return Normalize.of(mean, std, device=device)


def statistics(recipe: Recipe, train: Scenes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each layer, published or of the training split."""
    mean, std = published_statistics(recipe)
    return train.mean if mean is None else mean, train.std if std is None else std


def scale_to_pretraining(recipe: Recipe, model: Segmenter, train: Scenes) -> None:
    """Set the factors of a model under `data.normalize: pretraining`; do nothing under others.

    Raises:
        SpecError: The encoder has no such statistics, or the images are not in its units.
    """
    if isinstance(model.rescale, PretrainingScale):
        model.rescale.set_factors(factors_to_pretraining(recipe, train))


def factors_to_pretraining(recipe: Recipe, train: Scenes) -> list[tuple[float, float]]:
    """Return (scale, shift) of each encoder input, from the dataset's to its normalization.

    Raises:
        SpecError: The encoder has no such statistics, or the images are not in its units.
    """
    mean, std = statistics(recipe, train)
    encoder = recipe.model.encoder
    return pretraining_factors(
        encoder,
        PRETRAINING.get(encoder),
        band_plan(recipe),
        mean=mean,
        std=std,
        eight_bit=train.dtype == np.uint8,
    )


def published_statistics(
    recipe: Recipe,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and standard deviation of the recipe's dataset; None where they are computed.

    Under a protocol with declared bands they are Cryo-Bench's, where these differ.
    """
    dataset = dataset_of(recipe.data)
    upstream = dataset.upstream_statistics
    if upstream is not None and protocol_of(recipe).declared_bands:
        mean, std = ((value,) * len(dataset.bands) for value in upstream)
        return mean, std
    return dataset.mean, dataset.std
