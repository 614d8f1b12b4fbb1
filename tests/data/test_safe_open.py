"""Rasters that are more, or less, than they say: VRTs that leave their folder, absurd sizes."""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

import cryo_hpo.data
from cryo_hpo.data.alignment import place_of
from cryo_hpo.data.companions import companions
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.file_templates import find_files
from cryo_hpo.data.safe_open import open_file
from cryo_hpo.data.splits import digests_of
from cryo_hpo.errors import DataError

from ..support.fakes import fake_folder, write

ONES = np.ones((1, 4, 5), dtype=np.uint8)


def _vrt(path: Path, source: str, *, relative: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def test_a_pipe_in_the_place_of_a_scene_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(2, 1, 1))
    image = sorted((tmp_path / card.root / "train").rglob("*.tif"))[0]
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(DataError, match=r"must be a file, this is a pipe"):
        find_files(tmp_path / card.root, card.images, "train")
    with pytest.raises(DataError, match=r"a raster must be a file"), open_file(image):
        pass


def test_a_vrt_within_its_root_is_read(tmp_path: Path) -> None:
    write(tmp_path / "raw/a.tif", ONES)
    vrt = _vrt(tmp_path / "images/a.vrt", "../raw/a.tif", relative=1)
    with open_file(vrt, root=tmp_path) as file:
        assert file.read().tolist() == ONES.tolist()


@pytest.mark.parametrize(
    "source", ["/vsicurl/http://127.0.0.1:9/a.tif", "http://127.0.0.1:9/a.tif", "../../out.tif"]
)
def test_a_vrt_that_leaves_its_root_is_refused(tmp_path: Path, source: str) -> None:
    write(tmp_path / "out.tif", ONES)
    vrt = _vrt(tmp_path / "data/images/a.vrt", source, relative=int(source.startswith("..")))
    with (
        pytest.raises(DataError, match=r"the source .* of this VRT is no file"),
        open_file(vrt, root=tmp_path / "data"),
    ):
        pass


@pytest.mark.parametrize(
    "tag",
    [
        "<sourcefilename>{out}</sourcefilename>",
        "<SourceFilename>{out}</SourceFilename >",
        "<SourceFilename><!-- a -->{out}</SourceFilename>",
        "<SourceFilename>{hidden}</SourceFilename>",
        "<SourceFilename><![CDATA[{out}]]></SourceFilename>",
        "< SourceFilename>{out}</SourceFilename>",
    ],
)
def test_no_way_of_writing_a_source_hides_it(tmp_path: Path, tag: str) -> None:
    """GDAL's own parser knows no case, and takes numbered characters and spaces in a tag's end."""
    write(tmp_path / "out.tif", ONES)
    vrt = _vrt(tmp_path / "data/images/a.vrt", "x")
    hidden = str(tmp_path / "out.tif").replace("/", "&#47;").replace("o", "&#x6F;")
    whole = '<SourceFilename relativeToVRT="0">x</SourceFilename>'
    written = tag.format(out=tmp_path / "out.tif", hidden=hidden)
    vrt.write_text(vrt.read_text().replace(whole, written))
    with pytest.raises(DataError, match="VRT"), open_file(vrt, root=tmp_path / "data") as file:
        file.read()


def test_a_vrt_in_a_vrt_is_refused_likewise(tmp_path: Path) -> None:
    write(tmp_path / "out.tif", ONES)
    inner = _vrt(tmp_path / "data/inner.vrt", str(tmp_path / "out.tif"))
    outer = _vrt(tmp_path / "data/outer.vrt", str(inner))
    with (
        pytest.raises(DataError, match=r"inner\.vrt: the source"),
        open_file(outer, root=tmp_path / "data"),
    ):
        pass


def test_a_vrt_under_another_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw.tif", ONES)
    with (
        pytest.raises(DataError, match=r"a VRT under another name. Rename it to 'a\.vrt'"),
        open_file(_vrt(tmp_path / "a.tif", "raw.tif", relative=1), root=tmp_path),
    ):
        pass


def test_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>")
    with pytest.raises(DataError, match="not recognized"), open_file(tmp_path / "a.xml"):
        pass


def test_a_tiny_file_that_declares_terapixels_is_refused(tmp_path: Path) -> None:
    tags = [(256, 4, 1 << 20), (257, 4, 1 << 20), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(277, 3, 1), (278, 4, 1 << 20), (273, 4, 200), (279, 4, 16)]
    tags.sort()
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II" + struct.pack("<HIH", 42, 8, len(tags))
    (tmp_path / "a.tif").write_bytes(head + body + bytes(128))
    with pytest.raises(DataError, match=r"a\.tif: "), open_file(tmp_path / "a.tif") as file:
        file.read(1)


# -- what else decides what is read


def _digest(root: Path) -> tuple[str, str]:
    card = fake_folder(root, num=(1, 0, 0)) if not root.exists() else None
    data = custom_dataset(card or fake_folder(root.parent / "other", num=(1, 0, 0)))
    items = data.index(root, "train")
    return digests_of(data, root, items, cache=root.parent / "cache")[0]


def test_a_file_changed_under_the_same_size_and_date_is_seen(tmp_path: Path) -> None:
    import os

    root = tmp_path / "data"
    before = _digest(root)
    mask = next(root.glob("fake/train/masks/*"))
    stat, content = mask.stat(), bytearray(mask.read_bytes())
    content[-20] ^= 1
    mask.write_bytes(content)
    os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert mask.stat().st_mtime_ns == stat.st_mtime_ns
    after = _digest(root)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_sidecar_changes_the_digest(tmp_path: Path) -> None:
    root = tmp_path / "data"
    before = _digest(root)
    image = next(root.glob("fake/train/images/*"))
    image.with_name(f"{image.name}.aux.xml").write_text("<PAMDataset/>")
    assert _digest(root)[0] != before[0]


def test_sources_of_a_vrt_belong_to_it(tmp_path: Path) -> None:
    write(tmp_path / "raw/a.tif", ONES)
    vrt = _vrt(tmp_path / "a.vrt", "raw/a.tif", relative=1)
    assert companions(vrt) == (tmp_path / "raw/a.tif",)


# -- names


def test_suffixes_count_in_any_case_and_other_rasters_are_reported(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(4, 1, 1))
    first, second, *_ = sorted((tmp_path / "fake/train/images").iterdir())
    first.rename(first.with_suffix(".TIF"))
    second.rename(second.with_suffix(".tiff"))
    data = custom_dataset(card)
    assert len(data.index(tmp_path, "train")) == 4
    assert data.unused(tmp_path) == []
    write(tmp_path / "fake/train/images/extra.png", ONES)
    (sentence,) = data.unused(tmp_path)
    assert "not used: 1 file of pixels whose names do not match" in sentence
    assert "extra.png" in sentence


def test_names_pair_in_either_unicode_form(tmp_path: Path) -> None:
    import unicodedata

    card = fake_folder(tmp_path, num=(2, 1, 1)).model_copy(update={"region": None})
    image = min((tmp_path / "fake/train/images").iterdir())
    mask = tmp_path / "fake/train/masks" / f"{image.stem}.png"
    image.rename(image.with_name(unicodedata.normalize("NFD", "Höllental") + image.suffix))
    mask.rename(mask.with_name(unicodedata.normalize("NFC", "Höllental") + mask.suffix))
    items = custom_dataset(card).index(tmp_path, "train")
    assert unicodedata.normalize("NFC", "Höllental") in [item.id for item in items]


def test_names_that_differ_in_case_only_are_named(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(1, 1, 1))
    mask = next((tmp_path / "fake/train/masks").iterdir())
    mask.rename(mask.with_name(mask.name.upper().replace(".PNG", ".png")))
    with pytest.raises(DataError, match="differ only in upper and lower case"):
        custom_dataset(card).index(tmp_path, "train")


def test_a_coordinate_system_of_no_globe_is_no_place(tmp_path: Path) -> None:
    wkt = 'LOCAL_CS["front",LOCAL_DATUM["local",0],UNIT["meter",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    write(tmp_path / "a.tif", ONES, crs=wkt, transform=Affine(1, 0, 100, 0, -1, 50))
    assert place_of(tmp_path / "a.tif") is None


def test_a_broken_proj_does_not_fail_the_import(tmp_path: Path) -> None:
    """As with PROJ_DATA of another installation: commands then have a message with the remedy."""
    database = sqlite3.connect(tmp_path / "proj.db")
    database.executescript("create table metadata (key text, value text)")
    database.close()
    modules = sorted(
        f"cryo_hpo.data.{file.stem}" for file in Path(cryo_hpo.data.__file__).parent.glob("*.py")
    )
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    env = {**os.environ, "PROJ_DATA": str(tmp_path), "PROJ_LIB": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_file_that_declares_tens_of_thousands_of_bands_is_refused_before_they_are_read(tmp_path):
    """One damaged number of a header; GDAL's time grows with the square of the bands."""
    path = tmp_path / "a.tif"
    write(path, np.ones((1, 8, 8), dtype=np.uint16))
    header = bytearray(path.read_bytes())
    tag = header.index(b"\x15\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # 277, SamplesPerPixel
    header[tag + 8 : tag + 10] = (60_000).to_bytes(2, "little")
    path.write_bytes(header)
    with pytest.raises(DataError, match="declares 60,000 bands, more than 5,000"), open_file(path):
        pass
