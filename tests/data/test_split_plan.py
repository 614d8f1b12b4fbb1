"""Scenes in one heap are divided so that no two parts share a pixel, the same way every time."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.config.split_rule import SplitRule
from cryo_hpo.data.alignment import place_of
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import SceneFiles
from cryo_hpo.data.leakage import SceneIdentity, find_overlaps, find_shared
from cryo_hpo.data.region_split import PARTS
from cryo_hpo.data.split_plan import plan_split
from cryo_hpo.data.splits import identify_scenes, parts_of
from cryo_hpo.errors import DataError

from ..support.fakes import PLACE, write


def _identity(name, *, region=None, digest=None, box=None):
    return SceneIdentity(SceneFiles(name, region, Path(name), Path(name)), digest or name, box)


def _plan(scenes, size=(1024, 1024), count=lambda _: [5, 5], root=Path(), **rule):
    return plan_split(
        "mine", SplitRule(**rule), scenes, root=root, count=count, measure=lambda _: size
    )


def _ids(parts):
    return {part: [item.id for item in items] for part, items in parts.items()}


def test_scenes_are_dealt_by_their_shares():
    scenes = [_identity(f"{i:02}") for i in range(20)]
    parts = _plan(scenes, by="scene", shares=(0.6, 0.2, 0.2))
    assert {part: len(items) for part, items in parts.items()} == {"train": 12, "val": 4, "test": 4}
    assert _ids(parts) == _ids(_plan(scenes, by="scene", shares=(0.6, 0.2, 0.2)))
    assert _ids(parts) != _ids(_plan(scenes, by="scene", shares=(0.6, 0.2, 0.2), seed=1))


def test_related_scenes_stay_together():
    scenes = [_identity(f"{r}_{i}", region=r) for r in "ABCDEF" for i in range(3)]
    scenes += [_identity("copy", digest="A_0"), _identity("G_0", box=(0, 0, 1, 1))]
    scenes += [_identity("G_1", box=(0.5, 0.5, 1.5, 1.5))]
    where = {item.id: part for part, items in _plan(scenes, by="scene").items() for item in items}
    assert all(len({where[f"{r}_{i}"] for i in range(3)}) == 1 for r in "ABCDEF")
    assert where["G_0"] == where["G_1"]


@pytest.mark.parametrize("folds", [3, 5])
@pytest.mark.parametrize("by", ["scene", "place"])
def test_every_scene_is_tested_in_one_fold_and_validated_in_another(by, folds):
    scenes = [_identity(f"{i:02}") for i in range(10)]
    how = {"block_px": 512, "gap_px": 0} if by == "place" else {}
    each = [_ids(_plan(scenes, by=by, folds=folds, fold=f, **how)) for f in range(folds)]
    whole = sorted(name for names in each[0].values() for name in names)
    assert len(whole) == (40 if by == "place" else 10)
    for part in ("val", "test"):
        assert sorted(name for parts in each for name in parts[part]) == whole
    for parts in each:
        assert sorted(name for names in parts.values() for name in names) == whole


def test_folds_need_as_many_groups(tmp_path):
    with pytest.raises(DataError, match="into 5 parts"):
        _plan([_identity(str(i)) for i in range(4)], by="scene", folds=5)


@pytest.mark.parametrize(
    "rule",
    [
        {"by": "scene", "folds": 2},
        {"by": "scene", "folds": 5, "fold": 5},
        {"by": "scene", "fold": 1},
        {"by": "scene", "folds": 5, "shares": (0.6, 0.2, 0.2)},
        {"by": "time", "date": "(x)", "folds": 5},
    ],
)
def test_folds_that_cannot_be_meant(rule):
    with pytest.raises(ValueError, match=r"fold"):
        SplitRule(**rule)


def test_the_rare_class_is_in_every_part():
    scenes = [_identity(f"{i:02}") for i in range(30)]
    rare = {"00", "01", "02", "03", "04", "05"}
    parts = _plan(scenes, by="scene", count=lambda item: [100, 50 * (item.id in rare)])
    assert all(rare & {item.id for item in items} for items in parts.values())


def test_the_latest_dates_are_the_test_part_and_no_date_is_divided():
    dates = ["20190701", "20200703", "20210715", "20220709", "20230630"]
    scenes = [_identity(f"T{tile}_{date}") for date in dates for tile in range(4)]
    parts = _ids(_plan(scenes, by="time", date="_([0-9]{8})$", shares=(0.6, 0.2, 0.2)))
    seen = {part: sorted({name[-8:] for name in names}) for part, names in parts.items()}
    assert seen == {"train": dates[:3], "val": [dates[3]], "test": [dates[4]]}


@given(st.integers(3, 12), st.floats(0.1, 0.8), st.floats(0.1, 0.9))
def test_dates_go_up_from_part_to_part_whatever_the_shares(num, first, rest):
    shares = (first, (1 - first) * rest, (1 - first) * (1 - rest))
    scenes = [_identity(f"{1990 + i}") for i in range(num)]
    parts = _ids(_plan(scenes, by="time", date="^([0-9]{4})$", shares=shares))
    assert all(parts.values())
    assert [*parts["train"], *parts["val"], *parts["test"]] == [s.item.id for s in scenes]


def test_a_list_says_which_scene_is_where(tmp_path):
    (tmp_path / "parts.csv").write_text("id,part\na,train\nb,val\nc,test\nd,train\n")
    scenes = [_identity(name) for name in "abcd"]
    parts = _plan(scenes, by="list", file="parts.csv", root=tmp_path)
    assert _ids(parts) == {"train": ["a", "d"], "val": ["b"], "test": ["c"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,part\na,train\nb,val\nc,test\n", "1 scenes have no line (d)"),
        ("id,part\na,train\nb,val\nc,test\nd,test\ne,val\n", "1 ids have no scene (e)"),
        ("id,part\na,train\nb,validation\n", "parts.csv:3: expected columns id and part"),
        ("id,part\na,train\na,val\n", "parts.csv:3: 'a' stands twice"),
        ("id,part\na,train\nb,val\nc,val\nd,train\n", "no scene in test"),
        ("name;part\na;train\n", "expected columns id and part"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "parts.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        _plan([_identity(n) for n in "abcd"], by="list", file="parts.csv", root=tmp_path)
    assert words in str(caught.value)


@given(st.integers(350, 1000), st.integers(350, 1000), st.sampled_from([64, 90, 128]), st.data())
def test_blocks_of_different_parts_keep_their_distance(height, width, block, data):
    gap = data.draw(st.integers(0, block // 2))
    rule = {"by": "place", "block_px": block, "gap_px": gap, "seed": data.draw(st.integers(0, 9))}
    parts = _plan([_identity("scene")], size=(height, width), **rule)
    covered = np.zeros((height, width), dtype=np.uint8)
    for number, part in enumerate(PARTS, start=1):
        for item in parts[part]:
            assert item.window is not None
            assert not covered[item.window].any()
            covered[item.window] = number
            assert covered[item.window].size > 0
    for a, b in combinations(range(1, len(PARTS) + 1), 2):
        assert _distance(covered == a, covered == b) >= gap


def _distance(a_HW, b_HW):
    """Return the smallest number of rows or columns between two sets, whichever is more."""
    from scipy.ndimage import distance_transform_cdt

    return distance_transform_cdt(~a_HW, metric="chessboard")[b_HW].min() - 1


def test_blocks_without_labels_are_left_out():
    def count(item):
        _, columns = item.window
        return [5, 5] if columns.start < 512 else [0, 0]

    parts = _plan([_identity("s")], count=count, by="place", block_px=128, gap_px=16)
    windows = [item.window for items in parts.values() for item in items]
    assert len(windows) == 32
    assert max(w[1].stop for w in windows) == 512


REFUSED: dict[str, tuple[list[SceneIdentity], dict[str, Any], str]] = {
    "two regions": (
        [_identity(f"{r}{i}", region=r) for r in "AB" for i in range(5)],
        {"by": "scene"},
        "leaves 2 groups",
    ),
    "two dates": (
        [_identity("2020"), _identity("2021")],
        {"by": "time", "date": "(.*)"},
        "2 dates",
    ),
    "no date": ([_identity("x")], {"by": "time", "date": "([0-9]{4})"}, "No date in the id 'x'"),
    "few blocks": ([_identity("s")], {"by": "place"}, "4 blocks of 512 pixels"),
    "one ground": (
        [_identity("a", box=(0, 0, 1, 1)), _identity("b", box=(0, 0, 1, 1))],
        {"by": "place", "block_px": 128},
        "show the same ground",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_divided_is_refused(case):
    scenes, rule, words = REFUSED[case]
    with pytest.raises(DataError) as caught:
        _plan(scenes, **rule)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"by": "scene", "shares": (0.5, 0.2, 0.2)}, "add up to 1"),
        ({"by": "time"}, "go together"),
        ({"by": "scene", "file": "a.csv"}, "go together"),
        ({"by": "time", "date": "[0-9]"}, "one group"),
        ({"by": "place", "block_px": 64, "gap_px": 64}, "at most half of a block"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(rule, words):
    with pytest.raises(ValueError, match=words):
        SplitRule(**rule)


def _card(**more):
    return DatasetCard(
        name="mine",
        root="mine",
        images="images/{id}.tif",
        masks="masks/{id}.tif",
        bands=("B4", "B3"),
        classes=("land", "lake"),
        **more,
    )


def _heap(root, num, size):
    rng = np.random.default_rng(0)
    for i in range(num):
        image = rng.integers(1, 200, (2, size, size), dtype=np.uint16)
        mask = rng.integers(0, 2, (1, size, size), dtype=np.uint8)
        write(root / f"mine/images/s{i:02}.tif", image, georeferenced=True, place=(50 * i, 0))
        write(root / f"mine/masks/s{i:02}.tif", mask, georeferenced=True, place=(50 * i, 0))


@pytest.mark.parametrize(
    ("num", "size", "rule"),
    [
        (10, 32, {"by": "scene"}),
        (1, 400, {"by": "place", "block_px": 64, "gap_px": 16}),
        (2, 256, {"by": "place", "block_px": 64, "gap_px": 8}),
    ],
)
def test_a_heap_opens_as_three_parts_that_share_nothing(tmp_path, num, size, rule):
    _heap(tmp_path, num, size)
    dataset = custom_dataset(_card(split=SplitRule(**rule)))
    parts = parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    identities = {
        part: identify_scenes(dataset, tmp_path, items, cache=tmp_path / "cache")
        for part, items in parts.items()
    }
    assert not find_shared(identities)
    again = parts_of(dataset, tmp_path, cache=tmp_path / "cache")  # from the cache's own memory
    assert again == parts
    for part in PARTS:
        scenes = open_split(dataset, tmp_path, part, cache=tmp_path / "cache")
        assert scenes.ids == tuple(item.id for item in parts[part])
        whole = {item.image: dataset.read(item._replace(window=None)) for item in parts[part]}
        for number, item in enumerate(parts[part]):
            rows, columns = item.window or (slice(None), slice(None))
            expected = whole[item.image]
            assert np.array_equal(scenes.image(number), expected.image_CHW[:, rows, columns])
            assert np.array_equal(scenes.mask(number), expected.mask_HW[rows, columns])


def test_a_window_of_a_block_is_counted_from_the_block(tmp_path):
    _heap(tmp_path, 1, 64)
    dataset = custom_dataset(_card(split=SplitRule(by="place", block_px=32, gap_px=0)))
    (item,) = dataset.index(tmp_path, "train")
    whole = dataset.read(item)
    block = item._replace(window=(slice(16, 48), slice(8, 40)))
    part = dataset.read(block, window=(slice(4, 12), slice(0, 10)))
    assert np.array_equal(part.image_CHW, whole.image_CHW[:, 20:28, 8:18])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masks": "{split}/{id}_mask.tif"}, "holds no {split}"),
        ({"masks": "{split}/{id}_m.tif", "split": {"by": "scene"}}, "given twice"),
        ({}, "divide them: `split: {by: scene}`"),
    ],
)
def test_a_card_says_its_parts_once(changes, words):
    raw = {**_card(split=SplitRule(by="scene")).model_dump(exclude_none=True), **changes}
    if "split" not in changes:
        del raw["split"]
    with pytest.raises(ValueError, match=re.escape(words)):
        DatasetCard(**raw)


@pytest.mark.parametrize("dates", [("31072019", "01082020"), ("Jan2019", "Feb2020"), ("990101",)])
def test_dates_that_do_not_begin_with_their_year_are_refused(dates):
    scenes = [_identity(f"a_{date}") for date in dates]
    with pytest.raises(DataError, match=r"is no date that begins with its year"):
        _plan(scenes, by="time", date=r"_(\w+)$")


def test_dates_sort_by_their_numbers_not_by_their_letters():
    scenes = [_identity(f"a_{date}") for date in ("2019-1-5", "2019-10-05", "2019-2-11")]
    parts = _ids(_plan(scenes, by="time", date=r"_([\d-]+)$"))
    assert parts == {"train": ["a_2019-1-5"], "val": ["a_2019-2-11"], "test": ["a_2019-10-05"]}


def test_a_date_that_an_id_lacks_is_named():
    scenes = [_identity(f"a_{date}") for date in ("2019", "", "2020")]
    with pytest.raises(DataError, match="No date in the id 'a_'"):
        _plan(scenes, by="time", date=r"_(\d{4})?")


def test_scenes_that_touch_keep_the_gap_across_their_common_border():
    def tile(name, west):
        box = (west, 0.0, west + 1024.0, 1024.0)
        return _identity(name)._replace(crs="local", native=box)

    rule = {"by": "place", "block_px": 256, "gap_px": 64}
    apart = _plan([tile("a", 0.0), tile("b", 5000.0)], **rule)
    met = _plan([tile("a", 0.0), tile("b", 1024.0)], **rule)

    def edges(parts):
        return {
            item.window[1].stop for items in parts.values() for item in items if "a@" in item.id
        }

    assert max(edges(apart)) == 1024
    assert max(edges(met)) == 1024 - 32


def _dates(root, num=3, size=128, **second):
    """Write a place on several dates; `second` changes the grid of the second date."""
    rng = np.random.default_rng(0)
    for i in range(num):
        for folder, bands, top in (("images", 2, 200), ("masks", 1, 2)):
            pixels = rng.integers(top > 2, top, (bands, size, size), dtype=np.uint16)
            where = second if second and i == 1 else {"georeferenced": True}
            write(root / f"mine/{folder}/p_2019070{i}.tif", pixels.astype("uint16"), **where)


def test_a_block_of_a_time_series_is_in_one_part_on_all_dates(tmp_path):
    _dates(tmp_path, num=3, size=200)
    rule = SplitRule(by="place", block_px=32, gap_px=8)
    parts = parts_of(custom_dataset(_card(split=rule)), tmp_path, cache=tmp_path / "cache")
    where: dict[str, set[str]] = {}
    for part, items in parts.items():
        for item in items:
            where.setdefault(item.id.rpartition("@")[2], set()).add(part)
    assert len(where) == 36
    assert all(len(of_block) == 1 for of_block in where.values())
    assert set().union(*where.values()) == set(PARTS)
    assert sum(map(len, parts.values())) == 3 * 36
    cuts = {(item.id[-4:], str(item.window)) for items in parts.values() for item in items}
    assert len(cuts) == 36  # every date is cut alike


@pytest.mark.parametrize(
    "second",
    [
        {"georeferenced": True, "place": (0.05, 0)},
        {
            "crs": PLACE["crs"],
            "transform": Affine(10, 0, 500_000, 0, 10, 8_700_000 - 1280),  # from south to north
        },
    ],
)
def test_dates_on_other_grids_cannot_be_cut_alike(tmp_path, second):
    _dates(tmp_path, **second)
    rule = SplitRule(by="place", block_px=32, gap_px=8)
    with pytest.raises(DataError, match=r"on different grids.*to one grid"):
        parts_of(custom_dataset(_card(split=rule)), tmp_path, cache=tmp_path / "cache")


def test_regions_that_are_missing_are_named():
    scenes = [_identity("a", region="A"), _identity("b"), _identity("c")]
    with pytest.raises(DataError, match=r"2 of 3 scenes have none \(first: 'b'\)"):
        _plan(scenes, by="region")


def test_one_place_written_as_180_degrees_east_and_west_is_one_place(tmp_path):
    for name, west in (("east", 180.0), ("west", -180.0)):
        write(tmp_path / f"{name}.tif", np.zeros((1, 8, 8), dtype=np.uint8), **_degrees(west))
    items = [SceneFiles(name, None, tmp_path / f"{name}.tif", Path()) for name in ("east", "west")]
    places = [place_of(item.image) for item in items]
    scenes = [
        SceneIdentity(item, item.id, place.degrees, place.crs, place.native)
        for item, place in zip(items, places, strict=True)
        if place is not None
    ]
    assert [set(pair) for pair in find_overlaps(scenes)] == [{"east", "west"}]


def _degrees(west):
    return {"crs": "EPSG:4326", "transform": Affine(1e-3, 0, west, 0, -1e-3, 70.0)}
