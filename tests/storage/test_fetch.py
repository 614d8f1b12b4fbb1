"""Downloads against a server on this machine that can be cut, moved, changed and switched off."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cryo_hpo.errors import FetchError, StorageError
from cryo_hpo.storage.fetch import PART, Received, fetch

from ..support.web import Web

CONTENT = bytes(range(256)) * 12_000  # three blocks
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web():
    with Web({"/w.bin": CONTENT}) as server:
        yield server


def _fetch(web: Web, path: Path, *, name: str = "/w.bin", checksum: str = SHA256) -> list[Received]:
    return list(fetch(web.url + name, path, checksum=checksum, pause_s=0))


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_arrives_whole_and_alone_and_tells_how_far_it_is(web, tmp_path):
    told = _fetch(web, tmp_path / "deep" / "w.bin")
    assert (tmp_path / "deep" / "w.bin").read_bytes() == CONTENT
    assert _left(tmp_path / "deep") == {"w.bin"}
    assert told[0].done == 0
    assert told[-1] == Received(len(CONTENT), len(CONTENT))
    assert [x.done for x in told] == sorted(x.done for x in told)


def test_a_file_that_is_there_is_not_asked_for(web, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"mine")
    assert _fetch(web, tmp_path / "w.bin") == []
    assert web.asked == []


def test_a_cut_connection_goes_on_where_it_was(web, tmp_path):
    web.cut = [1_000_000, 2_000_000]  # bytes of the file after which the server hangs up
    _fetch(web, tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    starts = [int(range_[len("bytes=") : -1]) for _, range_ in web.asked if range_]
    assert starts == [1_000_000, 2_000_000]


def test_the_next_call_goes_on_where_the_last_was_stopped(web, tmp_path):
    going = fetch(web.url + "/w.bin", tmp_path / "w.bin", checksum=SHA256)
    while next(going).done == 0:
        pass
    going.close()  # as Ctrl-C does
    assert not (tmp_path / "w.bin").exists()
    have = (tmp_path / f"w.bin{PART}").stat().st_size
    assert have > 0
    told = _fetch(web, tmp_path / "w.bin")
    assert told[0] == Received(have, len(CONTENT))
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_another_version_of_the_file_starts_over(web, tmp_path):
    going = fetch(web.url + "/w.bin", tmp_path / "w.bin")
    while next(going).done == 0:
        pass
    going.close()
    web.files["/w.bin"] = CONTENT[::-1]  # another entity tag
    _fetch(web, tmp_path / "w.bin", checksum="")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT[::-1]


def test_a_server_that_knows_no_ranges_starts_over(web, tmp_path):
    (tmp_path / f"w.bin{PART}").write_bytes(b"something else")
    web.ranges = False
    _fetch(web, tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_part_file_that_is_complete_or_too_long(web, tmp_path, extra):
    (tmp_path / f"w.bin{PART}").write_bytes(CONTENT + extra)
    _fetch(web, tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_is_refused_and_nothing_kept(web, tmp_path, kind):
    with pytest.raises(FetchError, match=rf"must have the {kind} 00ff, got [0-9a-f]{{32,}}\."):
        _fetch(web, tmp_path / "w.bin", checksum=f"{kind}:00ff")
    assert not (tmp_path / "w.bin").exists()
    assert not (tmp_path / f"w.bin{PART}").exists()


def test_the_first_digits_of_a_checksum_are_enough(web, tmp_path):
    _fetch(web, tmp_path / "w.bin", checksum=SHA256[: len("sha256:") + 8])
    assert (tmp_path / "w.bin").exists()


def test_a_missing_file_is_said_at_once(web, tmp_path):
    with pytest.raises(FetchError, match=r"/no\.bin is refused: 404"):
        _fetch(web, tmp_path / "w.bin", name="/no.bin")
    assert len(web.asked) == 1
    assert not (tmp_path / "w.bin").exists()


def test_a_server_in_trouble_is_asked_again(web, tmp_path):
    web.failures = 2
    _fetch(web, tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert len(web.asked) == 3


def test_a_server_that_hangs_up_at_once_is_not_asked_for_ever(web, tmp_path):
    web.cut = [0] * 99
    with pytest.raises(FetchError, match="does not answer: 0 of"):
        _fetch(web, tmp_path / "w.bin")
    assert len(web.asked) == 3


def test_a_redirect_keeps_the_range(web, tmp_path):
    web.moved["/old.bin"] = "/w.bin"
    web.cut = [1_000_000]
    _fetch(web, tmp_path / "w.bin", name="/old.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert ("/w.bin", "bytes=1000000-") in web.asked


def test_nobody_there(tmp_path):
    with Web({}) as web:
        url = web.url
    with pytest.raises(FetchError, match="does not answer"):
        list(fetch(f"{url}/w.bin", tmp_path / "w.bin", pause_s=0))


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "/etc/hostname"])
def test_only_the_web_is_asked(tmp_path, url):
    with pytest.raises(FetchError, match="by https or http"):
        list(fetch(url, tmp_path / "w.bin"))


def test_no_room_is_seen_before_a_byte_is_written(web, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"1,000 bytes free, 'w\.bin' needs 3,072,000 more"):
        _fetch(web, tmp_path / "w.bin")
    assert not (tmp_path / f"w.bin{PART}").exists()


def test_a_folder_that_cannot_be_written_to(web, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another folder"):
        _fetch(web, tmp_path / "file" / "w.bin")


def test_those_who_want_the_same_file_wait_for_the_first(web, tmp_path):
    threads = [
        threading.Thread(target=_fetch, args=(web, tmp_path / "w.bin"), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(web.asked) == 1
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
