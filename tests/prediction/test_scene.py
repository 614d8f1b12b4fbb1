"""From a finished study to a map of a scene, through the command and through Python."""

from __future__ import annotations

import copy
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.errors import NotGeoreferencedWarning

from cryo_hpo.cli.main import main
from cryo_hpo.data import raster_stream
from cryo_hpo.data.file_templates import quality_of
from cryo_hpo.errors import DataError
from cryo_hpo.monitoring import heartbeat
from cryo_hpo.prediction import scene as prediction_scene
from cryo_hpo.prediction.model import export_model, load_model, open_model
from cryo_hpo.prediction.scene import predict_scene
from cryo_hpo.results.study import load_result
from cryo_hpo.training.build import normalizer, overlap_of, scenes_of

from ..support.fakes import PLACE, fake_scene, write
from ..support.finished import finished_study
from ..support.windows import predict


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("done"))


@pytest.fixture
def site(done, monkeypatch):
    for name in ("data", "storage", "cache", "weights"):
        monkeypatch.setenv(f"CRYO_{name.upper()}", str(getattr(done.site, name)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", done.site.mlflow)


@pytest.fixture
def scene(tmp_path):
    image_CHW, _ = fake_scene(np.random.default_rng(5), size=(70, 93), bands=3, dtype="uint8")
    write(tmp_path / "scene.tif", image_CHW, georeferenced=True)
    return tmp_path / "scene.tif"


def _run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def _layers(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read(), file.profile, file.colormap(1) if file.count == 1 else None


def test_the_map_is_what_evaluation_predicts_at_the_scenes_own_place(done, site, scene, tmp_path):
    said = _run("predict", "done", scene, "--out", tmp_path / "mask.tif", "--members", "best")
    assert said.exit_code == 0, said.output
    assert "lake" in said.output
    mask_1HW, profile, colors = _layers(tmp_path / "mask.tif")
    model = open_model(done.folder)
    recipe = done.study.base.replace({"seed": model.card.seed})
    normalize = normalizer(recipe, scenes_of(recipe, "train", done.site), torch.device("cpu"))
    image_CHW, *_ = _layers(scene)
    with torch.inference_mode():
        (logits_KHW,) = predict(
            model.segmenter,
            normalize(image_CHW)[None],
            size=recipe.data.crop,
            overlap=overlap_of(recipe.data),
            batch=4,
        )
    assert np.array_equal(mask_1HW[0], logits_KHW.argmax(dim=0).numpy())
    assert set(np.unique(mask_1HW)) == {0, 1}, "a model that has learned nothing shows nothing"
    assert (profile["crs"], profile["transform"]) == (PLACE["crs"], PLACE["transform"])
    assert (profile["dtype"], profile["nodata"], profile["tiled"]) == ("uint8", 255, True)
    assert colors is not None
    assert len({colors[0], colors[1], colors[255]}) == 3


def test_probabilities_are_floats_that_add_up(site, scene, tmp_path):
    said = _run(
        "predict", "done", scene, "--out", tmp_path / "m.tif", "--probabilities", tmp_path / "p.tif"
    )
    assert said.exit_code == 0, said.output
    shares_KHW, profile, _ = _layers(tmp_path / "p.tif")
    mask_1HW, *_ = _layers(tmp_path / "m.tif")
    assert (profile["dtype"], profile["count"], profile["crs"]) == ("float32", 2, PLACE["crs"])
    assert np.allclose(shares_KHW.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(shares_KHW.argmax(axis=0), mask_1HW[0])


@pytest.mark.parametrize("how", ["nodata", "nan", "alpha"])
def test_pixels_without_data_stay_without(how, done, tmp_path):
    image_CHW, _ = fake_scene(np.random.default_rng(5), size=(40, 40), bands=3, dtype="uint8")
    image_CHW = np.clip(image_CHW, 1, 255).astype("float32" if how == "nan" else "uint8")
    hole = np.s_[..., 5:20, 30:]
    extra: dict[str, Any] = {}
    if how == "nan":
        image_CHW[hole] = np.nan
    elif how == "nodata":
        image_CHW[hole] = 0
        extra = {"nodata": 0}
    else:
        alpha_1HW = np.full((1, 40, 40), 255, dtype=np.uint8)
        alpha_1HW[hole] = 0
        image_CHW = np.concatenate([image_CHW, alpha_1HW])
    write(tmp_path / "s.tif", image_CHW, georeferenced=True, **extra)
    model = open_model(done.folder, site=done.site)
    counts = predict_scene(
        model, tmp_path / "s.tif", tmp_path / "m.tif", probabilities=tmp_path / "p.tif"
    )
    mask_1HW, *_ = _layers(tmp_path / "m.tif")
    empty_HW = np.zeros((40, 40), dtype=bool)
    empty_HW[hole] = True
    assert np.array_equal(mask_1HW[0] == 255, empty_HW)
    assert np.array_equal(np.isnan(_layers(tmp_path / "p.tif")[0]).all(axis=0), empty_HW)
    assert sum(counts.values()) == (~empty_HW).sum()


def test_a_scene_without_a_place_gives_a_map_without_one(done, tmp_path):
    image_CHW, _ = fake_scene(np.random.default_rng(5), size=(9, 40), bands=3, dtype="uint8")
    write(tmp_path / "s.png", image_CHW)
    predict_scene(open_model(done.folder, site=done.site), tmp_path / "s.png", tmp_path / "m.tif")
    mask_1HW, profile, _ = _layers(tmp_path / "m.tif")
    assert mask_1HW.shape == (1, 9, 40)
    assert profile["crs"] is None


def test_layers_are_found_by_their_names_in_the_file(done, site, scene, tmp_path):
    image_CHW, *_ = _layers(scene)
    write(tmp_path / "named.tif", image_CHW[::-1], georeferenced=True)
    with rasterio.open(tmp_path / "named.tif", "r+") as file:
        file.descriptions = ("B02", "B03", "B04")
    model = open_model(done.folder)
    predict_scene(model, scene, tmp_path / "a.tif")
    predict_scene(model, tmp_path / "named.tif", tmp_path / "b.tif")
    assert np.array_equal(_layers(tmp_path / "a.tif")[0], _layers(tmp_path / "b.tif")[0])


def test_layers_say_where_the_bands_are(done, tmp_path):
    image_CHW, _ = fake_scene(np.random.default_rng(5), size=(30, 30), bands=3, dtype="uint8")
    write(tmp_path / "right.tif", image_CHW)
    write(tmp_path / "mixed.tif", np.concatenate([image_CHW[:1] * 0, image_CHW[::-1]]))
    model = open_model(done.folder, site=done.site)
    predict_scene(model, tmp_path / "right.tif", tmp_path / "a.tif")
    predict_scene(model, tmp_path / "mixed.tif", tmp_path / "b.tif", layers=[4, 3, 2])
    assert np.array_equal(_layers(tmp_path / "a.tif")[0], _layers(tmp_path / "b.tif")[0])


def test_an_exported_model_maps_like_its_study_without_the_data(
    done, site, scene, tmp_path, monkeypatch
):
    said = _run("export", "done", "--out", tmp_path / "model.pt", "--arm", "slow", "--seed", 2)
    assert said.exit_code == 0, said.output
    _run("predict", "done", scene, "--out", tmp_path / "a.tif", "--arm", "slow", "--seed", 2)
    for name in ("DATA", "STORAGE", "CACHE"):
        monkeypatch.setenv(f"CRYO_{name}", str(tmp_path / "elsewhere"))
    said = _run("predict", tmp_path / "model.pt", scene, "--out", tmp_path / "b.tif")
    assert said.exit_code == 0, said.output
    assert np.array_equal(_layers(tmp_path / "a.tif")[0], _layers(tmp_path / "b.tif")[0])
    model = load_model(tmp_path / "model.pt")
    assert (model.card.arm, model.card.seed, model.card.classes) == (
        "slow",
        2,
        ("background", "lake"),
    )
    arm = load_result(done.folder).arm("slow")
    assert model.card.test_miou == arm.seeds[1].test_miou
    image_CHW, *_ = _layers(scene)
    assert np.array_equal(model.predict(image_CHW), _layers(tmp_path / "b.tif")[0][0])
    assert np.allclose(model.probabilities(image_CHW).sum(axis=0), 1, atol=1e-5)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["card"]
    assert (tmp_path / "model.json").read_text().count("weights_sha256") == 1


def test_without_a_wish_it_is_the_winner_and_its_best_seed_on_validation(done):
    model = open_model(done.folder, site=done.site)
    arm = load_result(done.folder).arm("baseline")
    assert model.card.arm == "baseline"
    assert model.card.val_miou == max(seed.val_miou for seed in arm.seeds)


BAD = {
    "two bands": (["scene2.tif"], "3 bands (B4 B3 B2), this file has 2 layers"),
    "layers too many": (["scene.tif", "--layers", "1,2"], "numbered 1 to 3; got 1,2"),
    "layers beyond": (["scene.tif", "--layers", "1,2,9"], "got 1,2,9"),
    "layers as words": (["scene.tif", "--layers", "red"], "is not a list of numbers"),
    "no scene": (["absent.tif"], "no such file"),
    "no raster": (["text.tif"], "readable to its last pixel"),
    "no such arm": (["scene.tif", "--arm", "tuned"], "has the arms baseline, slow, not 'tuned'"),
    "no such seed": (["scene.tif", "--seed", "7"], "seeds 1, 2, not 7"),
    "itself": (["mask.tif"], "files of their own"),
    "class without outlines": (
        ["scene.tif", "--classes", "lakse"],
        "--classes has no effect here: outlines are written to --vector alone. Add --vector",
    ),
    "sizes without outlines": (
        ["scene.tif", "--smallest", "0.1", "--simplify", "20"],
        "--smallest and --simplify have no effect here",
    ),
    "unknown class": (
        ["scene.tif", "--vector", "mask.gpkg", "--classes", "lake,lakse"],
        "There is no class 'lakse' to outline. Classes: background, lake.",
    ),
    "front of an unknown class": (
        ["scene.tif", "--vector", "mask.gpkg", "--classes", "lake|ocean"],
        "There is no class 'ocean' to outline. Classes: background, lake.",
    ),
    "seed and members": (
        ["scene.tif", "--seed", "1", "--members", "best"],
        "give --seed or --members, not both",
    ),
}


def _fail_if_mapped(*_: object) -> None:
    pytest.fail("rows were mapped before the input was refused")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_nothing(case, site, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_CHW, *_ = _layers(scene)
    write(tmp_path / "scene2.tif", image_CHW[:2])
    (tmp_path / "text.tif").write_text("no raster")
    words, message = BAD[case]
    monkeypatch.setattr(prediction_scene, "write_rows", _fail_if_mapped)
    said = _run("predict", "done", *words, "--out", "mask.tif")
    assert said.exit_code in (1, 2)
    assert message in said.output
    assert "Traceback" not in said.output
    assert not list(tmp_path.glob("*mask*"))


def test_a_warning_of_several_scenes_is_printed_once_with_their_number(site, scene, tmp_path):
    image_CHW, *_ = _layers(scene)
    for name in ("a", "b", "c"):
        write(tmp_path / f"scenes/{name}.tif", image_CHW)  # without coordinates
    write(tmp_path / "scenes/d.tif", image_CHW, georeferenced=True)
    said = _run("predict", "done", tmp_path / "scenes", "--out", tmp_path / "maps")
    assert said.exit_code == 0, said.output
    assert said.output.count("the scene has no coordinates") == 2
    assert f"{tmp_path}/scenes/a.tif: the scene has no coordinates, so the map" in said.output
    others = f"{tmp_path}/scenes/b.tif, {tmp_path}/scenes/c.tif"
    assert f"The same of 2 more scenes ({others}): the scene has no coordinates" in said.output


@pytest.mark.parametrize("words", [("--arm", "slow"), ("--seed", 2), ("--members", "best")])
def test_one_exported_model_leaves_nothing_to_choose(words, site, scene, tmp_path):
    exported = tmp_path / "model.pt"
    assert _run("export", "done", "--out", exported).exit_code == 0
    said = _run("predict", exported, scene, "--out", tmp_path / "m.tif", *words)
    assert said.exit_code == 2
    assert f"{words[0]} cannot choose: '{exported}' is one exported model" in said.output
    assert not (tmp_path / "m.tif").exists()


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
@pytest.mark.parametrize("at", ["rows", "conversion"])
def test_a_stopped_prediction_leaves_nothing_beside_its_map(
    at, stop, code, site, scene, tmp_path, monkeypatch
):
    def end(*_, **__):
        os.kill(os.getpid(), stop)

    place = "prediction.scene.write_rows" if at == "rows" else "data.raster_stream._convert"
    monkeypatch.setattr(f"cryo_hpo.{place}", end)
    before = sorted(tmp_path.iterdir())
    outlines = ("--vector", tmp_path / "m.gpkg", "--uncertainty", tmp_path / "u.tif")
    said = _run("predict", "done", scene, "--out", tmp_path / "m.tif", *outlines)
    assert said.exit_code == code
    assert sorted(tmp_path.iterdir()) == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_long_prediction_shows_its_windows_and_the_writing(site, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat.Heartbeat.__init__, "__kwdefaults__", {"quiet_s": 0.0})
    monkeypatch.setattr(heartbeat, "POLL_S", 0.001)

    def slowed(work):
        def slow(*given, **options):
            time.sleep(0.05)
            return work(*given, **options)

        return slow

    monkeypatch.setattr(prediction_scene, "write_rows", slowed(raster_stream.write_rows))
    monkeypatch.setattr(raster_stream, "_convert", slowed(raster_stream._convert))
    said = _run("predict", "done", scene, "--out", tmp_path / "m.tif", "--members", "best")
    assert re.search(r"Still mapping scene.tif \(\d+ s\): window (\d+) of \1\.", said.stderr)
    assert re.search(r"Still mapping scene.tif \(\d+ s\): .*writing m.tif\.", said.stderr)
    assert "Still" not in said.stdout


def test_an_unknown_model_says_what_a_model_is(site, scene, tmp_path):
    for name in ("nothing", "0" * 32):
        said = _run("predict", name, scene, "--out", tmp_path / "m.tif")
        assert said.exit_code == 2
        assert "neither a study" in said.output
    (tmp_path / "bad.pt").write_bytes(b"PK not a checkpoint")
    said = _run("predict", tmp_path / "bad.pt", scene, "--out", tmp_path / "m.tif")
    assert said.exit_code == 1
    assert "plain tensors" in said.output


MEMORY = """
import dataclasses, resource, sys
from cryo_hpo.prediction.model import load_model
from cryo_hpo.prediction.scene import predict_scene
model = load_model(sys.argv[1])
recipe = model.card.recipe
wider = {**recipe, "data": {**recipe["data"], "crop": 128}}
model = dataclasses.replace(model, card=model.card.model_copy(update={"recipe": wider}))
predict_scene(model, sys.argv[2], sys.argv[4])
small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predict_scene(model, sys.argv[3], sys.argv[4])
print(small, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_scene_sixteen_times_as_high_takes_no_more_memory(done, tmp_path):
    export_model(done.folder, tmp_path / "model.pt", site=done.site)
    image_CHW, _ = fake_scene(np.random.default_rng(5), size=(256, 2048), bands=3, dtype="uint8")
    tiled: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    write(tmp_path / "small.tif", image_CHW, **tiled)
    write(tmp_path / "large.tif", np.tile(image_CHW, (1, 16, 1)), **tiled)
    done_ = subprocess.run(
        [
            sys.executable,
            "-c",
            MEMORY,
            *(tmp_path / n for n in ("model.pt", "small.tif", "large.tif", "m.tif")),
        ],
        capture_output=True,
        text=True,
    )
    assert done_.returncode == 0, done_.stderr
    before, after = map(int, done_.stdout.split())
    pixels_kib = 2048 * 256 * 16 * 3 / 1024
    assert after - before < pixels_kib / 2, (
        f"{after - before} KiB more for {pixels_kib:.0f} KiB of scene"
    )
    assert _layers(tmp_path / "m.tif")[0].shape == (1, 4096, 2048)


PAGE = (Path(__file__).parents[2] / "docs" / "predict.md").read_text()
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)).splitlines()


def test_the_commands_of_the_page_run(site, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scenes").mkdir()
    shutil.copy(scene, "scenes")
    assert len(COMMANDS) > 3
    for command in COMMANDS:
        if "--push" in command or ("--onnx" in command and find_spec("onnx") is None):
            continue  # the hub is a stand-in in test_bundle.py; onnx is an extra
        said = _run(*shlex.split(command.replace("quickstart", "done"))[1:])
        assert said.exit_code == 0, said.output


def test_clouds_are_left_out_by_the_quality_layer_beside_the_scene(done, site, tmp_path, caplog):
    model = open_model(done.folder)
    recipe = copy.deepcopy(model.card.recipe)
    recipe["data"]["card"]["quality"] = {
        "file": "{split}/clouds/{id}_SCL.tif",
        "content": "values",
        "ignore": [8],
    }
    model = replace(model, card=model.card.model_copy(update={"recipe": recipe}))
    image_CHW, _ = fake_scene(np.random.default_rng(5), size=(70, 93), bands=3, dtype="uint8")
    scene = tmp_path / "new/images/a.tif"
    write(scene, image_CHW, georeferenced=True)
    bare = predict_scene(model, scene, tmp_path / "bare.tif")
    assert "clouds are mapped. Give it by --quality" in caplog.text
    clouds_HW = np.zeros((70, 93), dtype=np.uint8)
    clouds_HW[10:60, 20:50] = 8
    write(tmp_path / "new/clouds/a_SCL.tif", clouds_HW[None], georeferenced=True)
    rows = []
    counts = predict_scene(
        model, scene, tmp_path / "clear.tif", progress=lambda done, of: rows.append((done, of))
    )
    mask_1HW, *_ = _layers(tmp_path / "clear.tif")
    assert np.array_equal(mask_1HW[0] == 255, clouds_HW == 8)
    assert sum(bare.values()) - sum(counts.values()) == 50 * 30
    assert rows[-1] == (70, 70)
    again = predict_scene(model, scene, tmp_path / "all.tif", quality="none")
    assert again == bare
    with pytest.raises(DataError, match="does not exist"):
        predict_scene(model, scene, tmp_path / "b.tif", quality=tmp_path / "no.tif")


@pytest.mark.parametrize(
    ("images", "layer", "scene"),
    [
        ("{id}_{band}.TIF", "{id}_QA_PIXEL.TIF", "LC08_x_{band}.TIF"),
        (
            "{split}/{id}/{id}_{band}.tif",
            "{split}/{id}/{id}_QA_PIXEL.tif",
            "n/LC08_x/LC08_x_{band}.TIF",
        ),
        ("*/{id}.tif", "*/{id}_QA_PIXEL.tif", "n/LC08_x.tif"),
    ],
)
def test_the_quality_layer_of_a_scene_is_found_by_the_cards_templates(
    images, layer, scene, tmp_path
):
    path = tmp_path / scene
    path.parent.mkdir(parents=True, exist_ok=True)
    assert quality_of(path, images, layer) is None
    beside = path.parent / "LC08_x_QA_PIXEL.TIF"
    beside.touch()
    assert quality_of(path, images, layer) == beside
