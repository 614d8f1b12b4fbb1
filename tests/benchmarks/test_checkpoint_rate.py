"""The rates of docs/scale.md follow from the ladder, the length of an epoch and the bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.checkpoint_rate import (
    GRACE_EPOCHS,
    LADDER,
    SELDOM,
    SHORT_S,
    copies,
    epochs_of_a_trial,
    reads_of_a_copy,
    seconds_between_copies,
    segments,
)
from cryo_hpo.search.rungs import Ladder

SCALE = Path(__file__).parents[2] / "docs" / "scale.md"
LADDER_ROW = r"\| (\d+) \| ([\d, ]+) \| (\d+) \| (\d+) s \| ([\d.]+) \| (\d+) \|"
FULL = 1431 * 2**20  # bytes that full tuning resumes from, as the page has them
ROW = r"\| (full|frozen|lora) \| (\d+) (s|min) \| (\d+)[^|]* \| [^|]+ \| ([\d.]+) GB/s \| (\d+) \|"


def test_the_parts_of_a_search_are_those_between_rungs() -> None:
    shares, epochs = zip(*segments(LADDER), strict=True)
    assert epochs == (3, 6, 18, 54)
    assert shares == pytest.approx((1, 1 / 3, 1 / 9, 1 / 27))


@pytest.mark.parametrize(
    ("epochs", "epoch_s", "minutes", "expected"),
    [(3, 30, 0, 3), (3, 30, 5, 1), (54, 30, 5, 6), (54, 120, 5, 18), (54, 600, 5, 54)],
)
def test_the_last_checkpoint_of_a_part_is_always_copied(
    epochs: int, epoch_s: float, minutes: float, expected: int
) -> None:
    assert copies(epochs, epoch_s=epoch_s, minutes=minutes) == expected


def test_the_page_has_the_rates_of_its_bytes() -> None:
    page = SCALE.read_text()
    bytes_of = {
        tune: float(mib) * 2**20
        for tune, mib in re.findall(
            r"\| (full|frozen|lora)[^|]* \| ([\d,]+) MiB", page.replace(",", "")
        )
    }
    rows = re.findall(ROW, page)
    assert len(rows) == 12
    for tune, length, unit, minutes, rate, gpus in rows:
        epoch_s = float(length) * (60 if unit == "min" else 1)
        gap = seconds_between_copies(LADDER, epoch_s=epoch_s, minutes=float(minutes))
        assert 100 * bytes_of[tune] / gap / 1e9 == pytest.approx(float(rate), rel=0.05)
        assert 1e9 * gap / bytes_of[tune] == pytest.approx(float(gpus), rel=0.02)


def test_a_later_first_rung_makes_fewer_copies_of_longer_trainings() -> None:
    """What the page plans with, and that the shared storage then comes after MLflow."""
    page = SCALE.read_text()
    rows = re.findall(LADDER_ROW, page)
    assert [int(row[0]) for row in rows] == list(GRACE_EPOCHS)
    for grace, rungs, epochs, gap, read, gpus in rows:
        ladder = Ladder.of(grace_epochs=int(grace), reduction=3, epochs=81)
        given = {"epoch_s": SHORT_S, "minutes": SELDOM}
        assert rungs == ", ".join(map(str, ladder.rungs))
        assert epochs_of_a_trial(ladder) == pytest.approx(float(epochs))
        assert seconds_between_copies(ladder, **given) == pytest.approx(float(gap), abs=1)
        assert reads_of_a_copy(ladder, **given) == pytest.approx(float(read), abs=0.006)
        assert float(gpus) == pytest.approx(1e9 * float(gap) / FULL, rel=0.01)
    (limit,) = re.findall(r"(\d+) GPUs\. Beyond that the backlog", page)
    assert {row[0]: int(row[-1]) for row in rows}["9"] > int(limit)


@pytest.mark.parametrize(
    ("minutes", "copied"),
    [(60, 1 + 1 / 3 + 1 / 9 + 1 / 27), (0, 9)],  # one for each part; one for each epoch
)
def test_a_promoted_trial_reads_one_copy(minutes: float, copied: float) -> None:
    expected = (1 / 3 + 1 / 9 + 1 / 27) / copied
    assert reads_of_a_copy(LADDER, epoch_s=30, minutes=minutes) == pytest.approx(expected)
    (together,) = re.findall(r"at 9 epochs 270 GPUs are then (\d+)\.", SCALE.read_text())
    read = reads_of_a_copy(
        Ladder.of(grace_epochs=9, reduction=3, epochs=81), epoch_s=SHORT_S, minutes=SELDOM
    )
    assert float(together) == pytest.approx(270 / (1 + read), abs=0.5)
