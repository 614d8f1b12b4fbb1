"""What is related stays together: regions, ground, copies; and a split that keeps them so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.config import DataSpec, Recipe, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.config.variation import NOT_VARIED
from cryo_hpo.data import find_dataset, leakage
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import Dataset, SceneFiles, Split
from cryo_hpo.data.leakage import Box, SceneIdentity, connected_groups, find_overlaps
from cryo_hpo.data.region_split import PARTS, assign, divide, split_by_region
from cryo_hpo.data.splits import identify_scenes, items_of, official_parts
from cryo_hpo.errors import DataError
from cryo_hpo.training.build import scenes_of

from ..support.fakes import fake_caffe, fake_folder, fake_gld, fake_glid, write


def _kin(
    name: str, *, region: str | None = None, digest: str = "", box: Box | None = None
) -> SceneIdentity:
    return SceneIdentity(SceneFiles(name, region, Path(name), Path(name)), digest or name, box)


def test_families_join_by_region_bytes_and_ground() -> None:
    scenes = [
        _kin("a", region="north", digest="1"),
        _kin("b", region="south", digest="1"),  # a copy of a
        _kin("c", region="south", box=(0, 0, 1, 1)),
        _kin("d", box=(0.5, 0.5, 2, 2)),  # overlaps c
        _kin("e", box=(2, 0.5, 3, 2)),  # touches d
        _kin("f", region="west"),
    ]
    assert connected_groups(scenes) == [[0, 1, 2, 3], [4], [5]]


boxes = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 6), st.integers(1, 6)),
    max_size=12,
)


@given(corners=boxes)
def test_overlaps_are_those_of_every_pair(corners: list[tuple[int, int, int, int]]) -> None:
    scenes = [
        _kin(str(i), box=(w, s, w + width, s + height))
        for i, (w, s, width, height) in enumerate(corners)
    ]
    wanted = {
        frozenset((str(i), str(j)))
        for i, (w, s, x, y) in enumerate(corners)
        for j, (v, t, p, q) in enumerate(corners[:i])
        if min(w + x, v + p) > max(w, v) and min(s + y, t + q) > max(s, t)
    }
    found = find_overlaps(scenes)
    assert {frozenset(pair) for pair in found} == wanted
    assert len(found) == len(wanted)


families_of_sizes = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 900), st.integers(0, 900)), min_size=3, max_size=40
)


@given(sizes=families_of_sizes, seed=st.integers(0, 3))
def test_every_part_gets_a_family_and_the_same_seed_the_same_parts(
    sizes: list[tuple[int, int, int]], seed: int
) -> None:
    shares = np.array([0.6, 0.2, 0.2])
    first, second = (assign(np.array(sizes, dtype=float), shares, seed=seed) for _ in range(2))
    assert set(first.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(first, second)


def test_parts_keep_their_shares_of_scenes_and_classes() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.integers(5, 20, 60)
    rare = rng.choice([0.0, 0.0, 0.0, 0.2], 60) * scenes * 1000
    sizes = np.stack([scenes, scenes * 1000 - rare, rare], axis=1)
    shares = np.array([0.7, 0.1, 0.2])
    part = assign(sizes, shares, seed=0)
    held = np.stack([sizes[part == p].sum(axis=0) for p in range(3)]) / sizes.sum(axis=0)
    np.testing.assert_allclose(held, np.repeat(shares[:, None], 3, axis=1), atol=0.02)


# -- whole datasets


def _split(dataset: Dataset, root: Path, seed: int = 0) -> dict[Split, list[str]]:
    data = split_by_region(dataset, seed)
    return {part: [i.id for i in items_of(data, root, part, cache=root / "c")] for part in PARTS}


def test_gld_by_region_shares_nothing_where_the_official_split_does(tmp_path: Path) -> None:
    fake_gld(tmp_path, num=(12, 3, 6))
    gld = find_dataset("gld")
    official = {
        part: identify_scenes(gld, tmp_path, items, cache=tmp_path / "c")
        for part, items in official_parts(gld, tmp_path).items()
    }
    assert leakage.find_shared(official)
    by_id = {k.item.id: k for part in PARTS for k in official[part]}
    regional = _split(gld, tmp_path)
    assert sorted(i for ids in regional.values() for i in ids) == sorted(by_id)
    assert all(regional.values())
    assert not leakage.find_shared({part: [by_id[i] for i in regional[part]] for part in PARTS})


def test_caffe_by_region_deals_out_glaciers(tmp_path: Path) -> None:
    fake_caffe(tmp_path)
    glaciers = [
        {name.split("-")[1].split("_")[0] for name in ids}
        for ids in _split(find_dataset("caffe"), tmp_path).values()
    ]
    assert all(glaciers)
    assert sum(map(len, glaciers)) == len(set.union(*glaciers)) == 4


def test_seed_decides_and_outcome_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_folder(tmp_path, num=(12, 4, 4), georeferenced=False)
    data = custom_dataset(card)
    first = _split(data, tmp_path)
    assert any(_split(data, tmp_path, seed) != first for seed in range(1, 6))

    def refuse(*_: object) -> None:
        raise AssertionError("dealt out again")

    monkeypatch.setattr("cryo_hpo.data.splits.divide", refuse)
    assert _split(data, tmp_path) == first


def test_changed_files_are_dealt_out_again(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(12, 4, 4), georeferenced=False)
    data = custom_dataset(card)
    _split(data, tmp_path)
    item = data.index(tmp_path, "train")[0]
    item.image.unlink()
    item.mask.unlink()
    assert item.id not in {i for ids in _split(data, tmp_path).values() for i in ids}


def test_damaged_memory_only_costs_time(tmp_path: Path) -> None:
    data = custom_dataset(fake_folder(tmp_path, num=(12, 4, 4), georeferenced=False))
    first = _split(data, tmp_path)
    (memo,) = (tmp_path / "c").glob("*.region-0.json")
    memo.write_text("[]")
    assert _split(data, tmp_path) == first


def test_split_is_part_of_the_caches_key(tmp_path: Path) -> None:
    data = custom_dataset(fake_folder(tmp_path, num=(12, 4, 4), georeferenced=False))
    folders = {
        open_split(one, tmp_path, "train", cache=tmp_path / "c").folder
        for one in (data, split_by_region(data, 0), split_by_region(data, 1))
    }
    assert len(folders) == 3


def test_ids_that_every_part_uses_are_told_apart(tmp_path: Path) -> None:
    card = DatasetCard(
        name="numbers",
        root="numbers",
        images="{split}/images/{id}.tif",
        masks="{split}/masks/{id}.png",
        bands=("GREY",),
        classes=("a", "b"),
    )
    rng = np.random.default_rng(0)
    for east, part in enumerate(PARTS):
        for number in range(3):
            image = tmp_path / "numbers" / part / "images" / f"{number}.tif"
            pixels = rng.integers(0, 255, (1, 16, 16)).astype(np.uint8)
            write(image, pixels, georeferenced=True, place=(east * 5, number * 5))
            mask = tmp_path / "numbers" / part / "masks" / f"{number}.png"
            write(mask, (pixels > 99).astype(np.uint8))
    ids = [i for part in _split(custom_dataset(card), tmp_path).values() for i in part]
    assert sorted(ids) == sorted(f"{part}-{n}" for part in PARTS for n in range(3))


def test_study_trains_on_the_split_it_names(tmp_path: Path) -> None:
    fake_gld(tmp_path / "data", num=(6, 3, 3))
    folders = {"CRYO_DATA": tmp_path / "data", "CRYO_CACHE": tmp_path / "cache"}
    site = Site.from_env({name: str(path) for name, path in folders.items()})
    base = Recipe(data=DataSpec(name="gld", crop=32))
    regional = base.replace({"data.split": "region"})
    parts = [scenes_of(regional, part, site) for part in PARTS]
    regions = [set(scenes.regions) for scenes in parts]
    assert sum(map(len, regions)) == len(set.union(*regions)) == 3
    assert sum(map(len, parts)) == 12
    official = [set(scenes_of(base, part, site).regions) for part in PARTS]
    assert set.intersection(*official)


def test_no_study_varies_its_split(tmp_path: Path) -> None:
    for key in ("data.split", "data.split_seed"):
        assert key in NOT_VARIED


def test_scenes_of_no_known_place_are_refused(tmp_path: Path) -> None:
    fake_glid(tmp_path)
    with pytest.raises(DataError, match=r"17 of 17 scenes have neither .*official"):
        _split(find_dataset("glid"), tmp_path)


def test_fewer_than_three_families_are_refused() -> None:
    data = split_by_region(find_dataset("gld"), 0)
    kin: dict[Split, list[SceneIdentity]] = {
        "train": [_kin("a", region="x")],
        "val": [_kin("b", region="x")],
        "test": [_kin("c", region="y")],
    }
    with pytest.raises(DataError, match=r"'gld' by region: it has 2 .*official"):
        divide(data, kin, dict.fromkeys("abc", (1, 1)))
