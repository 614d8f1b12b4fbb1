"""A share of the labels is that share, holds every stratum in proportion, and hangs on its seed."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.label_fraction import sample, strata

from ..support.fakes import fake_folder

counts = st.integers(1, 40).flatmap(
    lambda n: hnp.arrays(np.int64, (n, 3), elements=st.integers(0, 9))
)
fractions = st.floats(0.01, 1)


def _masks(number: int, *, seed: int = 0) -> np.ndarray:
    """Pixels of six classes in masks whose shares are drawn from a Dirichlet distribution."""
    rng = np.random.default_rng(seed)
    return (rng.dirichlet([0.2] * 6, size=number) * 10_000).astype(np.int64)


def test_bins_are_those_of_the_published_rule() -> None:
    shares = np.array([[0, 300], [1, 299], [100, 200], [101, 199], [200, 100], [201, 99], [0, 0]])
    assert strata(shares) == [(-1, 2), (0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (-1, -1)]


@given(counts_NK=counts, fraction=fractions, seed=st.integers(0, 99))
def test_a_share_is_a_share(counts_NK: np.ndarray, fraction: float, seed: int) -> None:
    kept = sample(counts_NK, fraction=fraction, seed=seed)
    assert len(kept) == max(round(len(counts_NK) * fraction), 1)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(len(counts_NK)))


@given(counts_NK=counts, fraction=fractions, seed=st.integers(0, 99))
def test_no_stratum_is_more_than_one_scene_off(
    counts_NK: np.ndarray, fraction: float, seed: int
) -> None:
    kept = sample(counts_NK, fraction=fraction, seed=seed)
    keys = strata(counts_NK)
    whole, part = Counter(keys), Counter(keys[i] for i in kept)
    for key, size in whole.items():
        assert abs(part[key] - size * len(kept) / len(keys)) < 1


@given(counts_NK=counts, fraction=fractions, seed=st.integers(0, 99))
def test_the_published_rule_keeps_one_of_each_stratum(
    counts_NK: np.ndarray, fraction: float, seed: int
) -> None:
    kept = sample(counts_NK, fraction=fraction, seed=seed, one_of_each=True)
    keys = strata(counts_NK)
    whole, part = Counter(keys), Counter(keys[i] for i in kept)
    assert part == {key: max(1, int(size * fraction)) for key, size in whole.items()}


@pytest.mark.parametrize(
    ("number", "least", "most"), [(50, 0.75, 0.9), (200, 0.5, 0.7), (1000, 0.2, 0.4)]
)
def test_a_tenth_by_the_published_rule_is_far_more_than_a_tenth(
    number: int, least: float, most: float
) -> None:
    """Seen upstream on such masks: 84 % of 50, 54 % of 200, 18 % of 1000 images."""
    masks = _masks(number)
    assert least < len(sample(masks, fraction=0.1, seed=0, one_of_each=True)) / number < most
    assert len(sample(masks, fraction=0.1, seed=0)) == number // 10


def test_a_seed_draws_the_same_and_another_seed_others() -> None:
    masks = _masks(200)
    drawn = [sample(masks, fraction=0.1, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_scene_has_the_same_chance() -> None:
    masks, times = _masks(60), 400
    seen = Counter(i for seed in range(times) for i in sample(masks, fraction=0.1, seed=seed))
    # 40 times each; a binomial of 400 draws at 0.1 stays within 6 standard deviations of it
    assert all(abs(seen[i] - 40) < 36 for i in range(60)), seen


def test_some_scenes_of_a_split_are_those_scenes(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(6, 0, 0), size=(24, 40))
    whole = open_split(custom_dataset(card), tmp_path, "train", cache=tmp_path / "cache")
    some = whole.only([1, 4])
    for scenes in (some, pickle.loads(pickle.dumps(some))):
        assert len(scenes) == 2
        assert scenes.ids == (whole.ids[1], whole.ids[4])
        assert scenes.regions == (whole.regions[1], whole.regions[4])
        for mine, theirs in enumerate((1, 4)):
            np.testing.assert_array_equal(scenes.image(mine), whole.image(theirs))
            np.testing.assert_array_equal(scenes.mask(mine), whole.mask(theirs))
        labeled = [m[m != 255] for m in (whole.mask(1), whole.mask(4))]
        assert scenes.class_counts == tuple(np.bincount(np.concatenate(labeled)).tolist())
        assert (scenes.mean, scenes.fingerprint) == (whole.mean, whole.fingerprint)
    assert some.only([1]).ids == (whole.ids[4],)
