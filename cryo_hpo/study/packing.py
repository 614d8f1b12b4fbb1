"""Size the packs of a study: how many trainings of a frozen encoder one worker trains together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..execution.memory_limit import memory_limit
from ..training.build import freeze, segmenter
from .memory import CONTEXT_GIB, GIB, measure_step
from .preflight import shared_recipes

if TYPE_CHECKING:
    from ..config import Recipe, Site, Study
    from ..execution.executor import TrialResources

MOST = (
    8  # trainings of a pack under `auto`: more gain little, the decoders are most of the step then
)
UNSEEN_GIB = 16.0  # of a GPU that this machine does not have: the least of today's servers


class Room(NamedTuple):
    """Hold the memory that a trial may use."""

    gib: float
    of: str

    def __str__(self) -> str:
        return f"{self.gib:.3g} GiB of {self.of}"


class AutoPack(NamedTuple):
    """Hold how many trainings fit together, and what that follows from."""

    number: int
    why: str


def with_packs(slots: TrialResources, studies: Iterable[Study], site: Site) -> TrialResources:
    """Return the resources of a trial with the size of packs, where `auto` has memory decide.

    Args:
        slots: Resources of each trial, by the executor.
        studies: The study, or all cells of a campaign.
        site: Locations of the data.

    Raises:
        CryoError: The data are missing, or a model does not fit them.
    """
    room = room_of(slots.gpus, slots.cpus)
    numbers = [
        auto_pack(study, site, room).number
        for study in studies
        if study.resources.pack == "auto" and shared_recipes(study)
    ]
    return slots.packed(min(numbers)) if numbers else slots


def pack_lines(studies: Iterable[Study], site: Site) -> list[str]:
    """Return a line on the packs of each frozen encoder of a study, or of the cells of a campaign."""
    return list(dict.fromkeys(line for study in studies for line in _lines(study, site)))


def _lines(study: Study, site: Site) -> Iterator[str]:
    recipes, pack = shared_recipes(study), study.resources.pack
    if not recipes:
        return
    shared = f"the frozen encoder ({_share(recipes[0], site)}) runs once for all of a pack"
    if pack == 1:
        yield (
            f"packs: none. With `resources: {{pack: auto}}` a worker trains up to {MOST} trainings "
            f"together: {shared}"
        )
        return
    most, why = (pack, "") if pack != "auto" else auto_pack(study, site, expected_room(study))
    parallel = None if study.search is None else study.search.parallel
    if parallel is not None and parallel < most:
        most, why = parallel, ", as many as `search.parallel` allows"
    yield f"packs: up to {most} trainings of a worker{why}; {shared}"


def auto_pack(study: Study, site: Site, room: Room) -> AutoPack:
    """Return the number of trainings that fit together, by a measured step of each model."""
    least = AutoPack(MOST, "")
    for recipe in shared_recipes(study):
        step = measure_step(recipe, site)
        number = step.largest_pack(room.gib, batch=recipe.batch_size, most=MOST)
        if number < least.number or not least.why:
            why = (
                f" (measured: {step.member_gib:.2g} GiB each beside a step of "
                f"{step.of_batch(recipe.batch_size):.2g} GiB, in {room})"
            )
            least = AutoPack(number, why)
    return least


def expected_room(study: Study) -> Room:
    """Return the memory of a trial by what this machine has; a cluster may have other nodes."""
    resources, visible = study.resources, float(torch.cuda.is_available())
    gpus = visible if resources.gpus == "auto" else float(resources.gpus)
    return room_of(gpus, resources.cpus)


def room_of(gpus: float, cpus: int) -> Room:
    """Return the memory that a trial may use: of its GPU or share of one, else of its cores."""
    if not gpus:
        cores = len(os.sched_getaffinity(0))
        share = memory_limit() / GIB * min(1.0, cpus / cores)
        return Room(share, f"{min(cpus, cores)} of {cores} cores")
    cards = [
        torch.cuda.get_device_properties(i).total_memory / GIB
        for i in range(torch.cuda.device_count())
    ]
    card = min(cards, default=UNSEEN_GIB)
    name = "a GPU" if cards else "a GPU that this machine does not see"
    return Room(card * gpus - CONTEXT_GIB, name)


def _share(recipe: Recipe, site: Site) -> str:
    """Return how many of a model's parameters its frozen encoder has, in words."""
    with torch.device("meta"):
        model = segmenter(recipe, site=site, weights="scratch")
    freeze(recipe, model)
    whole = sum(p.numel() for p in model.parameters())
    frozen = whole - sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes = f"{frozen / 1e6:.3g} of {whole / 1e6:.3g} million parameters"
    return f"{recipe.model.encoder}, {sizes}"
