"""Find values of a study that are legal and make little sense, some only beside its scenes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..config.optim import ADAMW, OWN
from ..config.recipe import short_lr
from ..config.space import SearchSpace
from ..report.wording import count_of
from ..training.build import scenes_of
from .timing import measure_epoch

if TYPE_CHECKING:
    from ..config import Recipe, Site, Study

ADAPTIVE = (ADAMW, "schedule-free")  # a step of each weight is about the learning rate
HIGH_LR = 1.0
SMALL_SEARCH = 12  # trials


def odd_values(study: Study, site: Site) -> list[str]:
    """Return a warning for each value of a study that makes little sense: key, value, remedy.

    Args:
        study: A study whose scenes have been decoded.
        site: Folder of the data.

    Raises:
        CryoError: The scenes cannot be read.
    """
    return [
        *_high_rates(study),
        *_missing_search(study),
        *emulated_bf16(study),
        *_large_batches(study, site),
        *_large_crops(study, site),
    ]


def _high_rates(study: Study) -> Iterator[str]:
    """Yield the learning rates at which an adaptive optimizer diverges."""
    for key, recipe in _recipes_with(study, "optim.lr"):
        name, lr = recipe.optim.name, recipe.optim.lr
        if name in ADAPTIVE and lr > HIGH_LR:
            yield (
                f"{key}: {lr:g} is above {HIGH_LR:g}, and {name} moves every weight by about the "
                "learning rate at each step, so training diverges. Did you mean "
                f"{short_lr(OWN[name]['lr'])}, its default? Lower it."
            )


def _missing_search(study: Study) -> Iterator[str]:
    """Yield a search that has no trial but the baseline's."""
    if study.search is not None and study.search.trials == 1:
        yield (
            "search.trials: 1 trains only the baseline, which is the first trial: nothing is "
            f"searched. Raise it, to {SMALL_SEARCH} for a small search."
        )


def emulated_bf16(study: Study) -> Iterator[str]:
    """Yield the base's precision, if this machine trains and only emulates bf16."""
    precision, gpus = study.base.precision, study.resources.gpus
    if os.environ.get("RAY_ADDRESS"):  # other machines train; `doctor` looks at each
        return
    if gpus != 0 and torch.cuda.is_available():
        if precision in ("auto", "bf16") and not torch.cuda.is_bf16_supported(
            including_emulation=False
        ):
            cost = (
                "auto is fp32 there" if precision == "auto" else "a step takes longer than in fp32"
            )
            yield (
                f"base.precision: {precision}, and {torch.cuda.get_device_name()} only emulates bf16: "
                f"{cost}. Newer GPUs compute in bf16: run a study on one kind, or set precision: fp32."
            )
    elif precision == "bf16" and not _cpu_computes_in_bf16():
        yield (
            "base.precision: bf16, and this processor has neither avx512_bf16 nor amx_bf16: it only "
            "emulates bf16, and a step takes many times longer. Set precision: fp32."
        )


def _cpu_computes_in_bf16() -> bool:
    """Return whether the processor has instructions for bf16; True too where torch does not tell."""
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    flags = [able[name] for name in ("avx512_bf16", "amx_bf16") if name in able]  # on x86 alone
    return not flags or any(flags)


def _large_batches(study: Study, site: Site) -> Iterator[str]:
    """Yield the batches that an epoch does not fill."""
    for key, recipe in _recipes_with(study, "batch_size"):
        epoch = measure_epoch(recipe, site)
        if recipe.batch_size > epoch.crops:
            yield (
                f"{key}: {recipe.batch_size} is more than the {count_of(epoch.crops, 'crop')} of an "
                f"epoch (of {count_of(epoch.scenes, 'training scene')}): an epoch is one step, and "
                f"its batch holds {epoch.crops}. Lower it to {epoch.crops} or less, or raise "
                "`data.replicate`."
            )


def _large_crops(study: Study, site: Site) -> Iterator[str]:
    """Yield the crops that no training scene fills."""
    height, width = max(scenes_of(study.base, "train", site).sizes, key=min)
    for key, recipe in _recipes_with(study, "data.crop"):
        if recipe.data.crop > min(height, width):
            yield (
                f"{key}: {recipe.data.crop} is more than the largest training scene has "
                f"({height} x {width} pixels): every scene is padded up to the crop. Lower it to "
                f"{min(height, width)} or less."
            )


def _recipes_with(study: Study, path: str) -> Iterator[tuple[str, Recipe]]:
    """Yield (key, recipe) of every place that sets a number; of a range, its upper end.

    A parameter that exists only under a condition is left out: what else holds then is not known.
    """
    yield f"base.{path}", study.base
    for name, changes in study.given_baselines.items():
        if path in changes:
            yield f"baselines.{name}.{path}", study.recipe(changes)
    space = None if study.search is None else study.search.space
    if isinstance(space, SearchSpace) and path in space.params and path not in space.when:
        numbers = [edge for edge in space.params[path].edges() if isinstance(edge, int | float)]
        yield f"search.space.params.{path}", study.recipe({path: max(numbers)})
