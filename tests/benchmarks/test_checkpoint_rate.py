"""The rates of docs/scale.md follow from the ladder, the length of an epoch and the bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.checkpoint_rate import LADDER, copies, seconds_between_copies, segments

SCALE = Path(__file__).parents[2] / "docs" / "scale.md"
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
