from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError

from cryo_hpo import Recipe, SearchSpace, Site, Study
from cryo_hpo.config import PATHS, Search, explain, explain_refusal
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.config.seeds import SharedSeedLimit
from cryo_hpo.errors import SpecError, UnknownName

from ..support.spaces import calm, recipes, studies

BASE: dict[str, Any] = {"data": {"name": "lakes-demo"}}
CARD: dict[str, Any] = {
    "name": "mine",
    "root": "mine",
    "images": "{split}/images/{id}.tif",
    "masks": "{split}/masks/{id}.png",
    "bands": ["B4", "B3"],
    "classes": ["other", "lake"],
}


def _study(**changes: Any) -> Study:
    raw: dict[str, Any] = {"name": "x", "base": BASE, **changes}
    return Study.model_validate_json(json.dumps(raw))


def _problems(model: Any, raw: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(raw))
    return "\n".join(map(str, explain(caught.value, model)))


RECIPE = Recipe.model_validate_json(json.dumps(BASE))


def test_paths_are_what_replace_takes_and_flat_gives() -> None:
    flat = RECIPE.flat()
    assert set(PATHS) <= set(flat)
    assert {"optim.lr", "optim.encoder_lr_scale", "optim.layer_decay", "batch_size"} <= set(PATHS)
    same = {path: value for path in PATHS if (value := flat[path]) is not None}
    assert RECIPE.replace(same) == RECIPE


@given(recipes)
@calm
def test_flat_holds_scalars_alone(recipe: Recipe) -> None:
    assert all(v is None or isinstance(v, str | bool | int | float) for v in recipe.flat().values())


@given(recipes)
@calm
def test_recipes_survive_json_and_pickle_with_their_id(recipe: Recipe) -> None:
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert again.id == recipe.id
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_replace_changes_what_it_names_and_the_id() -> None:
    other = RECIPE.replace({"optim.lr": 1e-3, "batch_size": 16, "model.tune": "frozen"})
    changed = {k for k, v in other.flat().items() if v != RECIPE.flat()[k]}
    assert changed == {"optim.lr", "batch_size", "model.tune"}
    assert len(other.id) == 12
    assert other.id != RECIPE.id


def test_whole_numbers_are_legal_for_floats_and_equal_to_them() -> None:
    assert RECIPE.replace({"optim.lr": 1}).id == RECIPE.replace({"optim.lr": 1.0}).id


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optim.lrr": 1.0}, "No recipe parameter named 'optim.lrr'. Did you mean 'optim.lr'?"),
        ({"optim": 1.0}, "No recipe parameter named 'optim'."),
        ({"data.card": 1}, "No recipe parameter named 'data.card'."),
        ({"optim.lr": 0.0}, "optim.lr: Must be above 0, got 0.0."),
        ({"optim.lr": "fast"}, "optim.lr: Must be a number, got 'fast'."),
        ({"optim.lr": True}, "optim.lr: Must be a number, got true."),
        ({"optim.lr": float("nan")}, "optim.lr: Must be a finite number, got nan."),
        ({"optim.lr": [1]}, "optim.lr: Must be a number, text, true or false, got [1]."),
        ({"batch_size": 8.0}, "batch_size: Must be a whole number, got 8.0."),
        (
            {"model.decoder": "uper"},
            "Must be one of 'unet', 'upernet', got 'uper'. Did you mean 'upernet'?",
        ),
        ({"optim.warmup_epochs": 81}, "optim.warmup_epochs: Must not exceed epochs, got 81 of 80."),
        ({"data.overlap": 128}, "data.overlap: Must be below crop, got 128 with crop 128."),
    ],
)
def test_replace_refuses(params: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        RECIPE.replace(params)
    assert message in str(caught.value)


def test_replace_names_the_path_it_does_not_know() -> None:
    with pytest.raises(UnknownName):
        RECIPE.replace({"x": 1})


def test_study_recipe() -> None:
    study = _study()
    assert study.recipe() is study.base
    assert study.recipe({"optim.lr": 1e-3}, seed=7) == study.base.replace(
        {"optim.lr": 1e-3, "seed": 7}
    )


TUNE = "model.tune"
PACKED: dict[str, tuple[bool, dict[str, Any]]] = {
    "search of a frozen encoder": (True, {"tune": "frozen", "search": {}}),
    "search of a trained encoder": (False, {"search": {}}),
    "one frozen training for each seed": (False, {"tune": "frozen"}),
    "two frozen baselines": (True, {"tune": "frozen", "baselines": {"b": {"optim.lr": 1e-3}}}),
    "one of two is frozen": (False, {"baselines": {"b": {TUNE: "frozen"}}}),
    "the other is trained": (False, {"tune": "frozen", "baselines": {"b": {TUNE: "full"}}}),
    "the space freezes it": (True, {"search": {TUNE: ["full", "frozen"]}}),
    "the space trains it": (False, {"tune": "frozen", "search": {TUNE: ["full", "lora"]}}),
}


@pytest.mark.parametrize("case", PACKED)
def test_a_pack_is_refused_where_no_two_trainings_share_an_encoder(case: str) -> None:
    fits, fields = PACKED[case]
    rate = {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True}}
    raw: dict[str, Any] = {"name": "x", "base": {**BASE, "model": {"encoder": "prithvi-v2-300m"}}}
    raw["base"]["model"]["tune"] = fields.get("tune", "full")
    if "search" in fields:
        choices = {k: {"kind": "choice", "values": v} for k, v in fields["search"].items()}
        raw["search"] = {"space": {"params": {**rate, **choices}}, "trials": 3}
    raw["baselines"] = fields.get("baselines", {})
    for pack in (1, "auto"):
        Study.model_validate_json(json.dumps({**raw, "resources": {"pack": pack}}))
    raw["resources"] = {"pack": 4}
    if fits:
        assert Study.model_validate_json(json.dumps(raw)).resources.pack == 4
    else:
        assert "resources.pack: No two trainings can be packed, got 4" in _problems(Study, raw)


def test_what_a_function_draws_may_be_packed() -> None:
    space = {"file": "space.py", "function": "draw"}
    study = _study(search={"space": space, "trials": 3}, resources={"pack": 2})
    assert study.resources.pack == 2


@given(studies)
@calm
def test_studies_survive_json(study: Study) -> None:
    assert Study.model_validate_json(study.model_dump_json()) == study


SPACE = {"params": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True}}}
SEARCH: dict[str, Any] = {"space": SPACE, "trials": 3}


def _space(name: str, **param: Any) -> dict[str, Any]:
    return {"search": {"space": {"params": {name: param}}, "trials": 3}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base": {"data": {}}},
            "base.data: No dataset is given. Set `name` (a built-in dataset) or `card`",
        ),
        (
            {"base": {"data": {"name": "a", "card": CARD}}},
            "Two datasets are given, `name` and `card`.",
        ),
        ({"name": "My Study"}, "name: Must match the pattern"),
        ({"name": "../x"}, "name: Must match the pattern"),
        ({"seeds": []}, "seeds: Must have at least 1 entries"),
        ({"seeds": [1, 2, 1]}, "seeds: Seeds are repeated: 1 in [1, 2, 1]."),
        (
            {"seeds": [3, 0], "search": SEARCH},
            "seeds[1]: Seed 0 is base.seed, which the search uses",
        ),
        (
            {"resources": {"gpus": 2}},
            "resources.gpus: Must be 'auto' or a number from 0 to 1, got 2.",
        ),
        ({"resources": {"gpus": "all"}}, "resources.gpus: Must be 'auto' or a number from 0 to 1"),
        *(
            (
                {"resources": {"pack": pack}},
                f"resources.pack: Must be 'auto' or a whole number from 1 to 64, got {shown}.",
            )
            for pack, shown in (
                (0, "0"),
                (65, "65"),
                (1.5, "1.5"),
                (True, "true"),
                ("all", "'all'"),
            )
        ),
        ({"baselines": {"tuned": {}}}, "baselines.tuned: 'tuned' cannot name a baseline."),
        ({"baselines": {"a/b": {}}}, "baselines.a/b: 'a/b' cannot name a baseline."),
        ({"baselines": {"a" * 201: {}}}, "cannot name a baseline. Use at most 200"),
        ({"project": "p" * 201}, "project: Must have at most 200 characters"),
        (
            {"baselines": {"paper": {"optim.lr": -1}}},
            "baselines.paper.optim.lr: Must be above 0, got -1.",
        ),
        (
            {"baselines": {"paper": {"epochs": 1}}},
            "baselines.paper.epochs: 'epochs' cannot be varied",
        ),
        (
            {"search": {**SEARCH, "scheduler": {"kind": "asha", "grace_epochs": 81}}},
            "search.scheduler.grace_epochs: The first rung is beyond the end of a training: epoch 81 of 80.",
        ),
        (
            {"search": {**SEARCH, "scheduler": {"kind": "ahsa"}}},
            "search.scheduler.kind: Must be one of 'asha', 'none', got 'ahsa'. Did you mean 'asha'?",
        ),
        (
            {"search": {**SEARCH, "scheduler": {"grace_epochs": 1}}},
            "search.scheduler.kind: Required key is missing. Add one of 'asha', 'none'.",
        ),
        (
            _space("optim.lr", kind="float", low=0, high=1),
            "search.space.params.optim.lr: Must be above 0, got 0.0.",
        ),
        (
            _space("optim.lrr", kind="float", low=1, high=1),
            "params.optim.lrr: No recipe parameter named",
        ),
        (
            _space("batch_size", kind="float", low=2, high=8),
            "params.batch_size: Must be a whole number, got 2.0.",
        ),
        (_space("model.tune", kind="choice", values=["full", "frozn"]), "Did you mean 'frozen'?"),
        (_space("seed", kind="int", low=1, high=2), "params.seed: 'seed' cannot be varied"),
        (
            _space("data.name", kind="choice", values=["a"]),
            "params.data.name: 'data.name' cannot be varied",
        ),
        (
            {"search": {"space": {"file": "x.txt", "function": "f"}, "trials": 1}},
            "search.space.file: Must match",
        ),
        (
            {"search": {"space": {"file": "x.py"}, "trials": 1}},
            "search.space.function: Required key is missing",
        ),
    ],
)
def test_study_laws(changes: dict[str, Any], message: str) -> None:
    assert message in _problems(Study, {"name": "x", "base": BASE, **changes})


def test_base_seed_is_free_without_a_search() -> None:
    assert _study(seeds=[0, 1]).seeds == (0, 1)


def test_both_edges_of_a_range_are_reported() -> None:
    raw = {"name": "x", "base": BASE, **_space("optim.layer_decay", kind="float", low=0, high=2)}
    assert _problems(Study, raw).count("search.space.params.optim.layer_decay: ") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": "images/{id}.tif"},
            "images: The path 'images/{id}.tif' holds no {split}",
        ),
        (
            {"masks": "{split}.png"},
            "masks: A path template holds {id}, '{split}.png' does not.",
        ),
        (
            {"images": "{split}/{id}{x}"},
            "images: The only holes of a path template are {split}, {id} and {band}",
        ),
        ({"classes": ["ice"]}, "classes: A dataset has at least 2 classes, got 1."),
        ({"classes": ["ice", "ice"]}, "classes: Each class is named once, 'ice' is not."),
        ({"bands": []}, "bands: Must have at least 1 entries"),
        ({"bands": ["B4", "B4"]}, "bands: Each band is named once, 'B4' is not."),
        ({"ignore": 1}, "ignore: A mask value is a class or ignored, not both: 1 is class 'lake'."),
        (
            {"ignore": [9, 1]},
            "ignore: A mask value is a class or ignored, not both: 1 is class 'lake'",
        ),
        (
            {"ignore": 0, "values": {"0": "other", "1": "lake"}},
            "ignore: A mask value is a class or",
        ),
        ({"values": {"0": "other"}}, "values: Class 'lake' has no mask value."),
        (
            {"values": {"0": "other", "1": "lak"}},
            "values: Mask value 1 means 'lak', which is no class.",
        ),
        (
            {"values": {"x": "other", "1": "lake"}},
            "values: A mask value is a number or a color such as",
        ),
        (
            {"values": {"#000000": "other", "1": "lake"}},
            "values: Mask values are numbers or colors",
        ),
        ({"nodata": [0, 1, 2]}, "nodata: There is one number per band, got 3 for 2 bands."),
        ({"mean": [1]}, "mean: There is one number per band, got 1 for 2 bands."),
        ({"std": [1, 2, 3]}, "std: There is one number per band, got 3 for 2 bands."),
        ({"std": [1, 0]}, "std: A standard deviation is above 0, got 0."),
        ({"region": "("}, "region: A region is a regular expression, '(' is none"),
        ({"region": f"(a{{{2**64}}})"}, "is none: the repetition number is too large"),
        ({"region": "(a)" * 100}, "region: Must have at most 200 characters"),
        ({"region": "abc"}, "region: A region has exactly one group, 'abc' has 0."),
        ({"region": "(a)(b)"}, "region: A region has exactly one group, '(a)(b)' has 2."),
        (
            {"nan": "ignor"},
            "nan: Must be one of 'refuse', 'ignore', got 'ignor'. Did you mean 'ignore'?",
        ),
        ({"gsd_m": 0}, "gsd_m: Must be above 0, got 0."),
    ],
)
def test_card_laws(changes: dict[str, Any], message: str) -> None:
    assert message in _problems(DatasetCard, {**CARD, **changes})


def test_a_card_with_every_law_kept_is_taken() -> None:
    card = DatasetCard.model_validate_json(
        json.dumps({**CARD, "ignore": 2, "std": [1, 2.5], "mean": [0, -1], "region": "^([A-Z]+)_"})
    )
    assert card.std == (1.0, 2.5)


def test_refusal_is_empty_for_what_is_legal() -> None:
    assert explain_refusal(RECIPE, "optim.lr", 1e-3) == ""


def test_a_space_by_function_keeps_its_type() -> None:
    search = Search.model_validate_json('{"space": {"file": "a.py", "function": "f"}, "trials": 2}')
    assert not isinstance(search.space, SearchSpace)
    assert Search.model_validate_json(search.model_dump_json()) == search


def test_site_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = Site.from_env({"CRYO_DATA": "/d", "CRYO_WEIGHTS": ""})
    assert site.data == Path("/d")
    assert site.weights == tmp_path / "weights"
    assert site.storage == tmp_path / "runs"
    assert site.cache == Path("~/.cache/cryo_hpo").expanduser()
    assert site.mlflow == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert pickle.loads(pickle.dumps(site)) == site


@pytest.mark.parametrize("text", ["$SCRATCH/d", "${SCRATCH}/d", "/s/d"])
def test_variables_in_a_folder_are_expanded(text: str) -> None:
    site = Site.from_env({"CRYO_DATA": text, "CRYO_CACHE": text, "SCRATCH": "/s"})
    assert site.data == site.cache == Path("/s/d")
    assert site.on_node({"CRYO_CACHE": text, "SCRATCH": "/n"}).cache.name == "d"


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"CRYO_DATA: the variable \$SCRATCH in '\$SCRATCH/d' is not"
    ):
        Site.from_env({"CRYO_DATA": "$SCRATCH/d"})
    odd = tmp_path / "$5"
    odd.mkdir()
    assert Site.from_env({"CRYO_DATA": str(odd)}).data == odd


def test_site_takes_mlflow_as_it_is() -> None:
    assert Site.from_env({"MLFLOW_TRACKING_URI": "http://host:5000"}).mlflow == "http://host:5000"
    for uri in ("http://[::1/x", "http://host:many"):
        with pytest.raises(SpecError, match="MLFLOW_TRACKING_URI is no whole URL"):
            Site.from_env({"MLFLOW_TRACKING_URI": uri})


def test_a_card_written_for_version_0_1_is_still_read() -> None:
    card = {
        "name": "own",
        "root": "own",
        "images": "{split}/{id}.tif",
        "masks": "{split}/{id}.png",
        "bands": ["B4"],
        "classes": ["rock", "ice"],
    }
    old = json.dumps({**card, "licence": "CC0"})  # codespell:ignore
    assert DatasetCard.model_validate_json(old).license == "CC0"


def test_a_proof_decides_the_seeds_of_the_comparison():
    base = {"data": {"name": "lakes-demo"}, "epochs": 9, "seed": 4}
    search = {
        "space": {"params": {"batch_size": {"kind": "choice", "values": [1, 2]}}},
        "trials": 2,
    }
    fields = {"name": "p", "base": base, "search": search, "seeds": {"at_most": 6}}
    seeds = {
        proof: Study.model_validate_json(json.dumps({**fields, "proof": proof})).comparison_seeds
        for proof in ("none", "quick", "full")
    }
    assert seeds == {"none": (), "quick": (4,), "full": (1, 2, 3, 5, 6, 7)}
    with pytest.raises(ValidationError, match="without a search is its trainings"):
        Study.model_validate_json(json.dumps({"name": "p", "base": base, "proof": "none"}))


def test_a_study_has_no_total_of_repeats():
    base, space = (
        {"data": {"name": "lakes-demo"}},
        {"batch_size": {"kind": "choice", "values": [1]}},
    )
    search = {"space": {"params": space}, "trials": 2}
    fields = {"name": "p", "base": base, "search": search, "seeds": {"at_most": 16}}
    study = Study.model_validate_json(json.dumps(fields))
    shared = {**fields, "seeds": {"at_most": 16, "total": 36}}
    with pytest.raises(ValidationError, match="shared by the cells of a campaign"):
        Study.model_validate_json(json.dumps(shared))
    with pytest.raises(ValidationError, match="shared by the cells of a campaign"):
        Study(**{**dict(study), "seeds": SharedSeedLimit(at_most=16, total=36)})
