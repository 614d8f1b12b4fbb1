"""The trainings of a study map together, one scene or many, with what they are unsure of."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.cli.main import main
from cryo_hpo.errors import DataError
from cryo_hpo.prediction.ensemble import Ensemble, entropy, open_ensemble, spread, with_flips
from cryo_hpo.prediction.model import open_model
from cryo_hpo.prediction.scene import predict_scene
from cryo_hpo.results.study import ConstantMap, load_result, write

from ..support.fakes import fake_scene
from ..support.fakes import write as write_raster
from ..support.finished import SEEDS, Finished, finished_study


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_study(tmp_path_factory.mktemp("done"), epochs=4)


@pytest.fixture(name="image_CHW")
def _image() -> np.ndarray:
    return fake_scene(np.random.default_rng(5), size=(50, 61), bands=3, dtype="uint8")[0]


@pytest.fixture
def scene(tmp_path: Path, image_CHW: np.ndarray) -> Path:
    write_raster(tmp_path / "scene.tif", image_CHW, georeferenced=True)
    return tmp_path / "scene.tif"


@pytest.fixture
def site(done: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "storage", "cache", "weights"):
        monkeypatch.setenv(f"CRYO_{name.upper()}", str(getattr(done.site, name)))


def _run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def _read(path: Path) -> tuple[np.ndarray, tuple[str | None, ...]]:
    with rasterio.open(path) as file:
        return file.read(), file.descriptions


def test_the_map_is_the_mean_of_the_trainings_of_the_arm(
    done: Finished, site: None, scene: Path, image_CHW: np.ndarray, tmp_path: Path
) -> None:
    out, doubt = tmp_path / "m.tif", tmp_path / "u.tif"
    shares = tmp_path / "p.tif"
    said = _run(
        "predict", "done", scene, "--out", out, "--uncertainty", doubt, "--probabilities", shares
    )
    assert said.exit_code == 0, said.output
    assert "the mean of 2 trainings, seeds" in said.output
    each = [
        open_model(done.folder, seed=seed, site=done.site).probabilities(image_CHW)
        for seed in SEEDS
    ]
    mean_KHW = np.mean(each, axis=0)
    (mask_HW,), _ = _read(out)
    assert np.array_equal(mask_HW, mean_KHW.argmax(axis=0))
    assert np.allclose(_read(shares)[0], mean_KHW, atol=1e-6)
    (entropy_HW, spread_HW), names = _read(doubt)
    assert names == ("entropy", "spread")
    assert np.allclose(entropy_HW, entropy(mean_KHW), atol=1e-5)
    chosen = np.take_along_axis(np.array(each), mask_HW[None, None].astype(int), axis=1)
    assert np.allclose(spread_HW, np.abs(chosen[0, 0] - chosen[1, 0]) / 2, atol=1e-5)
    assert spread_HW.max() > 0, "two trainings differ"


@pytest.mark.parametrize("words", [("--seed", "2"), ("--members", "best")])
def test_one_training_maps_alone_on_request(
    words: tuple[str, ...], done: Finished, site: None, scene: Path, tmp_path: Path
) -> None:
    said = _run(
        "predict",
        "done",
        scene,
        "--out",
        tmp_path / "m.tif",
        "--uncertainty",
        tmp_path / "u.tif",
        *words,
    )
    assert said.exit_code == 0, said.output
    assert "one training, seed" in said.output
    assert _read(tmp_path / "u.tif")[1] == ("entropy",), "one training has no spread"
    seed = 2 if words[0] == "--seed" else None
    predict_scene(open_model(done.folder, seed=seed, site=done.site), scene, tmp_path / "own.tif")
    assert np.array_equal(_read(tmp_path / "m.tif")[0], _read(tmp_path / "own.tif")[0])


@pytest.mark.parametrize("constant", [None, 0.0, 0.9999])
def test_a_map_of_what_scores_no_more_than_doing_nothing_comes_with_a_warning(
    constant: float | None,
    done: Finished,
    site: None,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(done.folder, tmp_path / "weak")
    nothing = None if constant is None else ConstantMap(label="background", test_miou=constant)
    result = load_result(folder).model_copy(update={"constant_map": nothing})
    write(result, folder)
    said = _run("predict", folder, scene, "--out", tmp_path / "m.tif", "--seed", "2")
    assert said.exit_code == 0, said.output
    score = 100 * result.arm("baseline").seeds[1].test_miou
    warning = (
        f"Warning: 'baseline' of study 'done', seed 2 (test mIoU {score:.2f}), scored no more than "
        "doing nothing: a map of 'background' everywhere has 99.99."
    )
    assert (warning in said.stderr) == (constant == 0.9999)
    assert "doing nothing" not in said.stdout
    assert ("doing nothing" in said.stderr) == (constant == 0.9999)


def test_a_training_that_diverged_or_is_gone_is_left_out_and_reported(
    done: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "done"
    shutil.copytree(done.folder, folder)
    shutil.rmtree(folder / "confirm" / "baseline-seed1")
    ensemble = open_ensemble(folder, site=done.site)
    assert [model.card.seed for model in ensemble.members] == [2]
    assert "baseline-seed1" in caplog.text
    result = load_result(folder)
    arm = result.arm("baseline")
    lost = tuple(seed.model_copy(update={"diverged": True}) for seed in arm.seeds)
    others = tuple(other for other in result.arms if other.name != "baseline")
    changed = (arm.model_copy(update={"seeds": lost}), *others)
    write(result.model_copy(update={"arms": changed}), folder)
    with pytest.raises(Exception, match="No training of arm 'baseline' can be used"):
        open_ensemble(folder, site=done.site)


def test_mirrored_windows_make_a_map_that_mirrors_with_the_scene(done: Finished) -> None:
    """A window as large as the image: without the mirror images the maps differ."""
    image_CHW, _ = fake_scene(np.random.default_rng(6), size=(16, 16), bands=3, dtype="uint8")
    plain = open_model(done.folder, site=done.site)
    flipped = with_flips(plain)
    for axis in (1, 2):
        turned = flipped.probabilities(np.flip(image_CHW, axis).copy())
        assert np.allclose(np.flip(turned, axis), flipped.probabilities(image_CHW), atol=1e-5)
    turned = plain.probabilities(np.flip(image_CHW, 2).copy())
    assert not np.allclose(np.flip(turned, 2), plain.probabilities(image_CHW), atol=1e-5)
    assert np.allclose(flipped.probabilities(image_CHW).sum(axis=0), 1, atol=1e-5)


@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 1000))
def test_doubt_is_a_share_and_members_that_agree_have_no_spread(
    classes: int, members: int, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(1, classes, 3, 4), scale=5)
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    assert (entropy(probs[0]) >= -1e-6).all()
    assert (entropy(probs[0]) <= 1 + 1e-5).all()
    assert np.allclose(spread(np.repeat(probs, members, axis=0)), 0, atol=1e-6)


def test_an_even_guess_is_all_doubt_and_a_certain_one_none() -> None:
    even = np.full((4, 1, 1), 0.25, dtype=np.float32)
    certain = np.array([1, 0, 0, 0], dtype=np.float32)[:, None, None]
    assert entropy(even) == pytest.approx(1)
    assert entropy(certain) == pytest.approx(0, abs=1e-6)


def test_mapping_in_turns_leaves_torch_as_it_was(done: Finished, image_CHW: np.ndarray) -> None:
    members = open_ensemble(done.folder, site=done.site).members
    parts = [
        member.predict_rows(lambda a, b: image_CHW[:, a:b], length_hw=image_CHW.shape[1:], batch=1)
        for member in members
    ]
    for blocks in zip(*parts, strict=True):
        assert len(blocks) == 2
        assert not torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


def test_an_ensemble_of_one_is_that_model(done: Finished, image_CHW: np.ndarray) -> None:
    model = open_model(done.folder, site=done.site)
    assert np.array_equal(Ensemble((model,)).predict(image_CHW), model.predict(image_CHW))


def test_scenes_of_folders_and_patterns_get_maps_of_their_names(
    done: Finished, site: None, image_CHW: np.ndarray, tmp_path: Path
) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        write_raster(tmp_path / "scenes" / name, image_CHW[:, :20, :20], georeferenced=True)
    (tmp_path / "scenes" / "b.tif").rename(tmp_path / "scenes" / "b.TIF")
    (tmp_path / "scenes" / "notes.txt").write_text("no scene")
    said = _run("predict", "done", tmp_path / "scenes", "--out", tmp_path / "maps")
    assert said.exit_code == 0, said.output
    assert "3/3 " in said.output
    made = sorted(p.name for p in (tmp_path / "maps").iterdir())
    assert made == [f"{name}.{kind}" for name in "abc" for kind in ("qml", "tif")]
    some = _run("predict", "done", f"{tmp_path}/scenes/[ab].*", "--out", tmp_path / "some")
    assert some.exit_code == 0, some.output
    assert sorted(p.name for p in (tmp_path / "some").glob("*.tif")) == ["a.tif", "b.tif"]


def test_a_damaged_scene_among_others_is_skipped_and_ends_with_an_error(
    done: Finished, site: None, image_CHW: np.ndarray, tmp_path: Path
) -> None:
    scenes, maps, areas = tmp_path / "scenes", tmp_path / "maps", tmp_path / "areas.csv"
    for name in ("a.tif", "b.tif", "c.tif"):
        write_raster(scenes / name, image_CHW[:, :20, :20], georeferenced=True)
    (scenes / "b.tif").write_bytes(b"")
    said = _run("predict", "done", scenes, "--out", maps, "--areas", areas)
    assert said.exit_code == 1
    assert "3/3 " in said.output
    assert "1 of 3 scenes could not be mapped" in said.output
    assert "b.tif). The others are mapped." in said.output
    assert sorted(p.stem for p in maps.glob("*.tif")) == ["a", "c"]
    assert {line.split(",")[0] for line in areas.read_text().splitlines()} == {"scene", "a", "c"}


def test_where_no_scene_can_be_mapped_the_rest_is_given_up(
    done: Finished, site: None, image_CHW: np.ndarray, tmp_path: Path
) -> None:
    for name in "abcde":
        write_raster(tmp_path / f"scenes/{name}.tif", image_CHW[:1, :20, :20], georeferenced=True)
    said = _run("predict", "done", tmp_path / "scenes", "--out", tmp_path / "maps")
    assert said.exit_code == 1
    assert [name for name in "abcde" if f"{name}.tif: the model reads" in said.output] == [*"abc"]


@pytest.mark.parametrize(
    ("scenes", "out", "message"),
    [
        (("no*.tif",), "maps", "matches no file"),
        (("empty",), "maps", "has no file that ends in"),
        (("one", "two"), "maps", "Two scenes would have one map 'a.tif'"),
        (("one", "more"), "mask.tif", "is the name of a file. Give a folder"),
        (("one", "more"), "one", "have folders of their own"),
    ],
)
def test_what_would_lose_a_map_is_refused_before_any_is_made(
    scenes: tuple[str, ...],
    out: str,
    message: str,
    site: None,
    image_CHW: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one/a.tif", "two/A.tif", "more/b.tif"):
        write_raster(tmp_path / name, image_CHW[:, :20, :20], georeferenced=True)
    Path("empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    said = _run("predict", "done", *scenes, "--out", out)
    assert said.exit_code == 2
    assert message in said.output
    assert sorted(tmp_path.rglob("*")) == before


def test_one_cause_for_all_trainings_is_said_once(
    done: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = done.site.model_copy(
        update={"data": tmp_path / "elsewhere", "cache": tmp_path / "cache"}
    )
    with pytest.raises(DataError, match=r"which does not exist\. Set CRYO_DATA"):
        open_ensemble(done.folder, site=site)
    assert "Left out" not in caplog.text
