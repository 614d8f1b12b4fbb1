"""Trainings side by side give what each gives alone, bit for bit, and share one frozen encoder."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.errors import Diverged
from cryo_hpo.models import DECODERS
from cryo_hpo.models.encoder_pass import EncoderPass
from cryo_hpo.training import checkpoints
from cryo_hpo.training.checkpoints import BEST
from cryo_hpo.training.epoch import Epoch
from cryo_hpo.training.loop import fit
from cryo_hpo.training.opening import open_run
from cryo_hpo.training.pack import Event, Member, fit_pack
from cryo_hpo.training.run import Run
from cryo_hpo.training.sharing import SharedEncoders, shared_key
from cryo_hpo.training.step import check_steps

from ..support.crops import side_of
from ..support.fakes import fake_folder

CPU = torch.device("cpu")
TIMES = ("seconds", "data_seconds", "together")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    places = {"CRYO_DATA": "data", "CRYO_STORAGE": "runs", "CRYO_CACHE": "cache"}
    return Site.from_env({key: str(tmp_path / place) for key, place in places.items()})


@pytest.fixture
def recipe(site: Site) -> Recipe:
    card = fake_folder(site.data, num=(6, 2, 2), size=(24, 20))
    return Recipe(
        data=DataSpec(card=card, crop=16),
        model=ModelSpec(encoder="unet", decoder="unet", width=4, channels=8, tune="frozen"),
        batch_size=2,
        epochs=3,
    )


def _member(recipe: Recipe, site: Site, name: str, **given: Any) -> Member:
    return Member(recipe, site.storage / name, **{"until": recipe.epochs, **given})


def _together(recipes: dict[str, Recipe], site: Site, **given: Any) -> dict[str, list[Any]]:
    """Train side by side; return each training's epochs and errors by name."""
    names = list(recipes)
    members = [_member(recipe, site, name, **given) for name, recipe in recipes.items()]
    events: dict[str, list[Any]] = {name: [] for name in names}
    for number, event in fit_pack(members, site=site, device=CPU):
        events[names[number]].append(event)
    return events


def _numbers(epoch: Epoch) -> dict[str, float]:
    return {key: value for key, value in epoch.metrics().items() if key not in TIMES}


def _weights(folder: Path, name: str = "last.pt") -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / name, weights_only=True)["model"]
    return weights


def _assert_as_alone(recipe: Recipe, site: Site, name: str, epochs: list[Epoch]) -> None:
    alone = site.storage / f"{name}-alone"
    expected = list(fit(recipe, site=site, workdir=alone, device=CPU))
    assert [_numbers(epoch) for epoch in epochs] == [_numbers(epoch) for epoch in expected]
    for file in ("last.pt", "best.pt"):
        theirs, ours = _weights(alone, file), _weights(site.storage / name, file)
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs), file


VARIANTS = {
    "rates": [{"optim.lr": 1e-3}, {"optim.lr": 1e-2}, {"optim.lr": 3e-2}],
    "decoders": [{"model.decoder": "unet"}, {"model.decoder": "upernet", "model.channels": 4}],
    "losses": [{"loss.name": "dice"}, {"loss.name": "weighted_ce"}, {"loss.name": "ce"}],
    "optimizers": [
        {"optim.name": "schedule-free"},
        {"optim.name": "adamw"},
        {"optim.name": "prodigy"},
    ],
    "averages": [{"optim.ema": 0.9}, {"optim.clip_grad_norm": 0.1}, {"optim.ema": 0.5}],
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_each_training_is_what_it_is_alone(changes, recipe, site):
    recipes = {str(i): recipe.replace(change) for i, change in enumerate(changes)}
    events = _together(recipes, site)
    for name, one in recipes.items():
        assert [epoch.together for epoch in events[name]] == [len(recipes)] * one.epochs
        _assert_as_alone(one, site, name, events[name])


@pytest.mark.usefixtures("tiny_encoders")
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ["vit-scratch", "timm/resnet10t", "dofa-base", "gfm-swin"])
def test_random_draws_are_those_of_a_training_alone(encoder, decoder, site):
    side = side_of(encoder, 64)
    card = fake_folder(site.data, num=(4, 2, 2), size=(side + 8, side))
    recipe = Recipe(
        data=DataSpec(card=card, crop=side),
        model=ModelSpec(
            encoder=encoder, decoder=decoder, channels=4, tune="frozen", weights="scratch"
        ),
        batch_size=2,
        epochs=2,
    )
    recipes = {"a": recipe, "b": recipe.replace({"optim.lr": 1e-2})}
    events = _together(recipes, site)
    for name, one in recipes.items():
        _assert_as_alone(one, site, name, events[name])


def test_a_batch_passes_the_encoder_once(recipe, site, monkeypatch):
    runs = [open_run(recipe.replace({"optim.lr": lr}), site, CPU) for lr in (1e-3, 1e-2, 1e-1)]
    shared = SharedEncoders()
    for run in runs:
        shared.join(run)
    calls: list[int] = []
    encoder = runs[0].model.get_submodule("encoder")
    encoder.register_forward_hook(lambda *_: calls.append(1))
    assert all(run.model.get_submodule("encoder") is encoder for run in runs)
    x_BCHW, y_BHW = next(iter(runs[0].batches(1)))
    losses = [run.step(x_BCHW, y_BHW) for run in runs]
    assert len(calls) == 1
    assert len({float(loss) for loss in losses}) == 1, "their decoders begin alike"
    runs[0].validation.score_side_by_side([run.scored for run in runs])
    alone = len(calls)
    runs[0].model.shared = None
    runs[0].validation.score(runs[0].scored)
    assert len(calls) - alone == alone - 1, "as many passes for three models as for one"


def test_micro_batches_pass_the_encoder_once_each(recipe, site):
    runs = [open_run(recipe.replace({"optim.lr": lr}), site, CPU) for lr in (1e-3, 1e-2)]
    shared = SharedEncoders()
    for run in runs:
        shared.join(run)
    calls: list[int] = []
    runs[0].model.get_submodule("encoder").register_forward_hook(lambda *_: calls.append(1))
    x_BCHW, y_BHW = next(iter(runs[0].batches(1)))
    for run in runs:
        run.step.micro_batch = 1
        run.step(x_BCHW, y_BHW)
    assert len(calls) == len(x_BCHW)


def test_levels_that_a_decoder_changed_are_computed_again():
    shared, x_BCHW = EncoderPass(), torch.ones(1, 2, 4, 4)
    first = shared(x_BCHW, lambda x: [x * 2])
    assert shared(x_BCHW, lambda x: [x * 3])[0] is first[0]
    first[0].add_(1)
    assert torch.equal(shared(x_BCHW, lambda x: [x * 3])[0], x_BCHW * 3)
    x_BCHW.add_(1)
    assert torch.equal(shared(x_BCHW, lambda x: [x * 4])[0], x_BCHW * 4)
    other = torch.ones(1, 2, 4, 4)
    assert torch.equal(shared(other, lambda x: [x * 5])[0], other * 5)


def test_one_that_diverges_ends_alone(recipe, site):
    far = recipe.model_copy(update={"optim": recipe.optim.model_copy(update={"lr": 1e30})})
    events = _together({"a": recipe, "far": far, "b": recipe.replace({"optim.lr": 1e-3})}, site)
    assert [type(event) for event in events["far"]] == [Diverged]
    for name, one in (("a", recipe), ("b", recipe.replace({"optim.lr": 1e-3}))):
        assert [epoch.together for epoch in events[name]] == [3, 2, 2]
        _assert_as_alone(one, site, name, events[name])


def test_one_that_diverges_while_its_best_model_is_written_keeps_that_one(
    recipe, site, monkeypatch
):
    """Alone, the write in flight is waited for before the frozen encoder is added."""
    save, diverged = checkpoints.save, threading.Event()

    def slow(path: Path, state: dict[str, Any]) -> None:
        if threading.current_thread() is not threading.main_thread() and path.parent.name != "a":
            diverged.wait(10)
            time.sleep(0.5)
        save(path, state)

    def diverges(run: Run, values: Any) -> float:
        if run.recipe.optim.lr == 1e-2 and any(v.position == run.steps for v in values):
            diverged.set()
            raise Diverged("too far")
        return check_steps(run, values)

    monkeypatch.setattr(checkpoints, "save", slow)
    for name in ("member_run", "loop"):
        monkeypatch.setattr(f"cryo_hpo.training.{name}.check_steps", diverges)
    lost = recipe.replace({"optim.lr": 1e-2})
    events = _together({"a": recipe, "b": lost}, site)
    assert isinstance(events["b"][-1], Diverged)
    diverged.clear()
    with pytest.raises(Diverged):
        list(fit(lost, site=site, workdir=site.storage / "alone", device=CPU))
    ours, theirs = (_weights(site.storage / name, BEST) for name in ("b", "alone"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_one_whose_validation_is_not_a_number_ends_alone(recipe, site, monkeypatch):
    runs = [open_run(recipe, site, CPU) for _ in range(2)]
    with torch.no_grad():
        next(runs[0].model.decoder.parameters()).fill_(torch.nan)
    lost, whole = runs[0].validation.score_side_by_side([run.scored for run in runs])
    assert isinstance(lost, Diverged)
    assert whole == runs[1].validation.score(runs[1].scored)


@pytest.mark.parametrize("metric", ["miou", "boundary_f1/lake", "mde_px/lake"])
def test_scores_side_by_side_are_those_of_each_alone(metric, recipe, site):
    runs = [open_run(recipe, site, CPU, metric=metric) for _ in range(3)]
    for number, run in enumerate(runs):
        torch.manual_seed(number)
        with torch.no_grad():
            for p in run.model.decoder.parameters():
                p.add_(torch.randn_like(p))
    models = [run.scored for run in runs]
    together = runs[0].validation.score_side_by_side(models)
    assert together == [run.validation.score(run.scored) for run in runs]
    assert len({str(scores) for scores in together}) > 1


def test_members_that_are_behind_catch_up_and_each_ends_where_it_is_told(recipe, site):
    recipes = {"a": recipe, "b": recipe.replace({"optim.lr": 1e-3})}
    first = fit(recipe, site=site, workdir=site.storage / "a", device=CPU)
    ahead = list(itertools.islice(first, 2))
    first.close()
    members = [_member(one, site, name) for name, one in recipes.items()]
    members[1] = _member(recipes["b"], site, "b", until=3)
    pack = fit_pack(members, site=site, device=CPU)
    assert [len(history) for history in pack.histories] == [2, 0]
    order = [(number, event.number, event.together) for number, event in pack]  # type: ignore[union-attr]
    assert order == [(1, 1, 1), (1, 2, 1), (0, 3, 2), (1, 3, 2)]
    assert len(ahead) == 2


def test_a_pack_that_is_closed_resumes_as_if_it_had_run_through(recipe, site):
    recipes = {"a": recipe, "b": recipe.replace({"optim.lr": 1e-3})}
    pack = fit_pack([_member(r, site, n) for n, r in recipes.items()], site=site, device=CPU)
    before: list[Event] = list(itertools.islice(pack, 3))  # both have trained two epochs
    pack.close()
    events = _together(recipes, site)
    assert [number for number, _ in before] == [0, 1, 0]
    assert [epoch.number for epoch in events["a"]] == [3]
    for name, one in recipes.items():
        alone = list(fit(one, site=site, workdir=site.storage / f"{name}-alone", device=CPU))
        assert _numbers(events[name][-1]) == _numbers(alone[-1])


KEYS = {
    "learning rate": ({"optim.lr": 1e-2}, True),
    "decoder": ({"model.decoder": "upernet"}, True),
    "loss": ({"loss.name": "dice"}, True),
    "seed": ({"seed": 1}, False),
    "batch": ({"batch_size": 4}, False),
    "crop": ({"data.crop": 32}, False),
    "epochs": ({"epochs": 9}, False),
    "precision": ({"precision": "bf16"}, False),
    "width of the encoder": ({"model.width": 8}, False),
}


@pytest.mark.parametrize(("changes", "shares"), KEYS.values(), ids=KEYS)
def test_which_trainings_can_be_trained_side_by_side(changes, shares, recipe):
    assert (shared_key(recipe) == shared_key(recipe.replace(changes))) is shares


@pytest.mark.parametrize(
    "changes", [{"model.tune": "full"}, {"compile": "auto"}, {"protocol": "cryo-bench"}]
)
def test_which_trainings_train_alone(changes, recipe):
    assert shared_key(recipe.replace(changes)) is None
