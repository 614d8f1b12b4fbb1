"""What is kept of the test split, and which scenes are shown."""

from __future__ import annotations

import numpy as np
import pytest

from cryo_hpo.results.files import TEST_SCENES
from cryo_hpo.study import holdout as testsplit


def matrix(right: int, of: int = 10) -> np.ndarray:
    return np.array([[right, of - right], [of - right, right]])


def found(
    gains: dict[str, tuple[int, int]], seeds: tuple[int, ...] = (1, 2, 3)
) -> dict[str, dict[str, np.ndarray]]:
    """Return matrices of trainings: scene -> pixels right by baseline and tuned."""
    return {
        f"{arm}-seed{seed}": {s: matrix(both[i] - (seed == 3)) for s, both in gains.items()}
        for seed in seeds
        for i, arm in enumerate(testsplit.PAIR)
    }


GAINS = {"a": (5, 5), "b": (4, 9), "c": (8, 6), "d": (5, 6), "e": (5, 8)}


def test_the_scenes_at_both_ends_are_shown_best_first() -> None:
    seed, shown = testsplit.choose(found(GAINS))
    assert list(shown) == ["b", "e", "a", "c"]
    assert list(shown.values()) == sorted(shown.values(), reverse=True)
    assert shown["c"] < 0 < shown["b"]
    assert seed in (1, 2)


@pytest.mark.parametrize(("num", "names"), [(1, ["a"]), (2, ["b", "a"]), (3, ["b", "c"])])
def test_few_scenes_are_shown_once(num: int, names: list[str]) -> None:
    _, shown = testsplit.choose(found(dict(list(GAINS.items())[:num])))
    assert list(shown) == names


def test_without_a_tuned_recipe_the_baseline_is_shown() -> None:
    alone = {name: each for name, each in found(GAINS).items() if name.startswith("baseline")}
    assert next(iter(testsplit.choose(alone)[1])) == "c"
    assert testsplit.choose({}) == (-1, {})


def test_a_named_baseline_is_not_the_pair() -> None:
    other = {"tuned-later-seed9": {"a": matrix(9)}, "trial-0001-seed8": {"a": matrix(9)}}
    assert testsplit.choose({**found(GAINS), **other}) == testsplit.choose(found(GAINS))


def test_pairs_need_every_seed(tmp_path) -> None:
    assert testsplit.paired(tmp_path, (1, 2)) is None
    testsplit._keep_scenes(found(GAINS), tmp_path)
    both = testsplit.paired(tmp_path, (1, 2, 3))
    assert both is not None
    tuned, baseline = both
    assert tuned.shape == baseline.shape == (3, 5, 2, 2)
    assert tuned[0, 1].tolist() == matrix(9).tolist()
    assert testsplit.scene_scores(tmp_path)["scenes"].tolist() == list("abcde")
    assert testsplit.paired(tmp_path, (1, 2, 4)) is None
    assert [path.name for path in tmp_path.iterdir()] == [TEST_SCENES], "no draft is left"


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"baseline-seed1": {"classes"', b'{"a": 3}'])
def test_damaged_scores_are_reported_and_scored_again(tmp_path, content, caplog) -> None:
    (tmp_path / "test-scores.json").write_bytes(content)
    assert testsplit.kept_scores(tmp_path) == {}
    assert "is damaged" in caplog.text
    assert not (tmp_path / "test-scores.json").exists()
