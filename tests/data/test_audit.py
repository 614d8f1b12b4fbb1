"""`cryo-hpo data`: what its commands find and say, through the command line."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from click.testing import CliRunner, Result
from matplotlib.image import imread

from cryo_hpo.cli.main import main
from cryo_hpo.data import download, find_dataset
from cryo_hpo.data.dataset import Remote
from cryo_hpo.errors import DataError

from ..support.fakes import FAKES, fake_folder, fake_glb, fake_gld, fake_glid, fake_sicd, write
from ..support.web import Web


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRYO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CRYO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    return tmp_path / "data"


def _data(*words: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, words)], catch_exceptions=False)


# -- check


def test_check_says_which_scenes_the_parts_of_gld_share(root: Path) -> None:
    fake_gld(root)
    done = _data("check", "gld")
    assert done.exit_code == 1
    assert (
        "train and test share 3 regions (T44RPU, T45RVM, T46RBT); 4 scenes of test" in done.output
    )
    assert "how many Sentinel-2 scenes the parts share is not published" in done.output
    assert "`data.split: region`" in done.output


def test_check_of_the_split_by_region_finds_nothing(root: Path) -> None:
    fake_gld(root)
    done = _data("check", "gld", "--split", "region", "--split-seed", 3)
    assert done.exit_code == 0
    assert "split region, seed 3: every file is as it must be" in done.output


def test_check_counts_chips_of_satellite_scenes_in_two_parts_of_glb(root: Path) -> None:
    fake_glb(root)
    done = _data("check", "glb")
    assert done.exit_code == 1
    assert "2 of 4 scenes of test are cut from satellite scenes that train has too." in done.output
    assert "train and test hold 1 identical image" in done.output
    assert "1,774 of 1,907 test chips (93 %)" in done.output
    done = _data("check", "glb", "--split", "region")
    assert done.exit_code == 0, done.output
    assert "satellite scenes" not in done.output


def test_check_finds_copies_in_two_parts_and_in_one(root: Path) -> None:
    fake_glid(root)
    glid = root / "GLID"
    image = (glid / "train" / "images" / "3.png").read_bytes()
    (glid / "test" / "images" / "1.png").write_bytes(image)
    (glid / "train" / "images" / "4.png").write_bytes(image)
    done = _data("check", "glid")
    assert done.exit_code == 1
    assert "train and test hold 1 identical image (train-" in done.output
    assert " = test-1)" in done.output
    assert "1 images are repeated within one part (first: train-3 = train-4)" in done.output
    assert "18,367 scenes are published, 17 are here." in done.output
    assert "17 scenes have neither region nor place" in done.output


def test_check_finds_ground_that_two_parts_show(root: Path) -> None:
    fake_gld(root)
    folder = root / "GLNet_Dataset"
    for part in ("train", "test"):
        for kind in ("image", "mask"):
            for number, path in enumerate(sorted((folder / part / kind).iterdir())):
                path.rename(path.with_name(f"{part}{number}.tif"))
    with rasterio.open(folder / "train" / "image" / "train1.tif") as file:
        place, crs = file.transform, file.crs
    with rasterio.open(folder / "test" / "image" / "test0.tif", "r+") as file:
        file.transform, file.crs = place, crs
    done = _data("check", "gld")
    said = "show the same ground in 1 pair of scenes (train-train1 and test-test0)."
    assert f"train and test {said}" in done.output


def test_check_names_every_broken_file_at_once(root: Path) -> None:
    fake_sicd(root)
    masks = sorted((root / "SICD" / "train" / "masks").iterdir())
    for mask in masks[:2]:
        write(mask, np.full((1, 64, 64), 9, dtype=np.uint8))
    done = _data("check", "sicd")
    assert done.exit_code == 1
    assert all(f"{mask}: the mask holds the value 9" in done.output for mask in masks[:2])
    assert "To be corrected: 2 files (see above)." in done.output


def test_check_takes_a_card(root: Path, tmp_path: Path) -> None:
    card = fake_folder(root, georeferenced=False)
    file = tmp_path / "card.yaml"
    file.write_text(yaml.safe_dump(json.loads(card.model_dump_json())))
    done = _data("check", file)
    assert done.exit_code == 0, done.output
    assert "train       6  48 x 64  uint8   1.56 %" in done.output
    file.write_text("name: 3\nbandz: []\n")
    wrong = _data("check", file)
    assert wrong.exit_code == 2
    assert "card.yaml:2: bandz: No key named 'bandz' here. Did you mean 'bands'" in wrong.output


def test_check_of_what_is_not_there(root: Path) -> None:
    assert _data("check", "gsdd").exit_code == 1
    unknown = _data("check", "gssd")
    assert unknown.exit_code == 2
    assert "Did you mean 'gsdd'" in unknown.output


# -- stats and show


@pytest.mark.parametrize("name", FAKES)
def test_stats_are_those_of_the_training_part(root: Path, name: str) -> None:
    FAKES[name](root)
    dataset = find_dataset(name)
    scenes = [dataset.read(item) for item in dataset.index(root, "train")]
    pixels = np.concatenate([s.image_CHW[:, s.mask_HW != 255] for s in scenes], axis=1)
    labels = np.concatenate([s.mask_HW[s.mask_HW != 255] for s in scenes])
    done = _data("stats", name)
    assert done.exit_code == 0
    lines = dict(line.split(": ") for line in done.output.splitlines() if ": " in line)
    for key, wanted in (("mean", pixels.mean(1, dtype=float)), ("std", pixels.std(1, dtype=float))):
        np.testing.assert_allclose(yaml.safe_load(lines[key]), wanted, rtol=1e-4)
    share = f"{100 * (labels == 1).mean():.2f} %"
    assert any(f"{dataset.classes[1]}  " in s and share in s for s in done.output.splitlines())


def test_stats_refuse_broken_files(root: Path) -> None:
    fake_sicd(root)
    mask = sorted((root / "SICD" / "train" / "masks").iterdir())[0]
    mask.write_bytes(mask.read_bytes()[:300])
    done = _data("stats", "sicd")
    assert done.exit_code == 1
    assert "Was it copied completely?" in done.output
    assert _data("show", "sicd", "--out", root / "x.png").exit_code == 1


@pytest.mark.parametrize("name", ["gld", "caffe"])
def test_show_draws_a_sheet(root: Path, tmp_path: Path, name: str) -> None:
    FAKES[name](root)
    out = tmp_path / "new" / "sheet.png"
    done = _data("show", name, "--out", out, "--columns", 3)
    assert done.exit_code == 0
    assert done.output.split() == [str(out), str(out.with_name("sheet-split.png"))]
    picture = imread(out)
    assert min(picture.shape[:2]) > 200
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50


def test_a_sheet_is_a_png(tmp_path: Path) -> None:
    done = _data("show", "gld", "--out", tmp_path / "sheet.xyz")
    assert done.exit_code != 0
    assert "must end in .png, not '.xyz'" in done.output


# -- get


def _zip(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return content.getvalue()


def _tar(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


VAL = _zip(val__images__1=b"picture" * 90_000)


def _record(web: Web, checksum: str) -> bytes:
    file = {"key": "val.zip", "checksum": checksum, "links": {"self": f"{web.url}/val.zip"}}
    return json.dumps({"files": [file]}).encode()


def _md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


@pytest.fixture
def zenodo(root: Path, monkeypatch: pytest.MonkeyPatch):
    with Web({"/val.zip": VAL, "/files.rar": b"Rar!"}) as web:
        monkeypatch.setattr(download, "ZENODO", f"{web.url}/api/records")
        web.files["/api/records/14838695"] = _record(web, _md5(VAL))
        yield web


def test_get_asks_the_record_for_checksums_and_goes_on_where_it_was_cut(
    root: Path, zenodo: Web
) -> None:
    zenodo.cut = [10**6, 300_000]  # the record whole, then the file not
    done = _data("get", "glid")
    assert done.exit_code == 0, done.output
    assert (root / "GLID" / "val" / "images" / "1").read_bytes() == b"picture" * 90_000
    for words in ("CC-BY-4.0", "zenodo.org/records/14838695", _md5(VAL), "data check glid"):
        assert words in done.output
    asked = len(zenodo.asked)
    assert _data("get", "glid").exit_code == 0
    assert [path for path, _ in zenodo.asked[asked:]] == ["/api/records/14838695"]


def test_get_lists_without_fetching(root: Path, zenodo: Web) -> None:
    done = _data("get", "glid", "--list")
    assert f"val.zip: {_md5(VAL)} {zenodo.url}/val.zip" in done.output
    assert [path for path, _ in zenodo.asked] == ["/api/records/14838695"]


def test_get_lists_the_copy_that_cryo_bench_collected(root: Path) -> None:
    done = _data("get", "glb", "--collected", "--list")
    assert done.exit_code == 0, done.output
    copy = "https://huggingface.co/datasets/Sk-21/Cryo-Bench/resolve/main/data/GLB.tar.gz"
    digest = "ef47a250d0bd3551c77ca1716967108c4ffa6bd56ae09f21cf02f4857ddfc085"
    assert f"GLB.tar.gz: sha256:{digest} {copy}" in done.output
    refused = _data("get", "glid", "--collected", "--list")
    assert refused.exit_code == 1
    assert "No public copy of 'glid' is known that Cryo-Bench collected" in refused.output


def test_get_keeps_nothing_that_differs_from_the_record(root: Path, zenodo: Web) -> None:
    zenodo.files["/api/records/14838695"] = _record(zenodo, _md5(b"other"))
    done = _data("get", "glid")
    assert done.exit_code == 1
    assert "must have the md5" in done.output
    assert not list((root / "GLID").rglob("*.zip"))


def test_get_looks_at_files_put_there_by_hand(root: Path, zenodo: Web) -> None:
    kept = root / "GLID" / download.KEPT
    kept.mkdir(parents=True)
    (kept / "val.zip").write_bytes(b"half of it")
    done = _data("get", "glid")
    assert done.exit_code == 1
    assert "val.zip: wrong md5" in done.output


def test_get_without_a_net_says_where_to_get_what_and_where_to_put_it(
    root: Path, zenodo: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ZENODO", "http://127.0.0.1:9/api/records")
    done = _data("get", "gld")
    assert done.exit_code == 1
    assert "download by hand from https://zenodo.org/records/16986936" in done.output
    assert f"put the data into '{root / 'GLD'}': GLD/ with {{split}}/image/*" in done.output


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"files": [{"key": "a"}]}'])
def test_get_refuses_a_record_it_does_not_understand(
    root: Path, zenodo: Web, content: bytes
) -> None:
    zenodo.files["/api/records/14838695"] = content
    done = _data("get", "glid")
    assert done.exit_code == 1
    assert "Cannot read the list of files and checksums" in done.output


def test_get_does_not_guess_a_checksum(root: Path) -> None:
    done = _data("get", "caffe")
    assert done.exit_code == 1
    assert (
        "checksum for files of 'caffe':\n  data_raw.zip: https://download.pangaea.de" in done.output
    )
    assert "--sha256 data_raw.zip=..." in done.output


def test_get_takes_a_checksum_from_the_user(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _zip(zones__a=b"zones")
    with Web({"/data_raw.zip": content}) as web:
        file = Remote(f"{web.url}/data_raw.zip", None, "data_raw.zip")
        monkeypatch.setattr(download, "remotes", lambda *_, **__: (file,))
        digest = hashlib.sha256(content).hexdigest()
        done = _data("get", "caffe", "--sha256", f"data_raw.zip={digest}")
        assert done.exit_code == 0, done.output
        assert (root / "CaFFe" / "zones" / "a").read_bytes() == b"zones"
        wrong = _data("get", "caffe", "--md5", "data.zip=" + "0" * 32)
        assert "has no file 'data.zip'. It has: data_raw.zip" in wrong.output
        short = _data("get", "caffe", "--md5", "data_raw.zip=123")
        assert "Give FILE=HEX with 32 hexadecimal digits" in short.output


def test_get_joins_the_parts_of_an_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _tar(train__a=b"scene")
    parts = {"/t.tar.gzaa": whole[:50], "/t.tar.gzab": whole[50:], "/notes.txt": b"words"}
    with Web(parts) as web:
        files = tuple(
            Remote(web.url + path, _md5(data), path[1:], "t.tar.gz" if "tar" in path else "")
            for path, data in parts.items()
        )
        monkeypatch.setattr(download, "remotes", lambda *_, **__: files)
        assert _data("get", "sicd").exit_code == 0
        assert (root / "SICD" / "train" / "a").read_bytes() == b"scene"
        kept = {path.name for path in (root / "SICD" / download.KEPT).iterdir()}
        assert kept == {"t.tar.gz", "notes.txt"}
        asked = len(web.asked)
        done = _data("get", "sicd")
        assert done.exit_code == 0
        assert len(web.asked) == asked
        assert "notes.txt: left as it is" in done.output


def test_damaged_archive_is_named(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "a.zip").write_bytes(VAL[: len(VAL) // 2] + VAL[-60:])
    with pytest.raises(DataError, match=r"a\.zip: cannot unpack the archive"):
        list(download.unpack(folder, tmp_path / "out"))


def test_generated_datasets_have_no_record(root: Path) -> None:
    done = _data("get", "lakes-demo")
    assert done.exit_code == 1
    assert "'lakes-demo' has no public record" in done.output


@pytest.mark.parametrize("command", ["get", "check", "stats", "show", "generate"])
def test_help_teaches(command: str) -> None:
    done = _data(command, "--help")
    assert done.exit_code == 0
    assert len(done.output) > 200
