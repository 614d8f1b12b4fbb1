"""The real sets of the shipped cards are built from their public sources, or it is said what goes where."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from numpy.typing import NDArray

from cryo_hpo.cli.main import main
from cryo_hpo.config import load_card
from cryo_hpo.data import real_sets, rock_glaciers
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.data.download import KEPT
from cryo_hpo.data.real_sets import REAL_SETS, RealSet, get_real_set, hash_pixels, zones_of
from cryo_hpo.data.rock_glaciers import Crop
from cryo_hpo.errors import DataError, FetchError

from ..support.fakes import write

SHARED = Path(__file__).parents[3] / "shared/data"


@pytest.mark.parametrize("name", REAL_SETS)
def test_the_hash_is_that_of_the_pixels_of_the_readmes_studies(name: str, tmp_path: Path) -> None:
    folder = SHARED / REAL_SETS[name].root
    if not folder.is_dir():
        pytest.skip("the real sets are not here")
    for path in [*folder.glob("*/*/*.png"), *folder.glob("*/*/*.tif")]:
        if path.parent.name != "masks" or name != "calving-fronts":
            link = tmp_path / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    assert hash_pixels(tmp_path) == REAL_SETS[name].pixels


def test_every_set_lies_where_its_card_looks() -> None:
    for name, real_set in REAL_SETS.items():
        assert load_card(name).root == real_set.root


def test_zones_lie_beside_the_front_and_not_at_its_ends() -> None:
    front_HW = np.zeros((100, 60), dtype=np.bool_)
    front_HW[50, 10:51] = True
    front_HW[40:52, 30] = True  # too steep to have a side
    zones_HW = zones_of(front_HW)
    columns = np.flatnonzero((zones_HW != IGNORE).any(axis=0))
    assert columns.tolist() == [*range(14, 30), *range(31, 47)]
    assert np.flatnonzero(zones_HW[:, 20] == 0).tolist() == list(range(19, 49))
    assert np.flatnonzero(zones_HW[:, 20] == 1).tolist() == list(range(52, 82))
    assert (zones_of(np.zeros((3, 3), dtype=np.bool_)) == IGNORE).all()


def _melt_ponds(folder: Path) -> None:
    kept = folder / "tir_melt_ponds" / KEPT
    kept.mkdir(parents=True)
    for of, number in (("train", 11), ("test", 10)):
        frames = np.arange(number, dtype=np.uint8)[:, None, None] + np.zeros((1, 16, 16), np.uint8)
        np.save(kept / f"{of}_images.npy", frames)
        np.save(kept / f"{of}_masks.npy", frames % 3)


def test_melt_ponds_are_built_into_the_layout_of_their_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _melt_ponds(tmp_path)
    real_set = REAL_SETS["melt-ponds"]
    with pytest.raises(DataError, match="holds other pixels"):  # these are made up
        list(get_real_set(real_set, tmp_path))
    dataset = custom_dataset(load_card("melt-ponds"))
    parts = {part: dataset.index(tmp_path, part) for part in ("train", "val", "test")}
    assert {part: len(items) for part, items in parts.items()} == {"train": 10, "val": 4, "test": 7}
    assert "train02" in {item.id for item in parts["test"]}
    assert int(dataset.read(parts["val"][1]).image_CHW.max()) == 4
    own = real_set._replace(pixels=hash_pixels(tmp_path / real_set.root))
    monkeypatch.setitem(REAL_SETS, "melt-ponds", own)
    done = CliRunner().invoke(main, ["data", "get", "melt-ponds"], env={"CRYO_DATA": str(tmp_path)})
    assert done.exit_code == 0, done.output
    assert "Then: cryo-hpo data check melt-ponds" in done.output


def test_calving_fronts_are_built_from_the_archive(tmp_path: Path) -> None:
    kept = tmp_path / "frontlearning" / KEPT
    kept.mkdir(parents=True)
    image_HW = np.full((100, 60), 90, dtype=np.uint8)
    line_HW = np.full((100, 60), 255, dtype=np.uint8)
    line_HW[50, 5:55] = 0
    stem = "LE07_L1TP_008011_20000323_20170212_01_T1_B2"
    base = "FrontLearning-x/data/greenland_training.dir/data/train"
    with tarfile.open(kept / "FrontLearning.tar.gz", "w:gz") as archive:
        for name, pixels_HW in (
            (f"images/{stem}_Subset", image_HW),
            (f"labels_1px/{stem}_Front", line_HW),
        ):
            write(tmp_path / "one.png", pixels_HW[None])
            content = (tmp_path / "one.png").read_bytes()
            member = tarfile.TarInfo(f"{base}/{name}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="holds other pixels"):
        list(get_real_set(REAL_SETS["calving-fronts"], tmp_path))
    dataset = custom_dataset(load_card("calving-fronts"))
    (item,) = dataset.index(tmp_path, "train")
    assert item.id == f"jakobshavn_{stem}"
    mask_HW = dataset.read(item).mask_HW
    assert ((mask_HW == 0).sum(), (mask_HW == 1).sum()) == (42 * 30, 42 * 30)


def _rock_glaciers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """Make crops as their authors kept them; return the images as they are north-up."""
    kept = folder / "rock_glaciers_s2" / KEPT
    north_up = {}
    crops = [Crop("A_001", 3, 540, 1113), Crop("B_017", 6, 0, 2)]
    for number, crop in enumerate(crops):
        north_up[crop.name] = np.random.default_rng(number).integers(0, 255, (4, 8, 8), np.uint8)
        north_up[crop.name][:, 0, 0] = 255  # one corner of the glacier
        image = north_up[crop.name][..., ::-1] if crop.turn >= 4 else north_up[crop.name]
        image = np.rot90(image, -(crop.turn % 4), axes=(1, 2))
        mask = np.where(image >= 128, 255, 0).astype(np.uint8)
        write(kept / f"glaciar_{crop.number}.png", np.ascontiguousarray(image))
        write(kept / "packed" / f"mask_{crop.number}.png", np.ascontiguousarray(mask))
    (kept / "masks_train.rar").write_bytes(b"Rar!")
    monkeypatch.setattr(rock_glaciers, "read_crops", lambda: iter(crops))
    return north_up


def _as_made(real_set: RealSet) -> RealSet:
    """Return a set whose files are there, with made-up content: nothing is fetched."""
    return real_set._replace(files=())


def test_rock_glaciers_are_turned_north_up_and_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north_up = _rock_glaciers(tmp_path, monkeypatch)
    root = tmp_path / "rock_glaciers_s2"
    (root / KEPT / "packed").rename(root / KEPT / rock_glaciers.UNPACKED)  # by hand
    with pytest.raises(DataError, match="holds other pixels"):
        list(get_real_set(_as_made(REAL_SETS["rock-glaciers"]), tmp_path))
    dataset = custom_dataset(load_card("rock-glaciers"))
    parts = {part: dataset.index(tmp_path, part) for part in ("train", "test")}
    for (item,), name in zip(parts.values(), north_up, strict=True):
        assert item.id == name
        scene = dataset.read(item)
        np.testing.assert_array_equal(scene.image_CHW, north_up[name][:3])
        np.testing.assert_array_equal(scene.mask_HW, north_up[name][0] >= 128)
    with rasterio.open(root / "train/images/A_001.tif") as file:
        assert (file.crs.to_epsg(), file.res) == (32719, (10.0, 10.0))
        assert file.bounds.left == pytest.approx(427108.908 + 5400)
        assert file.bounds.top == pytest.approx(6872078.178 - 11130)


def test_the_table_of_rock_glaciers_has_each_crop_once_and_disjoint_parts() -> None:
    crops = list(rock_glaciers.read_crops())
    assert len({crop.name for crop in crops}) == len(crops) == 449
    counts = {part: sum(crop.part == part for crop in crops) for part in ("train", "val", "test")}
    assert counts == {"train": 290, "val": 59, "test": 100}
    assert {crop.turn for crop in crops} <= set(range(8))


def _program(folder: Path, name: str, lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


def test_the_archive_of_masks_is_unpacked_by_the_first_program_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _rock_glaciers(tmp_path, monkeypatch)
    own = _as_made(REAL_SETS["rock-glaciers"])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DataError, match=r"libarchive-tools.*unpack the archive elsewhere into"):
        list(get_real_set(own, tmp_path))
    _program(tmp_path / "bin", "unrar", 'echo "unexpected end" >&2; exit 3')
    with pytest.raises(DataError, match="unrar cannot unpack it: unexpected end"):
        list(get_real_set(own, tmp_path))
    packed = tmp_path / "rock_glaciers_s2" / KEPT / "packed"
    _program(
        tmp_path / "bin", "bsdtar", f'/bin/cp -r "{packed}" "$4"'
    )  # bsdtar -xf ARCHIVE -C FOLDER
    with pytest.raises(DataError, match="holds other pixels"):
        list(get_real_set(own, tmp_path))
    assert (tmp_path / "rock_glaciers_s2/test/masks/B_017.png").is_file()


def test_without_a_network_the_files_and_their_places_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise FetchError("No network.")

    monkeypatch.setattr(real_sets, "fetch", offline)
    env = {"CRYO_DATA": str(tmp_path)}
    for name in REAL_SETS:
        done = CliRunner().invoke(main, ["data", "get", name], env=env)
        assert done.exit_code == 1
        assert "The layout to arrive at" in done.output
        for file in REAL_SETS[name].files[:8]:
            assert file.url in done.output
            assert str(tmp_path / REAL_SETS[name].root / KEPT / file.name) in done.output
    done = CliRunner().invoke(main, ["data", "get", "rock-glaciers"], env=env)
    assert "and 442 more files, up to glaciar_" in done.output
    done = CliRunner().invoke(main, ["data", "get", "rock-glaciers", "--list"], env=env)
    assert all(f"{file.url}" in done.output for file in REAL_SETS["rock-glaciers"].files)
    assert str(REAL_SETS["rock-glaciers"].files[0].checksum) in done.output
    done = CliRunner().invoke(main, ["data", "get", "melt-ponds", "--list"], env=env)
    assert done.exit_code == 0
