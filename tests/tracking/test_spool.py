"""What is appended survives; what is delivered leaves; a torn line is dropped."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_hpo.errors import StorageError
from cryo_hpo.tracking.spool import Spool

record = st.dictionaries(
    st.text(max_size=5) | st.just("spool"), st.text(max_size=8) | st.integers(), max_size=3
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "mlflow.jsonl"


def numbers(spool: Spool) -> list[int]:
    return [r["n"] for r in spool.waiting(limit=1000)]


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with contextlib.closing(Spool(path)) as opened:
        yield opened


def fill(spool: Spool, count: int) -> None:
    for n in range(count):
        spool.append({"n": n})


def leave(path: Path, count: int) -> None:
    """Make a spool, as a process does that has ended."""
    with contextlib.closing(Spool(path)) as spool:
        fill(spool, count)


def test_records_leave_in_order_when_they_are_delivered(spool: Spool) -> None:
    fill(spool, 5)
    assert [r["n"] for r in spool.waiting(limit=3)] == [0, 1, 2]
    assert spool.pending == 5  # looking at them is not delivering them
    spool.delivered(2)
    assert (spool.pending, numbers(spool)) == (3, [2, 3, 4])
    spool.append({"n": 5})
    spool.delivered(0)
    assert (spool.pending, numbers(spool)) == (3 + 1, [2, 3, 4, 5])


def test_another_process_goes_on_where_the_first_one_stopped(path: Path) -> None:
    with contextlib.closing(Spool(path)) as first:
        fill(first, 4)
        first.waiting(limit=1)
        first.delivered(1)
    with contextlib.closing(Spool(path)) as again:
        assert (again.pending, numbers(again)) == (3, [1, 2, 3])
        assert again.origin == first.origin


def test_two_spools_have_two_names(spool: Spool, tmp_path: Path) -> None:
    with contextlib.closing(Spool(tmp_path / "other.jsonl")) as other:
        assert spool.origin != other.origin


@pytest.mark.parametrize("torn", [b'{"n": 4', b"\x00" * 20, b"{"], ids=["half", "zeros", "brace"])
def test_a_torn_last_line_is_dropped(path: Path, torn: bytes) -> None:
    leave(path, 4)
    with path.open("ab") as file:
        file.write(torn)
    with contextlib.closing(Spool(path)) as spool:
        spool.append({"n": 5})
        assert numbers(spool) == [0, 1, 2, 3, 5]
        assert spool.pending == 5


def test_a_spoilt_line_does_not_hold_up_the_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(path, 1)
    with path.open("ab") as file:
        file.write(b"\x00\x00\n[1, 2]\n")
    with contextlib.closing(Spool(path)) as spool:
        spool.append({"n": 1})
        assert numbers(spool) == [0, 1]
    assert "is no record" in caplog.text


@pytest.mark.parametrize("mark", ["99999\n", "", "no number"])
def test_a_mark_that_is_not_this_spools_delivers_everything(path: Path, mark: str) -> None:
    leave(path, 3)
    path.with_name("mlflow.jsonl.delivered").write_text(mark)
    with contextlib.closing(Spool(path)) as spool:
        assert numbers(spool) == [0, 1, 2]


@given(st.lists(record, max_size=6), st.integers(0, 6))
@settings(max_examples=40)
def test_any_json_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, object]], count: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "s.jsonl"
    with contextlib.closing(Spool(path)) as spool:
        for one in records:
            spool.append(one)
        assert spool.waiting(limit=100) == records
        spool.delivered(min(count, len(records)))
        assert spool.waiting(limit=100) == records[count:]


def test_a_full_disk_leaves_the_spool_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(spool, 2)

    class Full:
        """A file on a disk with room for three more bytes."""

        def __init__(self, file: IO[bytes]) -> None:
            self.truncate, self.fileno, self._file = file.truncate, file.fileno, file

        def write(self, line: bytes) -> int:
            return self._file.write(line[:3])

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_file", Full(spool._file))
        with pytest.raises(StorageError, match=r"mlflow.jsonl: .*No space left.*Free space"):
            spool.append({"n": "lost"})
    spool.append({"n": 2})
    assert (spool.pending, numbers(spool)) == (3, [0, 1, 2])


def test_a_spool_belongs_to_one_process(path: Path) -> None:
    with (
        contextlib.closing(Spool(path)),
        pytest.raises(StorageError, match="held by another"),
    ):
        Spool(path)
    Spool(path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"s.jsonl' is not: .*Set CRYO_STORAGE"):
        Spool(tmp_path / "file" / "s.jsonl")


def test_refused_records_are_kept_with_their_reason(spool: Spool, path: Path) -> None:
    spool.refuse({"n": 7}, "too odd")
    kept = path.with_name("mlflow.jsonl.refused").read_text()
    assert json.loads(kept) == {"n": 7, "refused": "too odd"}


def test_one_thread_appends_while_another_reads(spool: Spool) -> None:
    writer = threading.Thread(target=fill, args=(spool, 300))
    writer.start()
    seen: list[int] = []
    while len(seen) < 300:
        batch = numbers(spool)
        seen += batch
        spool.delivered(len(batch))
    writer.join()
    assert seen == list(range(300))
    assert spool.pending == 0


def test_a_killed_process_leaves_every_record_it_was_told_is_safe(path: Path) -> None:
    code = """
import sys
from pathlib import Path
from cryo_hpo.tracking.spool import Spool
spool = Spool(Path(sys.argv[1]))
for n in range(100_000):
    spool.append({"n": n})
    print(n, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(50)]
    child.kill()
    told += [int(line) for line in child.stdout.read().split()]
    child.stdout.close()
    child.wait()
    with contextlib.closing(Spool(path)) as spool:
        found = [r["n"] for r in spool.waiting(limit=100_000)]
    assert found[: len(told)] == told
    assert len(found) - len(told) <= 1


def test_appending_is_fast(spool: Spool) -> None:
    begun = time.perf_counter()
    for n in range(200):
        spool.append({"n": n, "metrics": dict.fromkeys("abcdefghij", 0.5)})
    assert (time.perf_counter() - begun) / 200 < 0.02
