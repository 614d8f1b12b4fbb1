"""Do the intervals hold the truth as often as they say, on real scores with heavy tails?

`benchmarks/coverage.py` prints the whole table; docs/statistics.md has it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import coverage


@pytest.fixture(scope="module")
def curves() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data" / "lr_curves"
    if not folder.is_dir():
        pytest.skip("the real learning curves are not on this machine")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seeds", coverage.SEEDS[1:])  # three have no bounds, which always cover
@pytest.mark.parametrize("name", coverage.POPULATIONS)
def test_the_deciding_interval_covers(curves: Path, name: str, seeds: int) -> None:
    row = coverage.cover(curves, name, seeds, repeats=1500, bootstraps=20)
    assert row.typical >= 0.93
    assert row.worse <= 0.06
    if name == "DeBERTa 1e-4 / 1e-4":
        assert row.improved + row.worse <= 0.05, "nothing has changed, and that is what is said"


@pytest.mark.slow
def test_the_bootstrap_does_not_and_is_not_asked_to_decide(curves: Path) -> None:
    row = coverage.cover(curves, "DeBERTa 2e-5 / 1e-4", 5, repeats=300, bootstraps=300)
    assert row.bca < 0.7
    assert row.fieller < 0.7


def test_one_seed_does_not_cover(curves: Path) -> None:
    """One seed at 1e-4 may show anything: the gain of a collapse, 150 %, or less than nothing."""
    truth, low, high = coverage.one_seed(curves, "DeBERTa 2e-5 / 1e-4", repeats=4000)
    assert truth == pytest.approx(2.07, abs=0.01)
    assert low < 0.6
    assert high > 140
    same, low, high = coverage.one_seed(curves, "DeBERTa 1e-4 / 1e-4", repeats=4000)
    assert same == 0
    assert (low < -50, high > 100) == (True, True), "the same recipe against itself"
