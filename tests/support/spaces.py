"""Generate random search spaces and studies for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cryo_hpo.config import (
    Asha,
    DataSpec,
    LossSpec,
    ModelSpec,
    NoStopping,
    OptimSpec,
    Recipe,
    Resources,
    Search,
    Study,
)
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.config.space import Choice, Float, Int, Scalar, SearchSpace, When

calm = settings(  # a busy machine must not fail a test
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12
) | st.sampled_from(["no", "1e-4", "010", "0o7", "null", "~", "2024-01-01", "<<", "=", ".inf"])
scalars: st.SearchStrategy[Scalar] = (
    texts
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)  # the range of a YAML file
    | st.floats(allow_nan=False, allow_infinity=False)
)
names = st.from_regex(r"\A[a-z_][a-z0-9_]{0,6}(\.[a-z_][a-z0-9_]{0,6}){0,2}\Z")
slugs = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,12}\Z")


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    lowest = 1e-12 if log else -1e9
    ends = draw(st.lists(st.floats(lowest, 1e9), min_size=2, max_size=2))
    return Float(low=min(ends), high=max(ends), log=log)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    step = 1 if log else draw(st.integers(1, 7))
    return Int(low=low, high=low + step * draw(st.integers(0, 50)), log=log, step=step)


choices = st.builds(
    Choice, values=st.lists(scalars, min_size=1, max_size=4, unique=True).map(tuple)
)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    params = draw(st.dictionaries(names, floats() | ints() | choices, min_size=1, max_size=5))
    order = list(params)
    when = {}
    for i, name in enumerate(order[1:], start=1):
        parent = params[draw(st.sampled_from(order[:i]))]
        if isinstance(parent, Choice) and draw(st.booleans()):
            values = draw(st.lists(st.sampled_from(parent.values), min_size=1, unique=True))
            above = next(n for n in order[:i] if params[n] is parent)
            when[name] = When(param=above, is_in=tuple(values))
    return SearchSpace(params=params, when=when)


cards = st.builds(
    DatasetCard,
    name=st.just("mine"),
    root=texts.filter(bool),
    images=st.just("{split}/{id}.tif"),
    masks=texts.filter(lambda t: not {"{", "}"} & set(t)).map(lambda t: f"{{split}}/{{id}}{t}"),
    bands=st.just(("B4", "B3")),
    classes=st.lists(texts, min_size=2, max_size=4, unique=True).map(tuple),
    ignore=st.none() | st.integers(10, 255),
    nan=st.sampled_from(["refuse", "ignore"]),
    mean=st.none() | st.just((0.25, 1e-5)),
    std=st.none() | st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)),
    gsd_m=st.none() | st.floats(0.01, 1e4),
    region=st.none() | st.just("^([A-Z]+)_"),
    source=texts,
    license=texts,
)
recipes = st.builds(
    Recipe,
    data=st.builds(DataSpec, name=texts, crop=st.integers(8, 512))
    | st.builds(
        DataSpec, card=cards, augment=st.sampled_from([(), ("rot90",), ("vflip", "hflip")])
    ),
    model=st.builds(
        ModelSpec,
        encoder=texts.filter(bool),
        decoder=st.sampled_from(["unet", "upernet"]),
        drop_path=st.floats(0, 0.99),
        weights=st.none() | texts.filter(bool),
    ),
    loss=st.builds(LossSpec, name=st.sampled_from(["ce", "ce+dice"]), focal_gamma=st.floats(0, 9)),
    optim=st.builds(
        OptimSpec,
        lr=st.floats(1e-12, 1e3),
        layer_decay=st.floats(1e-3, 1),
        clip_grad_norm=st.none() | st.floats(1e-3, 1e3),
    ),
    epochs=st.integers(9, 100),
    seed=st.just(0),
)
NUMBERS: dict[str, Any] = {
    "optim.lr": Float(low=1e-6, high=1e-2, log=True),
    "batch_size": Int(low=2, high=8, step=2),
    "model.tune": Choice(values=("full", "frozen")),
}
searches = st.builds(
    Search,
    space=st.lists(st.sampled_from(list(NUMBERS)), min_size=1, unique=True).map(
        lambda chosen: SearchSpace(params={name: NUMBERS[name] for name in chosen})
    ),
    trials=st.integers(1, 50),
    scheduler=st.builds(
        Asha, rule=st.sampled_from(["stop", "promote"]), reduction=st.integers(2, 5)
    )
    | st.just(NoStopping(kind="none")),
    sampler=st.sampled_from(["tpe", "random", "gp"]),
    parallel=st.none() | st.integers(1, 9),
)
studies = st.builds(
    Study,
    name=slugs,
    base=recipes,
    search=st.none() | searches,
    seeds=st.lists(st.integers(1, 10**12), min_size=1, max_size=6, unique=True).map(tuple),
    baselines=st.dictionaries(
        slugs.filter(lambda name: name not in ("baseline", "tuned")),
        st.fixed_dictionaries(
            {"optim.lr": st.floats(1e-9, 1)}, optional={"loss.name": st.just("dice")}
        ),
        max_size=2,
    ),
    resources=st.builds(Resources, cpus=st.integers(1, 64), gpus=st.just("auto") | st.floats(0, 1)),
)
