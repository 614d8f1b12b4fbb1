"""The bootstrap against scipy's, and over scenes against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.stats import Interval, bca_ratio, bootstrap, miou, over_scenes, relative_improvement

TUNED = np.array([0.71, 0.74, 0.69, 0.75, 0.73, 0.70, 0.78])
BASELINE = np.array([0.66, 0.70, 0.67, 0.69, 0.34, 0.68, 0.69])
score = st.integers(1, 1000).map(lambda n: n / 1000)


@pytest.mark.parametrize(("num", "level"), [(3, 0.95), (5, 0.95), (7, 0.8), (7, 0.95)])
def test_bca_is_scipys(num: int, level: float) -> None:
    t, b = TUNED[-num:], BASELINE[-num:]

    def gain(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(100 * (x.mean(axis=axis) / y.mean(axis=axis) - 1))

    expected = stats.bootstrap(
        (t, b),
        gain,
        paired=True,
        vectorized=True,
        confidence_level=level,
        n_resamples=bootstrap.RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = bca_ratio(t, b, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1)
    assert found.mid == pytest.approx(gain(t, b))


@given(st.lists(st.tuples(score, score), min_size=2, max_size=6), st.integers(-3, 3))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_the_scores_does_not_matter(
    both: list[tuple[float, float]], power_of_two: int
) -> None:
    t, b = (np.array(arm) for arm in zip(*both, strict=True))
    found = bca_ratio(t, b)
    assert bca_ratio(2.0**power_of_two * t, 2.0**power_of_two * b) == found
    assert found.low <= found.high


def test_the_order_of_the_seeds_hardly_matters() -> None:
    found, turned = bca_ratio(TUNED, BASELINE), bca_ratio(TUNED[::-1], BASELINE[::-1])
    width = found.high - found.low
    assert (turned.low, turned.high) == pytest.approx((found.low, found.high), abs=0.05 * width)


def test_a_sample_over_itself_is_nothing() -> None:
    found = bca_ratio(TUNED, TUNED)
    assert (found.low, found.mid, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("t", "b"), [([0.5], [0.4]), ([0.5, 0.6], [0.0, 0.0]), ([0.5, 0.6, 0.7], [0.0, 0.0, 0.5])]
)
def test_too_little_bounds_nothing(t: list[float], b: list[float]) -> None:
    found = bca_ratio(np.array(t), np.array(b))
    assert (found.low, found.high) == (-math.inf, math.inf)


def confusions(seed: int, *, seeds: int = 3, scenes: int = 12, right: float) -> np.ndarray:
    """Return matrices (N, S, 3, 3) of maps that are right in this share of pixels."""
    rng = np.random.default_rng(seed)
    chances = np.full((3, 3), (1 - right) / 2)
    np.fill_diagonal(chances, right)
    shares = rng.dirichlet([2, 2, 2], size=scenes)
    truth = (400 * shares).astype(int)
    return np.array(
        [[[rng.multinomial(n, p) for n, p in zip(s, chances, strict=True)] for s in truth]
         for _ in range(seeds)]
    )  # fmt: skip


@pytest.mark.parametrize("absent_is_zero", [False, True])
def test_miou_is_that_of_the_scores(absent_is_zero: bool) -> None:
    matrices = confusions(0, right=0.6).reshape(-1, 3, 3)[:6].copy()
    matrices[0, 2], matrices[0, :, 2] = 0, 0  # a class in neither
    expected = [Scores(("a", "b", "c"), m, absent_is_zero).miou for m in matrices]
    assert miou(matrices, absent_is_zero=absent_is_zero) == pytest.approx(expected)


def test_scenes_are_resampled_as_a_loop_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "SCENE_RESAMPLES", 300)
    t, b = confusions(1, right=0.8), confusions(2, right=0.6)
    seen: list[np.ndarray] = []

    def remember(resampled_R: np.ndarray, *_: object) -> tuple[float, float]:
        seen.append(resampled_R)
        return 0.0, 1.0

    monkeypatch.setattr(bootstrap, "bca", remember)
    over_scenes(t, b)
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 3, (300, 3))
    counts = rng.multinomial(12, np.full(12, 1 / 12), size=300)
    for row in (0, 17, 299):
        means = []
        for arm in (t, b):
            pooled = [
                sum(c * m for c, m in zip(counts[row], arm[n], strict=True)) for n in seeds[row]
            ]
            means.append(np.mean([Scores(("a", "b", "c"), m).miou for m in pooled]))
        assert seen[0][row] == pytest.approx(100 * (means[0] / means[1] - 1))


def test_scenes_add_to_the_doubt_and_more_of_them_take_it_away() -> None:
    def width(scenes: int) -> float:
        t, b = (confusions(s, scenes=scenes, right=r) for s, r in ((1, 0.8), (2, 0.7)))
        found = over_scenes(t, b)
        assert found.low < found.mid < found.high
        return found.high - found.low

    t, b = confusions(1, right=0.8), confusions(2, right=0.7)
    seeds_alone = bca_ratio(miou(t.sum(axis=1)), miou(b.sum(axis=1)))
    assert over_scenes(t, b).mid == pytest.approx(seeds_alone.mid)
    assert width(12) > seeds_alone.high - seeds_alone.low
    assert width(60) < width(12)


def test_equal_maps_show_no_difference() -> None:
    t = confusions(1, right=0.8)
    assert over_scenes(t, t) == Interval(0.0, 0.0, 0.0, 0.95)
    assert over_scenes(t[:1], t[:1]).low == -math.inf


def test_the_comparison_carries_the_bootstrap() -> None:
    found = relative_improvement(TUNED.tolist(), BASELINE.tolist())
    assert found.bca_pct == bca_ratio(TUNED, BASELINE)
    assert found.bca_pct.mid == found.relative_pct.mid
