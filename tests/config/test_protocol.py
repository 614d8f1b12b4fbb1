"""The protocol switch: Cryo-Bench's values and faults under its name, none of them without."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cryo_hpo.config import (
    DataSpec,
    ModelSpec,
    Recipe,
    Site,
    Study,
    explain,
    explain_refusal,
    load_study,
)
from cryo_hpo.config.protocol import (
    FAMILIES,
    PROTOCOLS,
    Protocol,
    departures,
    family_of,
    published_recipe,
)
from cryo_hpo.data import DATASETS
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.models import ENCODERS, check_size
from cryo_hpo.study.preflight import protocol_lines
from cryo_hpo.training.build import (
    band_plan,
    bands_of,
    freeze,
    parameter_groups,
    published_statistics,
    sampled_ids,
    scenes_of,
    segmenter,
)
from cryo_hpo.training.loop import Epoch, fit

from ..support.fakes import fake_folder, fake_sicd
from ..support.scoring import score_split

CPU = torch.device("cpu")
NOISY = "timm/resnet10t"  # batch norms: moving statistics show which mode it is in


def _recipe(**changes: Any) -> Recipe:
    fields = {"data": {"name": "glid"}, "protocol": "cryo-bench", **changes}
    return Recipe.model_validate_json(json.dumps(fields))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    torch.set_num_threads(1)
    names = ("data", "storage", "cache", "weights")
    return Site.from_env({f"CRYO_{name.upper()}": str(tmp_path / name) for name in names})


@pytest.fixture
def tiny(site: Site) -> dict[str, Any]:
    """The fields of a recipe that trains in a second."""
    card = fake_folder(site.data, num=(4, 2, 2), size=(32, 40))
    return {
        "data": {"card": json.loads(card.model_dump_json()), "crop": 32},
        "model": {"encoder": "unet", "width": 4},
        "batch_size": 2,
        "epochs": 7,
    }


def _noisy(tiny: dict[str, Any], *, tune: str = "frozen", **changes: Any) -> Recipe:
    """A recipe of an encoder with batch norms, whose moving statistics tell its mode."""
    model = {"encoder": NOISY, "weights": "scratch", "tune": tune, "channels": 8, "drop_path": 0.5}
    data = {**tiny["data"], "crop": 64}
    return _recipe(**{**tiny, "model": model, "data": data, "epochs": 1, **changes})


def _fit(recipe: Recipe, site: Site, name: str) -> list[Epoch]:
    return list(fit(recipe, site=site, workdir=site.storage / name, device=CPU))


def test_corrected_is_the_default_and_has_no_fault() -> None:
    assert Recipe(data=DataSpec(name="glid")).protocol == "corrected"
    ours, theirs = PROTOCOLS["corrected"], PROTOCOLS["cryo-bench@1"]
    assert ours == Protocol()
    for field in dataclasses.fields(Protocol):
        assert getattr(ours, field.name) != getattr(theirs, field.name), field.name


def test_the_published_procedure_is_taken_where_nothing_is_given() -> None:
    flat = _recipe(model={"encoder": "galileo-nano"}).flat()
    expected = {
        "epochs": 80,
        "batch_size": 8,
        "optim.lr": 1e-4,
        "optim.weight_decay": 0.05,
        "optim.schedule": "multistep",
        "loss.name": "ce",
        "model.decoder": "upernet",
        "model.channels": 512,
        "model.tune": "frozen",
        "data.augment": "",
        "data.overlap": 0,
        "precision": "fp32",
    }
    assert {path: flat[path] for path in expected} == expected
    assert departures(flat, "galileo-nano", "glid") == []


def test_what_is_given_wins_and_is_told() -> None:
    recipe = _recipe(
        model={"encoder": "galileo-nano", "decoder": "unet", "tune": "full"},
        optim={"lr": 0.01},
        epochs=3,
        data={"name": "glid", "augment": ["hflip"]},
    )
    assert (recipe.model.decoder, recipe.model.channels) == ("unet", 512)
    assert departures(recipe.flat(), "galileo-nano", "glid") == [
        "data.augment: hflip instead of nothing",
        "model.decoder: unet instead of upernet",
        "optim.lr: 0.01 instead of 0.0001",
        "epochs: 3 instead of 80",
    ]


def test_values_made_in_python_are_filled_like_those_of_a_file() -> None:
    made = Recipe(
        data=DataSpec(name="glid"), model=ModelSpec(encoder="unet"), protocol="cryo-bench"
    )
    assert made == _recipe(model={"encoder": "unet"})
    assert Recipe.model_validate_json(made.model_dump_json()) == made
    assert made.replace({"optim.lr": 1e-3}).replace({"optim.lr": 1e-4}) == made


def test_the_unet_learns_whole_with_its_own_decoder_on_whole_tiles() -> None:
    recipe = _recipe()
    assert (recipe.model.decoder, recipe.model.tune, recipe.data.crop) == ("unet", "full", 512)
    assert published_recipe("unet", None)["model.tune"] == "full"


@pytest.mark.parametrize(
    ("encoder", "crop"), [("s12-moco", 224), ("croma-optical", 120), ("galileo-nano", 128)]
)
def test_crops_have_the_size_of_the_encoders_input(encoder: str, crop: int) -> None:
    assert _recipe(model={"encoder": encoder}).data.crop == crop
    assert _recipe(model={"encoder": encoder}, protocol="corrected").data.crop == 128


def test_an_overlap_is_held_against_the_published_crop() -> None:
    with pytest.raises(ValidationError, match="Must be below crop, got 125 with crop 120"):
        _recipe(model={"encoder": "croma-optical"}, data={"name": "glid", "overlap": 125})


@pytest.mark.usefixtures("tiny_encoders")
def test_every_encoder_takes_its_published_size_and_stochastic_depth() -> None:
    for name, card in ENCODERS.items():
        values = FAMILIES.get(family_of(name) or "", {})
        if "data.crop" in values:
            size = values["data.crop"]
            assert isinstance(size, int)
            check_size(name, size)
        assert "model.drop_path" not in values or "drop_path" in card.knobs, name


def test_validation_is_scored_every_fifth_epoch_and_at_the_end() -> None:
    theirs = PROTOCOLS["cryo-bench@3"]
    assert [n for n in range(1, 13) if theirs.scores(n, of=12)] == [5, 10, 12]
    assert [n for n in range(1, 81) if theirs.scores(n, of=80)] == list(range(5, 81, 5))
    assert all(Protocol().scores(n, of=12) for n in range(1, 13))


def _study(rule: dict[str, Any], **recipe: Any) -> Study:
    space = {"params": {"optim.lr": {"kind": "float", "low": 1e-5, "high": 1e-2, "log": True}}}
    search = {"space": space, "trials": 3, "scheduler": {"kind": "asha", **rule}}
    base = _recipe(**recipe).model_dump(mode="json")
    return Study.model_validate_json(json.dumps({"name": "s", "base": base, "search": search}))


def test_rungs_stand_where_the_protocol_scores() -> None:
    assert _study({"grace_epochs": 10}).base.epochs == 80
    with pytest.raises(ValidationError) as caught:
        _study({"grace_epochs": 3})
    (problem,) = explain(caught.value, Study)
    assert str(problem) == (
        "search.scheduler.grace_epochs: There is no validation score at epoch 3: "
        "protocol 'cryo-bench@1' scores every 5 epochs. Use 5 or a multiple, or scheduler: {kind: none}."
    )
    assert _study({"grace_epochs": 3}, protocol="corrected").base.protocol == "corrected"


def test_epochs_between_two_scores_carry_the_last_one(tiny, site) -> None:
    epochs = _fit(_recipe(**tiny), site, "rhythm")
    assert [e.number for e in epochs if e.scored] == [5, 7]
    assert ["val_miou" in e.metrics() for e in epochs] == [e.scored for e in epochs]
    assert len({e.best_val_miou for e in epochs[:4]}) == 1, "the untrained model's, until epoch 5"
    assert all(e.val == epochs[0].val for e in epochs[:4])
    best = [e.best_val_miou for e in epochs]
    assert best == sorted(best)
    assert best[-1] == max(best[0], epochs[4].val.miou, epochs[6].val.miou)


def test_the_untrained_model_takes_part_in_the_selection(tiny, site) -> None:
    ruined = _recipe(**{**tiny, "optim": {"lr": 10.0, "schedule": "constant"}, "epochs": 1})
    torch.manual_seed(ruined.seed)
    untrained = segmenter(ruined, site=site, weights="scratch").state_dict()
    (epoch,) = _fit(ruined, site, "untrained")
    kept = torch.load(site.storage / "untrained" / "best.pt", weights_only=True)["model"]
    assert epoch.best_val_miou > epoch.val.miou
    assert all(torch.equal(kept[name], untrained[name]) for name in untrained)


def test_a_resumed_training_under_the_protocol_equals_one_that_ran_through(tiny, site) -> None:
    recipe, place = _recipe(**tiny), site.storage / "cut"
    through = [e.best_val_miou for e in _fit(recipe, site, "through")]
    found: list[float] = []
    while len(found) < recipe.epochs:  # killed after each epoch
        found.append(next(fit(recipe, site=site, workdir=place, device=CPU)).best_val_miou)
    assert found == through
    states = [
        torch.load(site.storage / n / "last.pt", weights_only=True) for n in ("through", "cut")
    ]
    assert states[0]["val"] == states[1]["val"]
    assert all(torch.equal(v, states[1]["model"][k]) for k, v in states[0]["model"].items())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_frozen_encoder_gets_no_gradient_and_its_mode_is_the_protocols(
    tiny, site, protocol: str
) -> None:
    recipe = _noisy(tiny, protocol=protocol)
    made = segmenter(recipe, site=site, weights="scratch")
    freeze(recipe, made)
    made.train()
    encoder = made.get_submodule("encoder")
    made(torch.randn(2, 3, 64, 64)).mean().backward()
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in made.decoder.parameters())
    assert {g.part for g in parameter_groups(recipe, made)} == {"decoder"}
    assert {m.training for m in encoder.modules()} == {protocol != "corrected"}
    dropped = [m for m in encoder.modules() if "Drop" in type(m).__name__]
    assert dropped, "the encoder has stochastic depth to be silenced"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_moving_statistics_of_a_frozen_encoder_move_under_cryo_bench_alone(
    tiny, site, protocol: str
) -> None:
    recipe = _noisy(tiny, protocol=protocol)
    torch.manual_seed(recipe.seed)
    fresh = segmenter(recipe, site=site, weights="scratch").state_dict()
    _fit(recipe, site, "statistics")
    saved = torch.load(site.storage / "statistics" / "last.pt", weights_only=True)["model"]
    after = {**fresh, **saved}  # what is frozen is not saved
    moved = {k for k in fresh if k.startswith("encoder.") and not torch.equal(fresh[k], after[k])}
    learned = {
        name
        for name, _ in nn.Module.named_parameters(segmenter(recipe, site=site, weights="scratch"))
    }
    assert not moved & learned, "no weight moves"
    assert bool(moved) == (protocol != "corrected")


def test_the_rate_of_every_step_is_that_of_torchs_multistep(tiny, site, monkeypatch) -> None:
    recipe, used = _recipe(**{**tiny, "epochs": 10}), []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        used.append({group["lr"] for group in self.param_groups})
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    _fit(recipe, site, "rates")
    monkeypatch.undo()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    milestones = [int(0.6 * len(used)), int(0.9 * len(used))]
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    assert len(used) == 20
    for rates in used:  # per step, not per epoch
        assert list(rates) == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        optimizer.step()
        theirs.step()


def test_full_tuning_trains_the_encoder(tiny, site) -> None:
    recipe = _noisy(tiny, tune="full", protocol="corrected")
    made = segmenter(recipe, site=site, weights="scratch")
    freeze(recipe, made)
    made.train()
    made(torch.randn(2, 3, 64, 64)).mean().backward()
    assert all(m.training for m in made.modules())
    assert all(p.grad is not None for p in made.parameters())


def test_an_absent_class_lowers_the_score_under_cryo_bench_alone(tiny, site) -> None:
    card = {**tiny["data"]["card"], "classes": ["background", "lake", "ice"]}
    data = {**tiny["data"], "card": card}
    found = {}
    for protocol in PROTOCOLS:
        recipe = _recipe(**{**tiny, "data": data, "protocol": protocol, "epochs": 3})
        _fit(recipe, site, protocol)
        found[protocol] = score_split(
            recipe, "test", site=site, workdir=site.storage / protocol, device=CPU
        )
    ours, theirs = found["corrected"], found["cryo-bench@3"]
    assert theirs.iou[2] == 0 or theirs.confusion_TP[:, 2].any()
    assert theirs.miou == pytest.approx(theirs.iou.mean())
    without = Scores(ours.classes, ours.confusion_TP)
    assert ours == without


@pytest.mark.parametrize(("protocol", "decaying"), [("corrected", False), ("cryo-bench", True)])
def test_norms_and_biases_decay_under_cryo_bench_alone(
    tiny, site, protocol: str, *, decaying: bool
) -> None:
    recipe = _recipe(**{**tiny, "protocol": protocol})
    found = parameter_groups(recipe, segmenter(recipe, site=site, weights="scratch"))
    assert all(group.weight_decay for group in found) is decaying


@pytest.mark.parametrize(
    ("protocol", "thinned"), [("corrected", {"train"}), ("cryo-bench", {"train", "val"})]
)
def test_few_labels_are_the_same_for_every_seed(
    tiny, site, protocol: str, thinned: set[str]
) -> None:
    fake_folder(site.data, num=(20, 6, 4), size=(32, 40))
    data = {**tiny["data"], "label_fraction": 0.25}
    recipe = _recipe(**{**tiny, "data": data, "protocol": protocol})
    train, val, test = (scenes_of(recipe, split, site) for split in ("train", "val", "test"))
    assert len(train) == 5 or protocol == "cryo-bench"
    assert len(test) == 4
    assert (len(val) < 6) == ("val" in thinned)
    again = recipe.replace({"seed": 9, "optim.lr": 1e-2, "epochs": 2})
    assert scenes_of(again, "train", site).ids == train.ids
    assert sampled_ids(recipe, site)["train"] == train.ids
    assert set(sampled_ids(recipe, site)) == thinned
    assert scenes_of(recipe.replace({"data.label_seed": 1}), "train", site).ids != train.ids
    assert len(_fit(again, site, "few")) == 2


def test_a_protocol_without_a_revision_is_the_first() -> None:
    assert _recipe().protocol == "cryo-bench@1"
    assert _recipe(protocol="cryo-bench@1") == _recipe()
    assert _recipe(protocol="cryo-bench@3").id != _recipe().id
    with pytest.raises(ValidationError):
        _recipe(protocol="cryo-bench@2")  # its scores of sea ice are of models trained otherwise


def test_later_revisions_train_their_vit_on_whole_batches() -> None:
    def vit(protocol: str, dataset: str) -> Recipe:
        model = {"encoder": "vit-scratch"}
        return _recipe(model=model, data={"name": dataset}, protocol=protocol)

    assert vit("cryo-bench@1", "glid").model.tune == "frozen"
    assert vit("cryo-bench@3", "glid").model.tune == "full"
    assert vit("cryo-bench@3", "gsdd").model.tune == "frozen"
    small = {"batch_size": 4, "data": {"name": "glid"}}
    flat = [_recipe(**small, protocol=f"cryo-bench@{n}").flat() for n in (1, 3)]
    assert [departures(one, "unet", "glid") for one in flat] == [[], ["batch_size: 4 instead of 8"]]


@pytest.mark.parametrize(
    ("protocol", "encoder", "dataset", "told"),
    [
        ("cryo-bench@3", "galileo-nano", "gld", ["data.name: gld is not in revision 3"]),
        ("cryo-bench@1", "galileo-nano", "glb", ["data.name: glb is not in revision 1"]),
        ("cryo-bench@3", "ramen-base", "glid", ["model.encoder: RAMEN is not in revision 3"]),
        ("cryo-bench@1", "ramen-base", "glid", []),
        ("cryo-bench@3", "prithvi-100m", "glb", []),
    ],
)
def test_what_a_revision_lacks_is_told(
    protocol: str, encoder: str, dataset: str, told: list[str]
) -> None:
    recipe = _recipe(model={"encoder": encoder}, data={"name": dataset}, protocol=protocol)
    assert departures(recipe.flat(), encoder, dataset) == told


@pytest.mark.parametrize("dataset", ["sicd", "shelf-bench"])
def test_other_inputs_of_the_unet_are_told(dataset: str) -> None:
    recipe = _recipe(data={"name": dataset}, protocol="cryo-bench@3")
    (line,) = departures(recipe.flat(), "unet", dataset)
    assert line.startswith("input: ")


def test_the_first_revision_sees_only_the_center_of_sea_ice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenes of 64 pixels stand for those of 5,000, a tile of 32 for that of 512."""
    small = dataclasses.replace(DATASETS["sicd"], size_px=32)
    monkeypatch.setitem(DATASETS, "sicd", small)
    fake_sicd(site.data)
    whole, center = (
        scenes_of(_recipe(data={"name": "sicd"}, protocol=protocol), "test", site)
        for protocol in ("cryo-bench@3", "cryo-bench@1")
    )
    assert set(whole.sizes) == {(64, 64)}
    assert set(center.sizes) == {(32, 32)}
    np.testing.assert_array_equal(center.image(0), whole.image(0)[:, 16:48, 16:48])
    np.testing.assert_array_equal(center.mask(0), whole.mask(0)[16:48, 16:48])
    ours = scenes_of(_recipe(data={"name": "sicd"}, protocol="corrected"), "test", site)
    assert ours.folder == whole.folder, "one decoded copy of whole scenes"


def test_cryo_bench_normalizes_shelves_by_placeholders(site: Site) -> None:
    def scale(protocol: str) -> tuple[float, float]:
        recipe = _recipe(data={"name": "shelf-bench"}, protocol=protocol)
        mean, std = published_statistics(recipe)
        assert mean is not None
        assert std is not None
        return mean[0] / 255, std[0] / 255

    assert scale("cryo-bench@3") == (0.5, 0.5)
    assert scale("corrected") == pytest.approx((0.47684, 0.27794), abs=1e-6)


def test_index_and_terrain_go_in_as_blue_light_under_cryo_bench_alone() -> None:
    def seen(protocol: str) -> list[float | None]:
        recipe = _recipe(model={"encoder": "dofa-base"}, data={"name": "glb"}, protocol=protocol)
        return [band.center_um for band in band_plan(recipe).bands]

    assert seen("cryo-bench@3")[6:9] == [0.49] * 3
    assert len(seen("cryo-bench@3")) == 11
    assert len(seen("corrected")) == 8, "six bands of Sentinel-2 and two of radar"


@pytest.mark.parametrize("path", ["data.label_fraction", "data.label_seed", "protocol"])
def test_a_study_does_not_vary_its_regime(path: str) -> None:
    value = "corrected" if path == "protocol" else 1
    assert f"'{path}' cannot be varied" in explain_refusal(_recipe(), path, value)


@pytest.mark.parametrize(("protocol", "fifth"), [("corrected", "SLOPE"), ("cryo-bench", "B5")])
def test_layers_of_terrain_go_in_as_red_edge_under_cryo_bench_alone(
    protocol: str, fifth: str
) -> None:
    recipe = _recipe(data={"name": "gld"}, protocol=protocol)
    assert bands_of(recipe)[7].name == fifth
    assert len(bands_of(recipe)) == len(DATASETS["gld"].bands)


DOCS = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_study_of_the_page_is_the_published_procedure(tmp_path: Path) -> None:
    text = DOCS.read_text()
    spec = tmp_path / "study.yaml"
    spec.write_text(text.split("```yaml\n")[1].split("```")[0])
    study = load_study(spec)
    assert protocol_lines(study.base) == ["Protocol: cryo-bench@1, as published."]


def test_the_page_tells_every_fault_once() -> None:
    rows = [line.split("|")[1:-1] for line in DOCS.read_text().splitlines()]
    faults = [row for row in rows if row and row[0].strip().isdigit()]
    assert [int(row[0]) for row in faults] == list(range(1, 29))
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in faults)
