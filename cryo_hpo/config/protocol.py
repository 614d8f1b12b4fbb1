"""Define the training protocols: `corrected`, and Cryo-Bench's by revision, with its faults.

`published_recipe` holds what recipe keys can express, `Protocol` the rest.
`docs/protocol.md` lists every fault, its effect and what `corrected` does instead.

Source: Cryo-Bench, arXiv:2603.01576, and its configuration of 2026-03-03 (commit 41b6115, the first
revision) and of the third revision (commit 8048ddb).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

Value = str | int | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Hold how a training differs beyond the keys of its recipe.

    Attributes:
        revision: Revision of Cryo-Bench that is reproduced, from 1; None: none.
        centers_scenes: Whether of SICD's scenes only the center is used, in training and scores.
        score_every: Epochs between two validation scores; the last epoch is scored too.
        scores_untrained: Whether the untrained model takes part in the selection.
        frozen_in_train_mode: Whether a frozen encoder keeps its dropout, stochastic depth and
            moving statistics; else it is in evaluation mode.
        absent_is_zero: Whether a class in neither truth nor map has IoU 0; else it has none.
        decays_all: Whether weight decay applies to norms, biases and embeddings too.
        redraws_crops: Whether training crops without a labeled pixel are drawn again.
        declared_bands: Whether layers have the names that Cryo-Bench gives them: slopes and heights
            go into an encoder as red edge and infrared; else their true names.
        scores_tiles: Whether scenes larger than the dataset's tile are cut up, trained on and
            scored tile by tile; pixels of two tiles count twice.
        one_of_each: Whether a label fraction holds an image of every stratum, however small.
        thins_val: Whether the label fraction also applies to the validation split.
    """

    revision: int | None = None
    centers_scenes: bool = False
    score_every: int = 1
    scores_untrained: bool = False
    frozen_in_train_mode: bool = False
    absent_is_zero: bool = False
    decays_all: bool = False
    redraws_crops: bool = True
    declared_bands: bool = False
    scores_tiles: bool = False
    one_of_each: bool = False
    thins_val: bool = False

    def scores(self, epoch: int, *, of: int) -> bool:
        """Return whether the validation split is scored after an epoch (from 1) of `of` epochs."""
        return epoch % self.score_every == 0 or epoch == of


CRYO_BENCH = "cryo-bench"  # in a recipe the first revision; models compare the beginning
_FIRST = Protocol(
    revision=1,
    centers_scenes=True,
    score_every=5,
    scores_untrained=True,
    frozen_in_train_mode=True,
    absent_is_zero=True,
    decays_all=True,
    redraws_crops=False,
    declared_bands=True,
    scores_tiles=True,
    one_of_each=True,
    thins_val=True,
)
# The second revision scored SICD with models trained on its center: no training reproduces it.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "corrected": Protocol(),
        "cryo-bench@1": _FIRST,
        "cryo-bench@3": replace(_FIRST, revision=3, centers_scenes=False),
    }
)
DATASETS_OF: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("glid", "gld", "sicd", "caffe", "gsdd"),
        2: ("gsdd", "glid", "glb", "sicd", "caffe", "shelf-bench"),
        3: ("gsdd", "glid", "glb", "sicd", "caffe", "shelf-bench"),
    }
)
"""Revision -> its datasets, in the order of its table."""

_ALWAYS: dict[str, Value] = {
    "data.augment": (),
    "data.normalize": "dataset",
    "data.overlap": 0,
    "data.replicate": 1,
    "data.foreground": 0.0,
    "model.decoder": "upernet",
    "model.channels": 512,
    "model.missing_bands": "zero",
    "model.tune": "frozen",
    "loss.name": "ce",
    "optim.name": "adamw",
    "optim.lr": 1e-4,
    "optim.weight_decay": 0.05,
    "optim.encoder_lr_scale": 1.0,
    "optim.layer_decay": 1.0,
    "optim.schedule": "multistep",
    "optim.warmup_epochs": 0.0,
    "optim.clip_grad_norm": None,
    "optim.ema": None,
    "batch_size": 8,
    "epochs": 80,
    "precision": "fp32",
}
# Model -> its differences. The U-Net has no pretraining: all of it is trained, with its own
# decoder, on whole tiles. Stochastic depth is that of upstream's encoders; no option turns it off.
FAMILIES: Mapping[str, Mapping[str, Value]] = MappingProxyType(
    {
        "croma": {"data.crop": 120},
        "dofa": {"data.crop": 224},
        "gfm-swin": {"data.crop": 192, "model.drop_path": 0.1},
        "prithvi": {"data.crop": 224},
        "ramen": {"data.crop": 40},
        "remoteclip": {"data.crop": 224},
        "satlas": {"data.crop": 128, "model.drop_path": 0.5},
        "scale-mae": {"data.crop": 224},
        "spectralgpt": {"data.crop": 128, "model.drop_path": 0.5},
        "s12-moco": {"data.crop": 224},
        "s12-dino": {"data.crop": 224},
        "s12-mae": {"data.crop": 224},
        "s12-data2vec": {"data.crop": 224},
        "terramind": {"data.crop": 224},
        "thor": {"data.crop": 256},
        "unet": {"model.decoder": "unet", "model.tune": "full"},
        "vit": {"data.crop": 224},
    }
)
# GLD's images have 300 pixels a side, which is no multiple of 16.
_TILES = {
    "glid": 512,
    "gld": 288,
    "sicd": 512,
    "caffe": 1024,
    "gsdd": 512,
    "glb": 256,
    "shelf-bench": 256,
}
_OTHER_BATCH = {"glid": 4, "sicd": 4}  # as the first revision's own commands run these two


def family_of(encoder: str) -> str | None:
    """Return the key of `FAMILIES` that an encoder's name begins with; None: not in Cryo-Bench."""
    name = _plain(encoder)
    fitting = [family for family in FAMILIES if name.startswith(_plain(family))]
    return max(fitting, key=len, default=None)


def published_recipe(encoder: str, dataset: str | None, revision: int = 1) -> dict[str, Value]:
    """Return recipe path -> Cryo-Bench's value, for everything that a recipe can express.

    Args:
        encoder: Name of the encoder.
        dataset: Name of the dataset; None for one of the user's own.
        revision: Revision of Cryo-Bench.
    """
    family = family_of(encoder)
    published = {**_ALWAYS, **FAMILIES.get(family or "", {})}
    if family == "unet" and dataset in _TILES:
        published["data.crop"] = _TILES[dataset]
    if family == "vit" and revision > 1 and dataset != "gsdd":
        published["model.tune"] = "full"  # its ViT is trained from scratch there
    return published


def departures(
    recipe: Mapping[str, Value], encoder: str, dataset: str | None, *, revision: int | None = None
) -> list[str]:
    """List where a recipe departs from Cryo-Bench as published, a line for each key.

    Args:
        recipe: Path -> value, lists as 'a,b'; see `Recipe.flat`.
        encoder: Name of the encoder.
        dataset: Name of the dataset; None for one of the user's own.
        revision: Revision of Cryo-Bench; None: that of the recipe's protocol, or the first.
    """
    revision = revision or PROTOCOLS[str(recipe["protocol"])].revision or 1
    return [
        *_outside(revision, family_of(encoder), dataset),
        *_other_values(recipe, published_recipe(encoder, dataset, revision), dataset, revision),
        *_other_inputs(revision, family_of(encoder), dataset),
    ]


def _outside(revision: int, family: str | None, dataset: str | None) -> Iterator[str]:
    """Yield what a revision does not have."""
    published = {name for names in DATASETS_OF.values() for name in names}
    if dataset in published and dataset not in DATASETS_OF[revision]:
        yield f"data.name: {dataset} is not in revision {revision}"
    if family == "ramen" and revision > 1:
        yield f"model.encoder: RAMEN is not in revision {revision}"


def _other_values(
    recipe: Mapping[str, Value], published: Mapping[str, Value], dataset: str | None, revision: int
) -> Iterator[str]:
    """Yield the keys whose value is another one than published."""
    for path, theirs in published.items():
        ours, wanted = recipe[path], ",".join(theirs) if isinstance(theirs, tuple) else theirs
        also = _OTHER_BATCH.get(dataset or "") if (path, revision) == ("batch_size", 1) else None
        if ours != wanted and (also is None or ours != also) and path != "model.tune":
            own = (
                "a quarter of the crop" if (path, ours) == ("data.overlap", None) else _shown(ours)
            )
            yield f"{path}: {own} instead of {_shown(wanted)}"


def _other_inputs(revision: int, family: str | None, dataset: str | None) -> Iterator[str]:
    """Yield inputs of a model that are not reproduced; see the faults in docs/protocol.md."""
    if dataset == "sicd" and family == "unet" and revision > 1:
        yield "input: 2 radar layers of SICD; theirs had a third layer, which has no known content"
    if dataset == "shelf-bench" and family in ("unet", "dofa"):
        yield "input: one layer of Shelf-Bench; theirs had the same layer twice"


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "")


def _shown(value: Value) -> str:
    return "nothing" if value in (None, "") else str(value)
