"""A training starts from an exported model: where it left off, or it is refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cryo_hpo.config import Recipe, Site
from cryo_hpo.errors import WeightsError
from cryo_hpo.models import Segmenter
from cryo_hpo.models.weights.hash import hash_weights
from cryo_hpo.prediction.model import export_model, load_model
from cryo_hpo.study.initial_weights import exported_lines, hold_weights, provenance_of_weights
from cryo_hpo.training import checkpoints
from cryo_hpo.training.build import initial_model, normalizer, scenes_of
from cryo_hpo.training.loop import fit
from cryo_hpo.training.validation import Validation
from cryo_hpo.training.warm_start import find_start, start_lines

from ..support.finished import Finished, finished_study

CPU = torch.device("cpu")
NAME = "model.pt"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    torch.set_num_threads(1)
    finished = finished_study(tmp_path_factory.mktemp("done"), epochs=2)
    finished.site.weights.mkdir(exist_ok=True)
    export_model(finished.folder, finished.site.weights / NAME, site=finished.site)
    return finished


def _changed(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with other values at keys such as data__card__classes."""
    raw = recipe.model_dump(mode="json")
    raw["model"]["weights"] = NAME
    for key, value in changes.items():
        *above, last = key.split("__")
        inner = raw
        for part in above:
            inner = inner[part]
        inner[last] = value
    return Recipe.model_validate(raw, strict=False)


def _begin(recipe: Recipe, site: Site) -> Segmenter:
    return initial_model(recipe, site=site, resumes=False, device=CPU)


def test_a_training_starts_with_encoder_and_decoder_of_the_exported_model(done: Finished) -> None:
    exported = load_model(done.site.weights / NAME)
    model = _begin(_changed(done.study.base, seed=77), done.site)
    assert hash_weights(model.state_dict()) == exported.card.weights_sha256
    resumed = initial_model(_changed(done.study.base), site=done.site, resumes=True, device=CPU)
    assert hash_weights(resumed.state_dict()) != exported.card.weights_sha256


def test_its_scores_before_the_first_step_are_those_of_the_exported_model(
    done: Finished, tmp_path: Path
) -> None:
    exported = load_model(done.site.weights / NAME)
    recipe = _changed(done.study.base, seed=77, epochs=1, optim__lr=1e-30)
    train, val = (scenes_of(recipe, split, done.site) for split in ("train", "val"))
    validation = Validation.of(
        recipe, val, metric="miou", normalize=normalizer(recipe, train, CPU), device=CPU
    )
    first = validation.score(_begin(recipe, done.site))
    assert float(first.miou) == exported.card.val_miou
    list(fit(recipe, site=done.site, workdir=tmp_path, device=CPU))
    trained = checkpoints.load(tmp_path / checkpoints.LAST)
    assert trained is not None
    for name, values in exported.segmenter.named_parameters():
        assert torch.allclose(trained["model"][name], values, atol=1e-6), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__encoder": "timm/resnet18"}, ["model.encoder unet", "timm/resnet18"]),
        ({"model__decoder": "upernet"}, ["model.decoder unet", "upernet"]),
        ({"model__channels": 8}, ["model.channels 256", "the study 8"]),
        ({"model__width": 8}, ["of another shape", "Nothing was loaded"]),
        ({"model__missing_bands": "mean"}, ["model.missing_bands zero"]),
        ({"data__normalize": "image"}, ["data.normalize dataset", "the study image"]),
        ({"data__card__bands": ["B2", "B3", "B4"]}, ["bands B4, B3, B2", "dataset has B2, B3, B4"]),
        ({"data__card__classes": ["water", "rock", "ice"]}, ["maps the classes", "silently"]),
        (
            {"model__decoder": "upernet", "data__normalize": "image"},
            ["model.decoder", "data.normalize"],
        ),
    ],
)
def test_a_model_of_another_kind_is_refused(
    done: Finished, changes: dict[str, Any], words: list[str]
) -> None:
    if "model__encoder" in changes:
        changes = {**changes, "model__width": None, "data__crop": 64}
    with pytest.raises(WeightsError) as refused:
        _begin(_changed(done.study.base, **changes), done.site)
    for word in (NAME, *words):
        assert word in str(refused.value)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def _alter(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    next(iter(content["model"].values())).flatten()[0] += 1
    checkpoints.save(file, content)


def _replace_card(file: Path) -> None:
    checkpoints.save(file, {**torch.load(file, weights_only=True), "card": '{"version": 0}'})


def _mark_as_adapted(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    card = json.loads(content["card"])
    card["recipe"]["model"]["tune"] = "lora"
    checkpoints.save(file, {**content, "card": json.dumps(card)})


def _make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "cannot be read as one"),
        (_alter, "not those that its card describes"),
        (_replace_card, "not of this version"),
        (_mark_as_adapted, "export STUDY --merge"),
        (_make_folder, "is a folder"),
        (Path.unlink, "does not exist"),
        (lambda file: file.write_text("no checkpoint"), "cannot be read as one"),
    ],
)
def test_a_damaged_file_is_refused(
    done: Finished, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    shutil.copy(done.site.weights / NAME, tmp_path / NAME)
    damage(tmp_path / NAME)
    recipe = _changed(done.study.base, model__weights=str(tmp_path / NAME))
    with pytest.raises(WeightsError, match=message):
        _begin(recipe, done.site)


def test_the_check_says_which_model_and_which_normalization(done: Finished) -> None:
    study = done.study.model_copy(update={"base": _changed(done.study.base)})
    first, second = exported_lines(study, done.site)
    assert "encoder and decoder start from the exported model" in first
    assert "the same as the exported model's" in second
    start = find_start(NAME, done.site.weights)
    assert start is not None
    mean, std = start.card.mean, start.card.std
    moved = (mean[0] + std[0], *mean[1:])
    _, line = start_lines(start, study.base, moved, std)
    band, *others = start.card.bands
    assert f"{band} {moved[0]:.4g}" in line
    assert not any(f"{other} " in line for other in others)
    assert f"{mean[0]:.6g}" in line


def test_a_study_is_held_to_the_weights_that_it_began_with(done: Finished, tmp_path: Path) -> None:
    name = str(tmp_path / NAME)
    shutil.copy(done.site.weights / NAME, name)
    base = _changed(done.study.base, model__weights=name)
    study, folder = done.study.model_copy(update={"base": base}), tmp_path / "study"
    folder.mkdir()
    held = hold_weights(study, done.site, folder)
    assert provenance_of_weights(folder) == {"initial_weights": held}
    assert hold_weights(study, done.site, folder) == held
    _alter(Path(name))
    with pytest.raises(WeightsError, match="have changed since it began"):
        hold_weights(study, done.site, folder)


def test_a_study_without_files_of_weights_holds_to_none(done: Finished, tmp_path: Path) -> None:
    assert hold_weights(done.study, done.site, tmp_path) == {}
    assert not list(tmp_path.iterdir())
    assert provenance_of_weights(tmp_path) == {}
