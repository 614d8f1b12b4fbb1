"""What reads well file by file and is still wrong: classes, units, fill values, names, sizes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import Dataset, Scene, SceneHeader, Split
from cryo_hpo.data.facts import SceneFacts, facts_of, read_facts, write_facts
from cryo_hpo.data.layer_names import canonical, contradicts
from cryo_hpo.data.nodata import Fill, equals, is_limit, suspect_fill
from cryo_hpo.data.review import Review, review

from ..support.fakes import fake_folder

PLAIN = SceneFacts(
    id="s",
    counts_K=(80, 20),
    ignored=0,
    low=100.0,
    high=3000.0,
    mean_C=(1000.0, 1100.0, 1200.0),
    dtype="uint16",
    scales=(1.0, 1.0, 1.0),
    offsets=(0.0, 0.0, 0.0),
    names=(),
    gsd_m=10.0,
    fill=None,
    notes=(),
)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return custom_dataset(fake_folder(tmp_path, num=(1, 1, 1)))


def _parts(**changes: dict[str, Any]) -> dict[Split, list[SceneFacts]]:
    parts: dict[Split, list[SceneFacts]] = {}
    for part in ("train", "val", "test"):
        for i in range(4):
            number = 4 * len(parts) + i  # no two scenes are the same
            mean_C = tuple(mean + number for mean in PLAIN.mean_C)
            facts = PLAIN._replace(**{"mean_C": mean_C, **changes.get(part, {})})
            parts.setdefault(part, []).append(facts._replace(id=f"{part}{i}"))
    return parts


def _one(dataset: Dataset, **changes: dict[str, Any]) -> Review:
    return review(dataset, _parts(**changes))


def test_scenes_that_agree_are_not_talked_about(dataset: Dataset) -> None:
    assert _one(dataset) == Review((), ())
    square = {part: {"pixel_m": (10.0, 10.4)} for part in ("train", "val", "test")}
    assert _one(dataset, **square) == Review((), ())


FAR = Fill(-9999.0, 0.2, far=True)
REFUSALS: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "255 is the class": (
        {"val": {"counts_K": (80, 0), "ignored": 20}},
        "val: every labeled pixel is 'background'.*write `values: {0: background, 255: lake}`",
    ),
    "units of parts": (
        {p: {"dtype": "float32", "low": 0.01, "high": 0.3} for p in ("val", "test")},
        r"data types differ, other units: float32 in 8 scenes of val, test \(val0, val1, val2, ...\) up to 0.3; uint16",
    ),
    "units of one type": (
        {"test": {"low": 0.01, "high": 0.3}},
        "train and test differ in their units",
    ),
    "tags": (
        {"test": {"offsets": (-0.1, -0.1, -0.1)}},
        "scale and offset tags differ.*`scale: apply`",
    ),
    "tags of one band": (
        {"test": {"scales": (1.0, 1.0, 0.5)}},
        "scale 1 and offset 0 in 8 scenes; scale 0.5 and offset 0 in 4 scenes",
    ),
    "fill": ({"train": {"fill": FAR}}, "train: 4 of 4 scenes.*-9999, on 20.0 %.*`nodata: -9999`"),
    "order of layers": (
        {"train": {"names": ("B2", "B3", "B4")}},
        r"name their layers B2 B3 B4, the dataset calls them B4 B3 B2. Write `bands: \[B2, B3, B4\]`",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_name_the_remedy(dataset: Dataset, kind: str) -> None:
    changes, words = REFUSALS[kind]
    found = _one(dataset, **changes)
    assert found.refusals
    assert re.search(words, found.refusals[0]), found.refusals


WARNINGS: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "types": ({"val": {"dtype": "int16"}}, "data types differ, perhaps other units"),
    "pixel size": (
        {part: {"gsd_m": 30.0} for part in ("train", "val", "test")},
        "10 m by `gsd_m`, and 30 m",
    ),
    "pixels in degrees": (
        {part: {"gsd_m": 10.0, "pixel_m": (7.5, 13.3333)} for part in ("train", "test")},
        "pixels are 7.5 m wide and 13.33 m high, 10 m is the side of a square of that area.*areas are "
        "right, lengths and distances in meters are up to 33 % off.*gdalwarp",
    ),
    "mean": ({"test": {"mean_C": (1000.0, 1100.0, 2400.0)}}, "test: the mean of band B2 is 2400"),
    "inverted masks": (
        {"test": {"counts_K": (21, 79)}},
        "test: .* 79 % are 'lake', and 20 % in train: near to swapped. Are the masks of test inverted",
    ),
    "masks of training inverted": (
        {"train": {"counts_K": (15, 85)}},
        "train: .*masks of train inv",
    ),
    "a band of zeros": (
        {"val": {"mean_C": (1000.0, 0.0, 1200.0), "low": 0.0}},
        r"val: band B3 is 0 everywhere in 4 scenes \(val0, val1, val2, ...\)",
    ),
    "a band of a fill value": (
        {"test": {"mean_C": (-9999.0, 1100.0, 1200.0), "low": -9999.0}},
        "test: band B4 is -9999 everywhere",
    ),
    "labels on blank images": (
        {part: {"low": 3000.0, "high": 3000.0} for part in ("val", "test")},
        r"val, test: 8 of 12 labeled scenes \(val0, val1, val2, ...\) have one value everywhere \(3000\)",
    ),
    "scenes without labels": (
        {"test": {"counts_K": (0, 0), "ignored": 100}},
        r"test: 4 of 4 scenes \(.*\) have no pixel with both data and a label",
    ),
    "note": ({"val": {"notes": ("the mask is shifted",)}}, "4 scenes .*the mask is shifted"),
}


@pytest.mark.parametrize(
    ("test", "odd"),
    [
        ((45, 55), "about even"),
        ((30, 70), "not far enough apart"),
        ((2, 98), "not mirrored: 20 % here, 98 % there"),
        ((95, 5), "the same class is rare"),
    ],
)
def test_shares_that_merely_differ_are_not_called_inverted(
    dataset: Dataset, test: tuple[int, int], odd: str
) -> None:
    assert not _one(dataset, test={"counts_K": test}).warnings, odd


BRIGHT = ((900.0, 1000.0, 1100.0), (1900.0, 2000.0, 1110.0))  # class 1 is brighter than class 0


@pytest.mark.parametrize(
    ("share", "means", "inverted"),
    [
        (66, BRIGHT[::-1], True),
        (66, BRIGHT, False),
        (66, (BRIGHT[1], (900.0, 2900.0, 1100.0)), False),
        (40, BRIGHT[::-1], False),
        (95, BRIGHT[::-1], False),
    ],
    ids=["reversed", "as in training", "in one band only", "no other share", "far from swapped"],
)
def test_moderate_shares_are_inverted_if_the_pixels_say_so_too(
    dataset: Dataset, share: int, means: Any, inverted: bool
) -> None:
    parts: dict[str, dict[str, Any]] = {
        part: {"counts_K": (62, 38), "class_means_KC": BRIGHT} for part in ("train", "val")
    }
    parts["test"] = {"counts_K": (100 - share, share), "class_means_KC": means}
    assert bool(_one(dataset, **parts).warnings) == inverted


def test_one_scene_that_is_all_lake_is_no_inverted_mask(dataset: Dataset) -> None:
    parts = _parts()
    parts["test"][0] = parts["test"][0]._replace(counts_K=(0, 2000))
    assert not review(dataset, parts).warnings


def test_of_several_classes_the_inverted_pair_is_named(tmp_path: Path) -> None:
    classes = ("rock", "ice", "water")
    three = replace(custom_dataset(fake_folder(tmp_path, num=(1, 1, 1))), classes=classes)
    counts = {"train": (75, 15, 10), "val": (72, 18, 10), "test": (14, 76, 10)}
    (warning,) = _one(three, **{part: {"counts_K": own} for part, own in counts.items()}).warnings
    assert "'ice' and 'rock', 84.4 % are 'ice', and 16.7 % in train" in warning


@pytest.mark.parametrize("kind", WARNINGS)
def test_warnings_name_what_is_odd(dataset: Dataset, kind: str) -> None:
    changes, words = WARNINGS[kind]
    found = _one(dataset, **changes)
    assert found.refusals == ()
    assert any(re.search(words, sentence) for sentence in found.warnings), found.warnings


def test_a_card_that_says_what_tags_do_may_have_tags_that_differ(dataset: Dataset) -> None:
    parts = _parts(test={"offsets": (-0.1, -0.1, -0.1)})
    assert review(replace(dataset, scale="apply"), parts).refusals == ()


def test_a_fill_value_in_few_scenes_that_is_no_convention_is_no_warning(dataset: Dataset) -> None:
    parts = _parts()
    parts["train"][0] = parts["train"][0]._replace(fill=Fill(0.0, 0.2, far=False))
    assert review(dataset, parts) == Review((), ())
    parts["train"] = [s._replace(fill=Fill(0.0, 0.2, far=False)) for s in parts["train"]]
    assert "`nodata: 0`" in review(dataset, parts).warnings[0]


@pytest.mark.parametrize(
    ("names", "bands", "wrong"),
    [
        (("B2", "B3", "B4"), ("B4", "B3", "B2"), True),
        (("B02 blue", "B03", "B04"), ("B2", "B3", "B4"), False),
        (("blue", "green", "red"), ("B4", "B3", "B2"), True),
        (("red", "green", "blue"), ("B4", "B3", "B2"), False),
        (("", "", ""), ("B4", "B3", "B2"), False),
        (("VH", "VV"), ("VV", "VH"), True),
        (("Band 1", "Band 2"), ("B4", "B3"), False),
        (("SR_B4", "SR_B3"), ("RED", "GREEN"), False),  # another sensor's numbers
    ],
)
def test_names_are_compared_within_their_kind(
    names: tuple[str, ...], bands: tuple[str, ...], wrong: bool
) -> None:
    assert contradicts(names, [(band,) for band in bands]) is wrong


def test_names_are_read_as_converters_write_them() -> None:
    assert [canonical(n) for n in ("B04", "b8a", "B11_20m", "Red", "dem (m)", "temperature")] == [
        *("B4", "B8A", "", "RED", "DEM", ""),
    ]


# -- nodata


def _image(fill: float, *, dtype: str = "float32") -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    image_CHW = rng.uniform(1000, 3000, (3, 32, 32)).astype(dtype)
    image_CHW[:, :, :6] = fill
    return image_CHW


NONE_HW = np.zeros((32, 32), dtype=np.bool_)


@pytest.mark.parametrize(("fill", "far"), [(-9999, True), (0, False), (65535, False)])
def test_a_value_that_fills_the_edge_is_suspected(fill: float, far: bool) -> None:
    dtype = "float32" if fill < 0 else "uint16"
    found = suspect_fill(_image(fill, dtype=dtype), NONE_HW)
    assert found == Fill(fill, 6 / 32, far)


def test_the_largest_number_of_16_bits_within_a_scene_is_suspected() -> None:
    image_CHW = _image(2000, dtype="uint16")
    image_CHW[:, 10:20, 10:20] = 65535
    assert suspect_fill(image_CHW, NONE_HW) == Fill(65535, 100 / 1024, far=False, edge=False)
    image_CHW[:, 5, 5] = 40_000  # bright pixels reach up to it: it is one of them
    assert suspect_fill(image_CHW, NONE_HW) is None


def test_what_is_absent_already_or_lies_among_the_others_is_not_suspected() -> None:
    absent_HW = NONE_HW.copy()
    absent_HW[:, :6] = True
    assert suspect_fill(_image(-9999), absent_HW) is None
    assert suspect_fill(_image(2000), NONE_HW) is None
    flat = np.full((3, 32, 32), 7, dtype=np.uint8)
    assert suspect_fill(flat, NONE_HW) is None


def test_nodata_is_found_though_digits_are_lost() -> None:
    lowest = np.full(2, np.finfo(np.float32).min)
    assert equals(lowest, -3.40282e38).all()
    assert equals(np.array([-9999, 1], dtype=np.int16), -9999.0).tolist() == [True, False]
    assert not equals(np.array([0, 255], dtype=np.uint8), -9999.0).any()
    assert equals(np.array([np.nan, 0.0]), np.nan).tolist() == [True, False]


def test_saturated_and_dark_values_are_limits() -> None:
    assert is_limit(255, np.dtype("uint8"))
    assert is_limit(0, np.dtype("float32"))
    assert not is_limit(255, np.dtype("uint16"))
    assert not is_limit(-9999, np.dtype("int16"))


def test_a_class_of_one_block_only_is_told(dataset: Dataset) -> None:
    def warnings(counts: list[tuple[int, int]], part: Split = "test") -> list[str]:
        scenes = _parts()
        few = [PLAIN._replace(id=f"a@r0c{i}", counts_K=row) for i, row in enumerate(counts)]
        return [w for w in review(dataset, {**scenes, part: few}).warnings if "one place" in w]

    (line,) = warnings([(90, 10), (50, 90), (99, 1), (98, 2)])
    name = dataset.classes[1]
    assert line.startswith(
        f"test: 87.4 % of the pixels of class '{name}' lie in 1 of 4 scenes (a@r0c1)"
    )
    assert warnings([(90, 10), (50, 90), (99, 1), (98, 2)], "val")
    assert not warnings([(90, 10), (50, 90), (99, 1), (98, 2)], "train"), "not scored"
    assert not warnings([(90, 30), (50, 90), (99, 1), (98, 2)]), "a second block has a quarter"
    assert not warnings([(90, 10), (50, 90)]), "too few to tell"


def test_facts_survive_the_cache(tmp_path: Path) -> None:
    mask_HW = np.zeros((32, 32), dtype=np.uint8)
    header = SceneHeader("float32", (1.0,) * 3, (0.0,) * 3, ("B4", "B3", "B2"), 10.0, ("odd",))
    facts = facts_of(Scene("a", _image(-9999), mask_HW, header, NONE_HW), num_classes=2)
    write_facts(tmp_path, [facts, PLAIN])
    assert read_facts(tmp_path) == [facts, PLAIN]
    old = [list(row[:-1]) for row in json.loads((tmp_path / "facts.json").read_text())]
    (tmp_path / "facts.json").write_text(json.dumps(old))
    assert read_facts(tmp_path)[1] == PLAIN, "decoded by an earlier version"
    assert facts.counts_K == (1024, 0)
    assert facts.fill == Fill(-9999.0, 6 / 32, far=True)
