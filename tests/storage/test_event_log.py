"""What is appended survives; a torn line is cut; damage is reported and costs what it held."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_hpo.errors import StorageError
from cryo_hpo.storage.event_log import EventLog, Mark, read_events

OWN = {"n", "time", "event", "crc"}  # keys of every line
facts = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key not in OWN | {"self"}) | st.just("log"),
    st.text(max_size=8) | st.integers() | st.booleans() | st.none() | st.floats(-1, 1),
    max_size=3,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "events.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[EventLog]:
    with contextlib.closing(EventLog(path)) as opened:
        yield opened


def numbers(log: EventLog, start: int = 0) -> list[int]:
    return [event["k"] for _, event in log.read(start)]


def fill(log: EventLog, count: int) -> None:
    for k in range(count):
        log.append("epoch", k=k)


def leave(path: Path, count: int) -> list[bytes]:
    """Make a log, as a process does that has ended; return its lines."""
    with contextlib.closing(EventLog(path)) as log:
        fill(log, count)
    return path.read_bytes().splitlines(keepends=True)


def test_an_event_is_a_line_of_strict_json_with_its_time_and_number(log: EventLog) -> None:
    log.append("epoch", key="trial-0003", epoch=2, best_val_miou=0.5, node=None)
    log.append("ended", key="trial-0003", message='loss "nan"\nat step 3', loss=float("nan"))

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in log.path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["log begun", "epoch", "ended"]
    assert [line["n"] for line in lines] == [0, 1, 2]
    expected = {"key": "trial-0003", "epoch": 2, "best_val_miou": 0.5, "node": None}
    assert expected.items() <= lines[1].items()
    assert (lines[2]["message"], lines[2]["loss"]) == ('loss "nan"\nat step 3', None)
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times[0].utcoffset() is not None
    assert times == sorted(times)


def test_another_process_continues_where_the_first_one_stopped(path: Path) -> None:
    with contextlib.closing(EventLog(path)) as first:
        fill(first, 2)
    with contextlib.closing(EventLog(path)) as again:
        again.append("epoch", k=2)
        assert numbers(again) == [0, 1, 2]
        assert again.origin == first.origin
        assert not again.damaged
    assert [event["n"] for event in read_events(path)] == [1, 2, 3]


def test_two_logs_have_two_names(log: EventLog, tmp_path: Path) -> None:
    with contextlib.closing(EventLog(tmp_path / "other.jsonl")) as other:
        assert log.origin != other.origin


def test_consumers_get_what_is_on_disk(log: EventLog) -> None:
    taken: list[tuple[int, int]] = []
    log.subscribe(lambda event: taken.append((event["k"], len(numbers(log)))))
    fill(log, 3)
    assert taken == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("torn", [b'{"n": 4', b"\x00" * 20, b"{"], ids=["half", "zeros", "brace"])
def test_a_torn_last_line_is_cut_and_reported(
    path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    leave(path, 4)
    with path.open("ab") as file:
        file.write(torn)
    assert len(list(read_events(path))) == 4  # readers of a log that is being written
    with contextlib.closing(EventLog(path)) as log:
        assert log.damaged
        log.append("epoch", k=5)
        assert numbers(log) == [0, 1, 2, 3, 5]
    assert "torn by a crash, and is cut off" in caplog.text
    caplog.clear()
    EventLog(path).close()
    assert not caplog.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"k": 1', b'"k": 7'),  # still JSON
        (b'"k": 1', b"\xff\xfe\x00\x00\x00\x00"),  # not UTF-8
        (b'{"n"', b"[1, 2"),
        (b', "crc"', b', "c"'),
    ],
    ids=["digit", "bytes", "other JSON", "no checksum"],
)
def test_a_damaged_line_costs_itself_and_is_reported_with_its_number(
    path: Path, old: bytes, new: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lines = leave(path, 3)
    lines[2] = lines[2].replace(old, new)
    path.write_bytes(b"".join(lines))
    with contextlib.closing(EventLog(path)) as log:
        assert numbers(log) == [0, 2]
        assert log.damaged
        log.append("epoch", k=3)
    assert [event["k"] for event in read_events(path)] == [0, 2, 3]
    assert "events.jsonl': line 3 is damaged" in caplog.text
    assert caplog.text.count("is damaged") == 1


def test_missing_lines_are_noticed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = leave(path, 5)
    path.write_bytes(b"".join([*lines[:2], *lines[4:]]))
    with contextlib.closing(EventLog(path)) as log:
        assert numbers(log) == [0, 3, 4]
        assert log.damaged
    assert "2 lines are missing before line 3" in caplog.text


@given(st.binary(max_size=300), st.integers(0, 600))
@settings(max_examples=60, deadline=None)
def test_no_bytes_are_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    whole = b"".join(leave(path, 4))
    path.write_bytes(whole[:place] + content + whole[place + len(content) :])
    with contextlib.suppress(StorageError), contextlib.closing(EventLog(path)) as log:
        log.append("epoch", k=9)
        assert numbers(log)[-1] == 9
        assert set(numbers(log)) <= {0, 1, 2, 3, 9}


def test_a_file_without_a_sound_line_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"time": "2026-01-01", "event": "epoch"}\n')
    with pytest.raises(StorageError, match=r"none of its 1 lines is sound\. Finish .* remove"):
        EventLog(path)


@pytest.mark.parametrize("name", ["mlflow.jsonl", "epochs.jsonl"])
def test_a_folder_of_an_older_version_is_refused_with_what_to_do(path: Path, name: str) -> None:
    path.parent.mkdir()
    (path.parent / name).write_text("{}\n")
    for read in (lambda: EventLog(path), lambda: list(read_events(path))):
        with pytest.raises(StorageError, match=f"older version .*{name}.* Finish .*remove"):
            read()
    assert not path.exists()


def test_a_log_that_is_not_there_has_no_events(path: Path) -> None:
    assert list(read_events(path)) == []


@given(st.lists(facts, max_size=6))
@settings(max_examples=40)
def test_any_json_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "s.jsonl"
    with contextlib.closing(EventLog(path)) as log:
        for one in records:
            log.append("x", **one)
        events = [event for _, event in log.read()]
        assert [{k: v for k, v in e.items() if k not in OWN} for e in events] == records


def test_a_full_disk_leaves_the_log_whole(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log, 2)

    class Full:
        """A file on a disk with room for three more bytes."""

        def __init__(self, file: IO[bytes]) -> None:
            self.truncate, self.fileno, self._file = file.truncate, file.fileno, file

        def write(self, line: bytes) -> int:
            return self._file.write(line[:3])

    with monkeypatch.context() as patch:
        patch.setattr(log, "_file", Full(log._file))
        with pytest.raises(StorageError, match=r"events.jsonl': .*No space left.*Free space"):
            log.append("epoch", k="lost")
    log.append("epoch", k=2)
    assert numbers(log) == [0, 1, 2]
    assert [event["n"] for _, event in log.read()] == [1, 2, 3]


def test_a_log_belongs_to_one_process(path: Path) -> None:
    with (
        contextlib.closing(EventLog(path)),
        pytest.raises(StorageError, match="held by another process"),
    ):
        EventLog(path)
    EventLog(path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"s.jsonl': .*Set CRYO_STORAGE"):
        EventLog(tmp_path / "file" / "s.jsonl")


def test_a_mark_is_kept_for_the_next_process(path: Path) -> None:
    with contextlib.closing(EventLog(path)) as log:
        fill(log, 3)
        mark = Mark(log, "reader")
        mark.write(next(iter(log.read()))[0])
    with contextlib.closing(EventLog(path)) as log:
        again = Mark(log, "reader")
        assert (numbers(log, again.start), again.lost) == ([1, 2], False)
        assert Mark(log, "another").start == 0


@pytest.mark.parametrize(
    "mark", ["", "no number", "7", '{"end": 50, "origin": "another log"}', '{"end": -4}', "[]"]
)
def test_a_mark_that_is_not_this_logs_begins_at_the_start(path: Path, mark: str) -> None:
    leave(path, 3)
    path.with_name("events.jsonl.reader").write_text(mark)
    with contextlib.closing(EventLog(path)) as log:
        found = Mark(log, "reader")
        assert (found.start, found.lost) == (0, False)


def test_a_log_shorter_than_what_was_taken_has_lost_its_end(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(EventLog(path)) as log:
        fill(log, 4)
        Mark(log, "reader").write(log.end)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    with contextlib.closing(EventLog(path)) as log:
        mark = Mark(log, "reader")
        assert (mark.start, mark.lost) == (0, True)
    assert "has lost its end" in caplog.text


@pytest.mark.parametrize("lost", ["first line", "file"])
def test_a_log_keeps_its_name_without_its_first_line(path: Path, lost: str) -> None:
    with contextlib.closing(EventLog(path)) as log:
        fill(log, 2)
        Mark(log, "reader")
    content = path.read_bytes()
    path.write_bytes(b"#" + content[1:] if lost == "first line" else b"")
    with contextlib.closing(EventLog(path)) as again:
        assert again.origin == log.origin


def test_one_thread_appends_while_another_reads(log: EventLog) -> None:
    writer = threading.Thread(target=fill, args=(log, 300))
    writer.start()
    seen: list[int] = []
    start = 0
    while len(seen) < 300:
        for end, event in log.read(start):
            seen.append(event["k"])
            start = end
    writer.join()
    assert seen == list(range(300))


def test_a_killed_process_leaves_every_event_it_was_told_is_safe(path: Path) -> None:
    code = """
import sys
from pathlib import Path
from cryo_hpo.storage.event_log import EventLog
log = EventLog(Path(sys.argv[1]))
for k in range(100_000):
    log.append("epoch", k=k)
    print(k, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(50)]
    child.kill()
    told += [int(line) for line in child.stdout.read().split()]
    child.stdout.close()
    child.wait()
    with contextlib.closing(EventLog(path)) as log:
        found = numbers(log)
    assert found[: len(told)] == told
    assert len(found) - len(told) <= 1


def test_appending_is_fast(log: EventLog) -> None:
    begun = time.perf_counter()
    for k in range(200):
        log.append("epoch", k=k, **dict.fromkeys("abcdefghij", 0.5))
    assert (time.perf_counter() - begun) / 200 < 0.02
