"""The generated datasets: made the same twice, learnable by their physics, refused when in doubt."""

from __future__ import annotations

import json
import re
import shutil
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.coords import BoundingBox, disjoint_bounds
from scipy import ndimage

from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, SceneFiles, Split
from cryo_hpo.data.synthetic import fronts, lakes
from cryo_hpo.data.synthetic.generate import CARDS, MANIFEST, SCENES, generate
from cryo_hpo.data.synthetic.terrain import (
    Grain,
    Light,
    basins,
    facing,
    fill_depressions,
    fractal,
    shadowed,
)
from cryo_hpo.errors import DataError, SpecError, UnknownName

COUNTS: dict[Split, int] = {"train": 9, "val": 4, "test": 5}
SIZE = 48
each_dataset = pytest.mark.parametrize("name", CARDS)
seeds = st.integers(0, 2**32 - 1)


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _items(data: Path, name: str) -> dict[Split, list[SceneFiles]]:
    dataset = custom_dataset(CARDS[name])
    return {split: list(dataset.index(data, split)) for split in SCENES}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    for name in CARDS:
        generate(name, made, scenes=COUNTS, size=SIZE)
    return made


# ------------------------------------------------------------------------------ what is written


@each_dataset
def test_same_seed_gives_the_same_bytes(data: Path, tmp_path: Path, name: str) -> None:
    again = generate(name, tmp_path, scenes=COUNTS, size=SIZE)
    assert _bytes(again) == _bytes(data / name)


@each_dataset
def test_another_seed_gives_other_scenes(data: Path, tmp_path: Path, name: str) -> None:
    few: dict[Split, int] = {"train": 1, "val": 1, "test": 1}
    other = _bytes(generate(name, tmp_path, seed=1, scenes=few, size=SIZE))
    first = _bytes(data / name)
    common = {path for path in set(first) & set(other) if path.endswith(".tif")}
    assert common
    assert all(first[path] != other[path] for path in common)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("lakes-demo", r"(train|val|test)/(images|masks)/valley\d{3}_\d{3}\.tif"),
        ("fronts-demo", r"(images|labels)/(train|val|test)/fjord\d{3}_\d{3}\.tif"),
    ],
)
def test_layout_is_the_real_datasets(data: Path, name: str, pattern: str) -> None:
    files = set(_bytes(data / name))
    assert {path for path in files if not re.fullmatch(pattern, path)} == {MANIFEST}
    assert len(files) == 1 + 2 * sum(COUNTS.values())


@each_dataset
def test_a_card_reads_every_scene(data: Path, name: str) -> None:
    dataset = custom_dataset(CARDS[name])
    for split, items in _items(data, name).items():
        assert len(items) == COUNTS[split]
        for item in items:
            scene = dataset.read(item)
            assert scene.image_CHW.shape == (len(dataset.bands), SIZE, SIZE)
            assert scene.image_CHW.dtype == (np.uint16 if name == "lakes-demo" else np.uint8)
            with rasterio.open(item.image) as file:
                assert file.descriptions == CARDS[name].bands
                assert "not real data" in file.tags()["TIFFTAG_IMAGEDESCRIPTION"]


@each_dataset
def test_cards_own_up(name: str) -> None:
    assert "not real data" in CARDS[name].source


@each_dataset
def test_regions_are_disjoint_between_splits(data: Path, name: str) -> None:
    regions = [{item.region for item in items} for items in _items(data, name).values()]
    assert len(set.union(*regions)) == sum(map(len, regions)) == 3 + 1 + 2


@each_dataset
def test_regions_do_not_overlap_on_the_map(data: Path, name: str) -> None:
    epsg = {"lakes-demo": 32645, "fronts-demo": 3413}[name]
    places: dict[str | None, set[BoundingBox]] = {}
    for item in chain(*_items(data, name).values()):
        for path in (item.image, item.mask):
            with rasterio.open(path) as file:
                assert file.crs.to_epsg() == epsg
                assert file.res == (CARDS[name].gsd_m,) * 2
                places.setdefault(item.region, set()).add(file.bounds)
    boxes = [box for region in places.values() for box in region]
    assert len(boxes) == len(places)  # all dates of a region lie on the same ground
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert all(disjoint_bounds(a, b) for a, b in pairs)


@each_dataset
def test_every_split_has_every_class(data: Path, name: str) -> None:
    dataset = custom_dataset(CARDS[name])
    for items in _items(data, name).values():
        masks = np.stack([dataset.read(item).mask_HW for item in items])
        shares = np.bincount(masks[masks != IGNORE], minlength=len(dataset.classes)) / masks.size
        assert shares.min() > 0.005
        if name == "lakes-demo":
            assert 0.02 < shares[1] < 0.25
            assert np.mean(masks == IGNORE) < 0.2


# ----------------------------------------------------------------------- what is left as it was


@each_dataset
def test_a_second_call_rewrites_nothing(data: Path, name: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert generate(name, data, scenes=COUNTS, size=SIZE) == data / name
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": 64}, {"scenes": {"train": 8}}])
def test_other_arguments_never_overwrite(data: Path, change: dict[str, Any]) -> None:
    before = _bytes(data)
    with pytest.raises(DataError, match=r"manifest\.json: .* never overwritten.*Delete"):
        generate("lakes-demo", data, **{"scenes": COUNTS, "size": SIZE, **change})
    assert _bytes(data) == before


def test_a_folder_of_the_users_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lakes-demo").mkdir()
    (tmp_path / "lakes-demo" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"'manifest\.json'; this has none\. Delete"):
        generate("lakes-demo", tmp_path)
    assert list(_bytes(tmp_path)) == ["lakes-demo/thesis.txt"]


def test_a_lost_file_is_named(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "fronts-demo", tmp_path / "fronts-demo")
    (tmp_path / "fronts-demo/labels/val/fjord003_001.tif").unlink()
    with pytest.raises(DataError, match=r"1 of the manifest's 36 files .*val/fjord003_001\.tif"):
        generate("fronts-demo", tmp_path, scenes=COUNTS, size=SIZE)


def test_a_torn_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lakes-demo").mkdir()
    (tmp_path / "lakes-demo" / MANIFEST).write_text('{"name": ')
    with pytest.raises(DataError, match="must be JSON"):
        generate("lakes-demo", tmp_path)


def test_nothing_appears_before_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops_halfway(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", stops_halfway)  # the manifest comes last
    with pytest.raises(KeyboardInterrupt):
        generate("fronts-demo", tmp_path, scenes={"train": 1, "val": 1, "test": 1}, size=32)
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_processes_takes_the_others_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_is_quicker(self: Path, target: Path) -> Path:
        shutil.copytree(data / "fronts-demo", target)
        raise OSError("Directory not empty")

    monkeypatch.setattr(Path, "rename", another_is_quicker)
    made = generate("fronts-demo", tmp_path, scenes=COUNTS, size=SIZE)
    assert _bytes(made) == _bytes(data / "fronts-demo")
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "size must be at least 32, got 31"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"scenes": {"val": 0}}, r"scenes\.val must be at least 1, got 0"),
    ],
)
def test_numbers_that_are_too_small(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        generate("lakes-demo", tmp_path, **arguments)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'lake-demo'.*'lakes-demo'"):
        generate("lake-demo", tmp_path)
    with pytest.raises(UnknownName, match="No split named 'dev'"):
        generate("lakes-demo", tmp_path, scenes={"dev": 3})  # type: ignore[dict-item]


# ------------------------------------------------------------------------------------- the land


@settings(max_examples=20, deadline=None)
@given(seed=seeds, exponent=st.floats(0, 4))
def test_fractals_are_standardized(seed: int, exponent: float) -> None:
    surface = fractal(32, exponent=exponent, rng=np.random.default_rng(seed))
    assert surface.shape == (32, 32)
    assert abs(surface.mean()) < 1e-9
    assert surface.std() == pytest.approx(1)


def test_power_falls_as_the_exponent_says() -> None:
    rng = np.random.default_rng(0)
    window = np.hanning(128)  # the cut is not periodic: without it, its edges would leak
    draws = [fractal(128, exponent=2.5, rng=rng) for _ in range(8)]
    power = np.mean([np.abs(np.fft.fft2(x * np.outer(window, window))) ** 2 for x in draws], axis=0)
    ring = np.rint(128 * np.hypot(*np.meshgrid(*[np.fft.fftfreq(128)] * 2))).astype(int)
    mean = ndimage.mean(power, ring, range(4, 40))
    slope = np.polyfit(np.log(np.arange(4, 40)), np.log(mean), 1)[0]
    assert slope == pytest.approx(-2.5, abs=0.15)


def test_grain_draws_features_out() -> None:
    north = fractal(64, exponent=2, rng=np.random.default_rng(0), grain=Grain(0, 6))
    rough_rows, rough_columns = (np.abs(np.diff(north, axis=axis)).mean() for axis in (0, 1))
    assert rough_columns > 2 * rough_rows


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_filled_ground_drains(seed: int) -> None:
    dem = fractal(24, exponent=2.5, rng=np.random.default_rng(seed))
    filled = fill_depressions(dem)
    lowest = ndimage.minimum_filter(filled, size=3)
    assert (filled >= dem).all()
    assert (lowest <= filled)[1:-1, 1:-1].all()
    raised = filled > dem
    assert not raised[[0, -1]].any()
    assert not raised[:, [0, -1]].any()
    # Filling is the least that drains: doing it again changes nothing.
    assert np.array_equal(fill_depressions(filled), filled)


def test_a_bowl_fills_to_its_notch() -> None:
    dem = np.full((9, 9), 10.0)
    dem[2:7, 2:7] = 3.0
    dem[4, 7:] = 6.0  # the outlet
    number, outlets = basins(dem, depth_m=1, pixels=4)
    assert outlets[1] == 6.0
    assert np.argwhere(number == 1).tolist() == np.argwhere(dem == 3.0).tolist()
    assert not basins(dem, depth_m=4, pixels=4)[0].any()
    assert not basins(dem, depth_m=1, pixels=26)[0].any()


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, 270.0])
def test_a_tower_throws_its_shadow_away_from_the_sun(azimuth: float) -> None:
    dem = np.zeros((21, 21))
    dem[10, 10] = 50.0
    dark = shadowed(dem, Light(azimuth, 45.0), gsd_m=10.0)
    away = {0.0: (1, 0), 90.0: (0, -1), 180.0: (-1, 0), 270.0: (0, 1)}[azimuth]
    expected = {(10 + step * away[0], 10 + step * away[1]) for step in range(1, 5)}
    # 50 m at 45 degrees reach 50 m: the fifth pixel just sees the sun, or just not.
    assert (
        expected
        <= set(map(tuple, np.argwhere(dark)))
        <= expected | {(10 + 5 * away[0], 10 + 5 * away[1])}
    )


def test_slopes_towards_the_sun_are_brightest() -> None:
    rises_east = np.tile(10.0 * np.arange(9), (9, 1))  # 45 degrees at 10 m pixels
    assert facing(rises_east, Light(270, 45), gsd_m=10) == pytest.approx(1)
    assert facing(rises_east, Light(90, 45), gsd_m=10) == pytest.approx(0, abs=1e-12)
    assert facing(np.zeros((9, 9)), Light(33, 45), gsd_m=10) == pytest.approx(0.5**0.5)


# ---------------------------------------------------------------------------- lakes and fronts


@settings(max_examples=5, deadline=None)
@given(seed=seeds, fullness=st.floats(0.5, 1))
def test_lakes_are_flat_and_lie_below_their_outlets(seed: int, fullness: float) -> None:
    place = lakes.valley(SIZE, rng=np.random.default_rng(seed))
    wet, surface = lakes.water_level(place, fullness=fullness)
    filled = fill_depressions(place.dem_HW)
    assert (surface[wet] > place.dem_HW[wet]).all()
    assert (surface[wet] <= filled[wet] + 1e-9).all()
    for number in np.unique(place.lakes_HW[wet]):
        assert np.ptp(surface[wet & (place.lakes_HW == number)]) == 0
    assert np.array_equal(surface[~wet], place.dem_HW[~wet])


def test_lakes_fall_dry_and_fill_up() -> None:
    place = lakes.valley(SIZE, rng=np.random.default_rng(0))
    wet = [lakes.water_level(place, fullness=share)[0] for share in (0.0, 0.6, 1.0)]
    assert not wet[0].any()
    assert wet[1].sum() < wet[2].sum()
    assert (wet[2] | ~wet[1]).all()


def test_dates_of_a_valley_share_its_ground() -> None:
    seen = [mask for _, mask in islice(lakes.scenes(SIZE, rng=np.random.default_rng(3)), 4)]
    for before, after in pairwise(seen):
        clear = (before != IGNORE) & (after != IGNORE)
        assert np.mean(before[clear] == after[clear]) > 0.9


def test_shadow_can_be_as_dark_as_water() -> None:
    dark = 0
    for image, mask in islice(lakes.scenes(96, rng=np.random.default_rng(5)), 6):
        if (mask == 1).any():
            water = np.median(image[:3, mask == 1].mean(axis=0))
            dark += int((image[:3].mean(axis=0)[mask == 0] < water).sum())
    assert dark > 6 * 96 * 96 * 0.02  # a threshold would not do


@pytest.mark.parametrize("looks", [1, 2, 4])
def test_speckle_varies_as_its_looks_say(looks: int) -> None:
    flat = np.full((256, 256), 0.1)
    seen = fronts.speckle(flat, looks=looks, rng=np.random.default_rng(0))
    assert seen.mean() == pytest.approx(0.1, rel=0.02)
    assert seen.std() / seen.mean() == pytest.approx(looks**-0.5, rel=0.03)


def test_the_front_moves_and_the_rock_stays() -> None:
    dates = list(islice(fronts.scenes(64, rng=np.random.default_rng(2)), 3))
    for (_, before), (_, after) in pairwise(dates):
        assert not np.array_equal(before == 2, after == 2)
        rock_turned_wet = (before == 1) & (after >= 2)
        assert not rock_turned_wet.any()


def test_no_beam_no_brightness() -> None:
    for image, zones in islice(fronts.scenes(96, rng=np.random.default_rng(1)), 4):
        assert np.median(image[0][zones == 0]) < np.median(image[0][zones == 3])
        assert np.median(image[0][zones == 3]) < np.median(image[0][zones == 2])
