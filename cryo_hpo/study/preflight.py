"""Check that a study can run before anything does: data, models, weights, groups, GPU."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch

from ..config.protocol import PROTOCOLS, departures
from ..config.space import Int, SearchSpace
from ..data.audit import inspect_scenes
from ..data.facts import read_facts
from ..data.progress_log import ProgressLog
from ..data.review import review
from ..data.splits import parts_of
from ..errors import CryoError, DataError, SpecError, StorageError, combine, concerning
from ..evaluation.field_metrics import Metric
from ..models import check_size, find_encoder
from ..search.calibrated import calibrated_arms
from ..search.portfolio import portfolio_of
from ..training.build import (
    band_plan,
    dataset_of,
    device_for,
    factors_to_pretraining,
    freeze,
    parameter_groups,
    scenes_of,
    segmenter,
)
from ..training.checkpoint_store import ensure_store_usable
from ..training.scoring import field_rules
from ..training.sharing import shared_key
from ..training.validation import rules_of
from .folder import SPEC, of, refuse_another
from .odd_values import odd_values

if TYPE_CHECKING:
    from ..bands import BandPlan
    from ..config import Recipe, Resources, Site, Study
    from ..config.space import Scalar
    from ..data.dataset import Dataset, SceneFiles, Split
    from ..training.optimizer import Group

log = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NOTES = {  # optimizer -> what its learning rate is
    "sgd": "",
    "prodigy": " times the rate that it estimates",
    "schedule-free": ", without a schedule",
}
MAX_NAMED = 20  # scenes in a message
SHAPES = ("data.", "model.")  # the parameters that decide whether a model fits


def log_warning(sentence: str) -> None:
    """Log a warning."""
    log.warning("%s", sentence)


def check(study: Study, *, site: Site, warn: Callable[[str], None] = log_warning) -> list[Group]:
    """Refuse a study that cannot train, with all its problems at once.

    Every split is decoded into the cache, which looks at every pixel and mask value once;
    nothing is scored. The models of the base, of the named baselines and at the edges of the
    search space are built on CPU, with their weights, one after another. What is legal and makes
    little sense is a warning.

    Args:
        study: The study.
        site: Locations of data, cache, storage and weights.
        warn: Called with each warning, a sentence.

    Returns:
        The optimizer groups of the base.

    Raises:
        CryoError: The study cannot train; one line per problem, with remedies.
    """
    groups: list[Group] = []
    looks: list[Callable[[], object]] = [
        partial(refuse_another, study, site),
        partial(_require_gpu, study.resources),
        partial(ensure_store_usable, site, study.name, begun=(of(study, site) / SPEC).exists()),
        *(partial(_decode, study.base, split, site) for split in SPLITS),
        partial(_name_wrong_scenes, study.base, site),
        partial(_review_data, study.base, site, warn),
        partial(_require_metric, study, site),
        partial(_require_sizes, study.base, site),
        partial(_read_portfolio, study),
        partial(calibrated_arms, study),
        partial(_require_shared, study),
        lambda: groups.extend(_fit(study, {}, site, ("base",))),
        *(partial(_fit, study, changes, site, key) for key, changes in _variants(study)),
    ]
    problems: dict[str, CryoError] = {}
    for look in looks:
        try:
            look()
        except CryoError as error:
            for part in error.parts or (error,):
                problems.setdefault(str(part), part)
    if problems:
        raise combine(list(problems.values()))
    for sentence in (*odd_values(study, site), *_gaps(study)):
        warn(sentence)
    return groups


PLAIN = " (the study's own settings; no published procedure is repeated)"


def protocol_lines(recipe: Recipe) -> list[str]:
    """Return the lines on a recipe's protocol and its departures from the published one."""
    if PROTOCOLS[recipe.protocol].revision is None:
        return [f"Protocol: {recipe.protocol}{PLAIN}."]
    apart = departures(recipe.flat(), recipe.model.encoder, recipe.data.name)
    if not apart:
        return [f"Protocol: {recipe.protocol}, as published."]
    return [
        f"Protocol: {recipe.protocol}, but for what this study says:",
        *(f"  {p}" for p in apart),
    ]


def optimizer_lines(study: Study) -> list[str]:
    """Return a line for each arm whose optimizer is not AdamW; its rates are on another scale."""
    arms = {"base": study.base}
    arms |= {name: study.base.replace(changes) for name, changes in study.given_baselines.items()}
    return [
        f"Optimizer of '{name}': {optim.name}, learning rate {optim.lr:g}{NOTES[optim.name]}."
        for name, optim in ((name, recipe.optim) for name, recipe in arms.items())
        if optim.name in NOTES
    ]


def _require_gpu(resources: Resources) -> None:
    """Refuse if a requested GPU is missing; a cluster's GPUs are checked once it is joined."""
    if resources.gpus != "auto" and not os.environ.get("RAY_ADDRESS"):
        with concerning("resources", "gpus"):
            device_for(float(resources.gpus))


def _require_shared(study: Study) -> None:
    """Refuse packs in a study whose trainings share no encoder although it is frozen."""
    pack, search = study.resources.pack, study.search
    by_function = search is not None and not isinstance(search.space, SearchSpace)
    if pack in ("auto", 1) or by_function or shared_recipes(study):
        return
    message = (
        f"No two trainings can be packed, got {pack}: a frozen encoder is shared only uncompiled and "
        "in evaluation mode. Set base.compile: off and base.protocol: corrected, or leave out "
        "resources.pack."
    )
    with concerning("resources", "pack"):
        raise SpecError(message)


def _read_portfolio(study: Study) -> None:
    """Read the portfolio that the search starts from, if it names one."""
    if study.search is not None and study.search.start != "even":
        with concerning("search", "start"):
            portfolio_of(study)


def _decode(recipe: Recipe, split: Split, site: Site) -> None:
    with concerning("base", "data", "name"):
        scenes_of(recipe, split, site)


def _name_wrong_scenes(recipe: Recipe, site: Site) -> None:
    """Read every scene if a split cannot be decoded, which ends at the first one that is wrong.

    Raises:
        DataError: Scenes cannot be used.
    """
    try:
        for split in SPLITS:
            scenes_of(recipe, split, site)
    except StorageError:
        return  # no scene is to blame
    except DataError:
        dataset = dataset_of(recipe.data)
        items = _readable_items(dataset, site)
        with ProgressLog("looking for other wrong scenes", len(items)) as progress:
            looks = inspect_scenes(dataset, items, progress=progress.advance)
            faults = [look.problem for look in looks if look.problem]
        if faults:
            more = len(faults) - MAX_NAMED
            rest = [f"{more} more scenes cannot be used."] if more > 0 else []
            raise combine(list(map(DataError, [*faults[:MAX_NAMED], *rest]))) from None


def _readable_items(dataset: Dataset, site: Site) -> list[SceneFiles]:
    """Return the scenes of all parts, or undivided if dividing them failed; none without an index."""
    try:
        return list(chain(*parts_of(dataset, site.data, cache=site.cache).values()))
    except CryoError:
        with contextlib.suppress(CryoError):
            return list(dataset.index(site.data, "train")) if dataset.rule is not None else []
    return []


def _require_metric(study: Study, site: Site) -> None:
    """Refuse a metric that the validation split cannot measure."""
    try:
        scenes = scenes_of(study.base, "val", site)
    except CryoError:
        return  # reported where the split was decoded
    with concerning("search", "metric"):
        rules_of(Metric.named(study.metric), study.base, scenes)


def _require_sizes(recipe: Recipe, site: Site) -> None:
    """Refuse a tolerance of boundaries in meters where a test scene has no pixel size."""
    try:
        scenes = scenes_of(recipe, "test", site)
    except CryoError:
        return  # reported where the split was decoded
    field_rules(recipe, scenes)


def _review_data(recipe: Recipe, site: Site, warn: Callable[[str], None]) -> None:
    """Compare the decoded scenes of all splits; pass warnings on, refuse unlearnable data."""
    dataset = dataset_of(recipe.data)
    try:
        parts = {split: read_facts(scenes_of(recipe, split, site).folder) for split in SPLITS}
    except CryoError:
        return  # reported where the split was decoded
    reviewed = review(dataset, parts)
    for sentence in (*reviewed.warnings, *dataset.unused(site.data)):
        warn(sentence)
    if reviewed.refusals:
        raise DataError("\n".join(reviewed.refusals))


def _fit(
    study: Study, changes: Mapping[str, Scalar], site: Site, key: tuple[str, ...]
) -> list[Group]:
    """Build one recipe's model and return its optimizer groups."""
    with concerning(*key):
        recipe = study.recipe(changes)
    with concerning(*key, "data", "name"):
        dataset_of(recipe.data)
    with concerning(*key, "model", "encoder"):
        find_encoder(recipe.model.encoder)
    with concerning(*key, "data", "normalize"):
        _require_statistics(recipe, site)
    with concerning(*key, "data", "crop"):
        check_size(recipe.model.encoder, recipe.data.crop)
    with concerning(*key, "model", "encoder"):
        with torch.device("meta"):  # a model that does not fit is refused before weights are read
            segmenter(recipe, site=site, weights="scratch")
        model = segmenter(recipe, site=site, weights=recipe.model.weights)
    freeze(recipe, model)
    return parameter_groups(recipe, model)


def _require_statistics(recipe: Recipe, site: Site) -> None:
    """Refuse `data.normalize: pretraining` for an encoder or images that it does not fit."""
    if recipe.data.normalize == "pretraining":
        try:
            train = scenes_of(recipe, "train", site)
        except DataError:
            return  # reported where the split was decoded
        factors_to_pretraining(recipe, train)


def recipes_of(study: Study) -> list[Recipe]:
    """Return the recipe of every model of a study: base, baselines, edges of the search space."""
    return [study.base, *(study.recipe(changes) for _, changes in _variants(study))]


def shared_recipes(study: Study) -> list[Recipe]:
    """Return the recipes of a study that can be trained in a pack, one for each model."""
    return [recipe for recipe in recipes_of(study) if shared_key(recipe) is not None]


def band_plans(study: Study) -> list[tuple[str, BandPlan]]:
    """Return (encoder, band plan) of every model of a study, each once."""
    pairs = ((recipe.model.encoder, band_plan(recipe)) for recipe in recipes_of(study))
    return list(dict.fromkeys(pairs))


def _gaps(study: Study) -> Iterator[str]:
    """Yield a warning for each encoder whose bands the data lack."""
    for encoder, plan in band_plans(study):
        if plan.gaps:
            names = " ".join(plan.bands[i].name for i in plan.gaps)
            yield f"'{encoder}' gets no bands {names}: '{plan.missing}' instead"


def _variants(study: Study) -> Iterator[tuple[tuple[str, ...], Mapping[str, Scalar]]]:
    """Yield (key of the study, changes to base) of every other model, each once."""
    variants: list[tuple[tuple[str, ...], Mapping[str, Scalar]]] = [
        (("baselines", name), changes) for name, changes in study.given_baselines.items()
    ]
    if study.search is not None and isinstance(study.search.space, SearchSpace):
        edges = _edges(study.search.space)
        variants += [(("search", "space", "params", name), point) for name, point in edges]
    seen: list[dict[str, Scalar]] = [{}]
    for key, changes in variants:
        shape = {name: value for name, value in changes.items() if name.startswith(SHAPES)}
        if shape not in seen:
            seen.append(shape)
            yield key, changes


def _edges(space: SearchSpace) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """Yield (parameter, point): each edge, with the parameters linked to it by conditions."""
    for name, param in space.params.items():
        values = dict.fromkeys(param.edges())
        if isinstance(param, Int) and param.low < param.high:
            values[param.low + param.step] = None  # if it and low divide, all others do
        for value in values if name.startswith(SHAPES) else ():
            wanted, child = {name: value}, name
            while child in space.when:
                condition = space.when[child]
                wanted[condition.param], child = condition.is_in[0], condition.param
            yield name, _whole(space, wanted)


def _whole(space: SearchSpace, wanted: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Complete a point with the first value of each parameter that the wanted ones activate."""
    point: dict[str, Scalar] = {}
    for name, param in space.params.items():
        condition = space.when.get(name)
        if name in wanted:
            point[name] = wanted[name]
        elif condition is not None and point.get(condition.param) in condition.is_in:
            point[name] = param.edges()[0]
    return point
