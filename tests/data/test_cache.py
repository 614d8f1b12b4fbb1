"""The decoded copy: built once, by one process, for exactly the content it was built from."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryo_hpo.data import cache as cache_module
from cryo_hpo.data import checksums
from cryo_hpo.data import splits as parts_module
from cryo_hpo.data.cache import Scenes, open_split
from cryo_hpo.data.checksums import INDEX
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Dataset, Scene, SceneFiles
from cryo_hpo.data.decode import IMAGES, MASKS, Moments
from cryo_hpo.data.facts import FACTS
from cryo_hpo.errors import DataError, StorageError

from ..support.fakes import fake_folder, fake_scene, write


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return custom_dataset(fake_folder(tmp_path, num=(4, 2, 2)))


def _open(data: Dataset, tmp_path: Path) -> Scenes:
    return open_split(data, tmp_path, "train", cache=tmp_path / "cache")


def _built(tmp_path: Path) -> list[Path]:
    return [path.parent for path in (tmp_path / "cache").glob(f"*/{INDEX}")]


# -- whose copy it is


def test_known_files_are_not_hashed_again(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _open(data, tmp_path)

    def refuse(files: object) -> str:
        raise AssertionError(f"{files} was hashed again")

    monkeypatch.setattr(parts_module, "_content_sha256", refuse)
    assert _open(data, tmp_path).fingerprint == first.fingerprint


def test_changed_pixel_makes_another_copy(data: Dataset, tmp_path: Path) -> None:
    before = _open(data, tmp_path)
    item = data.index(tmp_path, "train")[0]
    image_CHW = data.read(item).image_CHW
    image_CHW[0, 0, 0] ^= 1
    write(item.image, image_CHW)
    after = _open(data, tmp_path)
    assert after.fingerprint != before.fingerprint
    assert (after.image(0) != before.image(0)).sum() == 1
    assert len(_built(tmp_path)) == 2


def test_moved_or_touched_files_keep_their_copy(data: Dataset, tmp_path: Path) -> None:
    before = _open(data, tmp_path)
    shutil.copytree(tmp_path / "fake", tmp_path / "moved" / "fake")
    os.utime(data.index(tmp_path, "train")[0].image, (1, 1))
    for root in (tmp_path, tmp_path / "moved"):
        after = open_split(data, root, "train", cache=tmp_path / "cache")
        assert (after.folder, after.fingerprint) == (before.folder, before.fingerprint)


@pytest.mark.parametrize("change", ["name", "classes", "bands", "rules"])
def test_other_facts_make_another_copy(data: Dataset, tmp_path: Path, change: str) -> None:
    facts: dict[str, Any] = {
        "name": "other",
        "classes": (*data.classes, "third"),
        "bands": data.bands[::-1],
        "rules": "ignore=7",
    }
    other = dataclasses.replace(data, **{change: facts[change]})
    first, second = _open(data, tmp_path), _open(other, tmp_path)
    assert first.folder != second.folder
    assert first.fingerprint == second.fingerprint


# -- what is in it


def test_scenes_of_several_sizes_and_types_share_one_type(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(3, 0, 0))
    data = custom_dataset(card)
    items = data.index(tmp_path, "train")
    rng = np.random.default_rng(0)
    shapes: list[tuple[tuple[int, int], str]] = [((9, 70), "uint16"), ((33, 8), "float32")]
    for item, (size, dtype) in zip(items[1:], shapes, strict=True):
        image_CHW, mask_HW = fake_scene(rng, size=size, bands=3, dtype=dtype)
        write(item.image, image_CHW)
        write(item.mask, mask_HW[None])
    scenes = _open(data, tmp_path)
    assert scenes.sizes == ((48, 64), (9, 70), (33, 8))
    assert scenes.dtype == np.float32
    for number, item in enumerate(items):
        np.testing.assert_array_equal(scenes.image(number), data.read(item).image_CHW)
        np.testing.assert_array_equal(scenes.mask(number), data.read(item).mask_HW)
    assert {path.name for path in scenes.folder.iterdir()} == {"images.bin", MASKS, INDEX, FACTS}


parts = st.lists(
    hnp.arrays(np.int16, st.tuples(st.just(2), st.integers(1, 5), st.integers(1, 5))), max_size=5
)


@given(images=parts)
def test_moments_of_parts_are_those_of_the_whole(images: list[np.ndarray[Any, Any]]) -> None:
    moments = Moments(0, *np.zeros((2, 2)))
    for image_CHW in images:
        moments |= Moments.of(image_CHW, image_CHW[0] >= 0)
    kept = [image_CHW[:, image_CHW[0] >= 0] for image_CHW in images]
    whole = np.concatenate(kept, axis=1) if kept else np.zeros((2, 0))
    assert moments.pixels == whole.shape[1]
    if moments.pixels:
        np.testing.assert_allclose(moments.mean_C, whole.mean(axis=1), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(moments.std, whole.std(axis=1), rtol=1e-9, atol=1e-9)


def test_pickles_as_a_path_and_maps_again(data: Dataset, tmp_path: Path) -> None:
    scenes = _open(data, tmp_path)
    pickled = pickle.dumps(scenes)
    again = pickle.loads(pickled)
    assert len(pickled) < 500
    np.testing.assert_array_equal(again.image(1), scenes.image(1))
    assert again.mean == scenes.mean


def test_pixels_are_views_that_nobody_can_write(data: Dataset, tmp_path: Path) -> None:
    scenes = _open(data, tmp_path)
    assert np.shares_memory(scenes.image(0), scenes.image(0))
    with pytest.raises(ValueError, match="read-only"):
        scenes.image(0)[:] = 0


def test_split_without_labels_is_refused_and_leaves_nothing(data: Dataset, tmp_path: Path) -> None:
    for item in data.index(tmp_path, "train"):
        write(item.mask, np.full((1, 48, 64), IGNORE, dtype=np.uint8))
    with pytest.raises(DataError, match="all 4 scenes of 'fake' here are ignored everywhere"):
        _open(data, tmp_path)
    assert not _built(tmp_path)
    assert not list((tmp_path / "cache").glob("*.part"))


# -- storage


def test_two_processes_build_once(data: Dataset, tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(4, 2, 2))
    code = f"""
import dataclasses, time
from pathlib import Path
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset

data = custom_dataset(DatasetCard.model_validate_json({card.model_dump_json()!r}))

def read(item):
    with open("reads.txt", "a") as log:
        log.write(item.id + "\\n")
    time.sleep(0.2)
    return data.read(item)

data_root = Path({str(tmp_path)!r})
open_split(dataclasses.replace(data, read=read), data_root, "train", cache=data_root / "cache")
"""
    repo = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": repo}
    run = [sys.executable, "-c", code]
    both = [subprocess.Popen(run, cwd=tmp_path, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    reads = (tmp_path / "reads.txt").read_text().split()
    assert sorted(reads) == [item.id for item in data.index(tmp_path, "train")]


def test_what_a_killed_process_left_is_built_again(data: Dataset, tmp_path: Path) -> None:
    folder = _open(data, tmp_path).folder
    folder.rename(folder.with_name(f".{folder.name}.part"))
    (folder.with_name(f".{folder.name}.part") / "images.bin").write_bytes(b"half of it")
    assert _open(data, tmp_path).class_counts
    assert _built(tmp_path) == [folder]


def _zero_half(path: Path) -> None:
    """Zero the second half of a file, as a bad disk does: size and dates stay."""
    content, before = path.read_bytes(), path.stat()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def _shorten(path: Path) -> None:
    path.write_bytes(b"short")


@pytest.mark.parametrize("damage", [_zero_half, _flip_bit, _shorten, Path.unlink])
@pytest.mark.parametrize("name", [IMAGES, MASKS, INDEX])
def test_a_damaged_copy_is_reported_and_built_again(
    data: Dataset, tmp_path: Path, caplog: Any, damage: Callable[[Path], None], name: str
) -> None:
    first = _open(data, tmp_path)
    pixels = [first.image(n).copy() for n in range(len(first))]
    damage(first.folder / name)
    cache_module._sound.clear()  # as in the next process
    again = _open(data, tmp_path)
    for number, image_CHW in enumerate(pixels):
        assert np.array_equal(again.image(number), image_CHW)
    assert (again.class_counts, again.mean) == (first.class_counts, first.mean)
    assert f"'{first.folder}': the decoded scenes are damaged" in caplog.text


@pytest.mark.parametrize("change", [{"sizes": 3}, {"dtype": "none such"}, {"surprise": [1]}])
def test_a_damaged_index_is_refused_by_a_worker(
    data: Dataset, tmp_path: Path, change: dict[str, Any]
) -> None:
    """A worker gets the folder from the process that opened it, and does not build."""
    scenes = _open(data, tmp_path)
    facts = json.loads((scenes.folder / INDEX).read_text())
    (scenes.folder / INDEX).write_text(json.dumps(facts | change))
    with pytest.raises(StorageError, match="Delete this folder"):
        pickle.loads(pickle.dumps(scenes))


def test_a_large_copy_is_compared_in_part(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many blocks as the limit holds, others at each opening: half a file of zeros is found."""
    monkeypatch.setattr(checksums, "BLOCK", 512)
    monkeypatch.setattr(checksums, "CHECKED", 4096)
    folder = _open(data, tmp_path).folder
    _, sums = checksums.read_index(folder)
    assert len(sums[IMAGES]) > 16
    assert checksums.find_damage(folder, sums) == ""
    _zero_half(folder / IMAGES)
    for _ in range(20):
        assert "does not match its checksum from byte" in checksums.find_damage(folder, sums)


def test_damaged_memory_of_hashes_only_costs_time(data: Dataset, tmp_path: Path) -> None:
    first = _open(data, tmp_path)
    (memo,) = (tmp_path / "cache").glob("*.hashes.json")
    memo.write_text("{")
    assert _open(data, tmp_path).folder == first.folder


def test_full_disk_is_refused_before_it_is_full(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = 2 * 4 * 48 * 64  # two of four scenes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    with pytest.raises(StorageError, match=r"about 0\.00 GiB more.*CRYO_CACHE"):
        _open(data, tmp_path)
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_comes_with_its_remedy(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path) -> Any:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    with pytest.raises(StorageError, match=f"{os.strerror(code)}.*Set CRYO_CACHE"):
        _open(data, tmp_path)


def test_cache_below_a_file_is_refused(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(StorageError, match="Set CRYO_CACHE"):
        _open(data, tmp_path)


def test_copy_on_a_read_only_disk_is_used(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _open(data, tmp_path)
    for memo in (tmp_path / "cache").glob("*.hashes.json"):
        memo.unlink()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(cache_module, "locked", refuse)
    assert _open(data, tmp_path).folder == first.folder


def test_file_that_vanishes_is_named(data: Dataset, tmp_path: Path) -> None:
    gone = data.index(tmp_path, "train")[2]
    index: Callable[..., list[SceneFiles]] = lambda *_: [gone]  # noqa: E731
    gone.image.unlink()
    with pytest.raises(DataError, match=gone.image.name):
        _open(dataclasses.replace(data, index=index), tmp_path)


def test_damaged_scene_stays_a_matter_of_the_data(data: Dataset, tmp_path: Path) -> None:
    def read(item: SceneFiles) -> Scene:
        raise DataError(f"{item.image}: damaged")

    with pytest.raises(DataError, match="damaged"):
        _open(dataclasses.replace(data, read=read), tmp_path)
