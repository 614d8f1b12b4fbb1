"""Two studies side by side: the difference is shown only where their scores compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cryo_hpo
from cryo_hpo.cli.main import main
from cryo_hpo.report.side_by_side import side_by_side
from cryo_hpo.results.comparison import Difference, compare
from cryo_hpo.results.study import Result, write
from cryo_hpo.stats import Stopping, relative_improvement

from ..support.results import TEST, a_recipe, a_result, an_arm, an_improvement

BETTER = (0.8298, 0.8251, 0.8323, 0.8424)


def _other(**changes: Any) -> Result:
    arms = (
        an_arm("baseline", TEST["baseline"]),
        an_arm("tuned", BETTER, lr=5e-4),
    )
    own = {"study": "lakes-two", "arms": arms, "best_recipe": a_recipe(5e-4)}
    return a_result(**{**own, **changes})


def test_the_gain_is_that_of_the_winners_on_their_common_seeds() -> None:
    comparison = compare(a_result(), _other())
    assert comparison.is_allowed
    assert comparison.paired_seeds == (1, 2, 3, 4)
    assert comparison.gain == relative_improvement(BETTER, TEST["tuned"])
    assert comparison.differences == (Difference("optim.lr", 9.8e-4, 5e-4),)
    assert comparison.notes == ()


def test_only_common_seeds_are_paired() -> None:
    arm = an_arm("tuned", BETTER)
    later = arm.model_copy(
        update={"seeds": tuple(s.model_copy(update={"seed": s.seed + 2}) for s in arm.seeds)}
    )
    comparison = compare(a_result(), _other(arms=(a_result().arm("baseline"), later)))
    assert comparison.paired_seeds == (3, 4)
    assert comparison.gain == relative_improvement(BETTER[:2], TEST["tuned"][2:])
    strange = later.model_copy(
        update={"seeds": tuple(s.model_copy(update={"seed": s.seed + 9}) for s in arm.seeds)}
    )
    without = compare(a_result(), _other(arms=(a_result().arm("baseline"), strange)))
    assert without.gain is None
    assert "share no seed" in " ".join(without.notes)
    assert "points of test mIoU" not in side_by_side(without)


def test_a_baseline_that_won_stands_for_its_study() -> None:
    won = a_result(study="plain", arms=(an_arm("baseline", TEST["baseline"]),))
    comparison = compare(won, a_result())
    assert comparison.gain == relative_improvement(TEST["tuned"], TEST["baseline"])


PRINTS = {"train": "5d41402abc4b", "val": "7d793037a076", "test": "9f86d081884c"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ("rock", "ice", "fracture")}, "their classes differ"),
        ({"data_fingerprints": {**PRINTS, "test": "0" * 12}}, "scored on other test scenes"),
        ({"data_fingerprints": {**PRINTS, "train": "0" * 12}}, "learned from other training"),
        ({"data_fingerprints": {**PRINTS, "val": "0" * 12}}, "chosen on other validation"),
        ({"data_fingerprints": {"test": PRINTS["test"]}}, "does not record the fingerprint"),
        ({"arms": (), "proof": "none", "improvement": None}, "without test scores"),
        ({"data_split": "by region, seed 3"}, "split differently"),
        (
            {
                "arms": (
                    an_arm("baseline", TEST["baseline"]).model_copy(
                        update={"recipe": {**a_recipe(1e-4), "protocol": "cryo-bench@1"}}
                    ),
                )
            },
            "two protocols",
        ),
    ],
)
def test_scores_that_do_not_compare_have_no_difference(
    changes: dict[str, Any], reason: str
) -> None:
    comparison = compare(a_result(), _other(**changes))
    assert not comparison.is_allowed
    assert comparison.gain is None
    text = side_by_side(comparison)
    assert "may not be compared" in text
    assert reason in text
    assert "points of test mIoU" not in text
    assert "lakes-two" in text
    assert "epochs, search + proof" in text


def _with_data(result: Result, **data: Any) -> Result:
    """Return a result whose recipes have other values below `data`."""

    def changed(recipe: dict[str, Any]) -> dict[str, Any]:
        return {**recipe, "data": {**recipe["data"], **data}}

    arms = tuple(a.model_copy(update={"recipe": changed(a.recipe)}) for a in result.arms)
    return result.model_copy(update={"arms": arms, "best_recipe": changed(result.best_recipe)})


def _by_metric(result: Result, metric: str) -> Result:
    search = {**result.spec["search"], "metric": metric}
    return result.model_copy(update={"spec": {**result.spec, "search": search}})


CARD: dict[str, Any] = {"name": "mine", "ignore": 255, "gsd_m": 10.0}
SAME_LABELS: list[dict[str, Any]] = [{"root": "elsewhere"}, {"source": "a paper"}, {"gsd_m": 20.0}]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("values", {"0": "rock", "9": "ice"}),
        ("ignore", [0, 255]),
        ("nodata", 0.0),
        ("nan", "ignore"),
        ("quality", {"layer": "SCL"}),
        ("warp", {"to": "B4"}),
    ],
)
def test_cards_that_read_masks_otherwise_do_not_compare(key: str, value: object) -> None:
    one, other = _with_data(a_result(), card=CARD), _with_data(_other(), card={**CARD, key: value})
    comparison = compare(one, other)
    assert not comparison.is_allowed
    assert f"`{key}`" in side_by_side(comparison)
    assert comparison.gain is None


def test_a_card_and_a_built_in_dataset_do_not_compare() -> None:
    comparison = compare(a_result(), _with_data(_other(), card=CARD, name=None))
    assert "as a built-in dataset, the other by a card" in " ".join(comparison.obstacles)


@pytest.mark.parametrize("change", SAME_LABELS, ids=str)
def test_other_keys_of_a_card_are_no_obstacle(change: dict[str, Any]) -> None:
    other = _with_data(_other(), card={**CARD, **change})
    assert compare(_with_data(a_result(), card=CARD), other).is_allowed


@pytest.mark.parametrize("metric", ["boundary_f1/ice", "boundary_f1/rock|ice"])
def test_a_tolerance_that_chose_a_winner_is_an_obstacle(metric: str) -> None:
    one = _by_metric(a_result(), metric)
    other = _by_metric(_with_data(_other(), boundary_tolerance="30 m"), metric)
    (obstacle,) = compare(one, other).obstacles
    assert obstacle == "their winners were chosen by boundary F1 within 2 px; 30 m"
    assert compare(one, _by_metric(_other(), metric)).is_allowed


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (_by_metric(_other(), "mde_m/rock|ice"), "different validation metrics (miou; mde_m/"),
        (_with_data(_other(), boundary_tolerance="30 m"), "within 2 px; 30 m"),
        (_with_data(_other(), crop=256), "(128 pixels, overlap 32; 256 pixels, overlap 64)"),
        (_with_data(_other(), overlap=0), "(128 pixels, overlap 32; 128 pixels, overlap 0)"),
        (_other(sampled_ids={"train": ("a",)}), "`label_fraction`"),
    ],
)
def test_what_changes_the_causes_of_a_score_is_noted(other: Result, note: str) -> None:
    comparison = compare(a_result(), other)
    assert comparison.is_allowed
    assert note in " ".join(comparison.notes)
    assert note in side_by_side(comparison)
    assert comparison.gain is not None


def _longer(**changes: Any) -> Result:
    longer = {**a_recipe(5e-4), "epochs": 6, "batch_size": 4, **changes}
    return _other(best_recipe=longer)


def test_training_keys_that_differ_are_named_as_causes_unless_a_search_chose_them() -> None:
    (note,) = compare(a_result(), _longer(compile="auto")).notes
    assert "differ by `epochs`, `batch_size`, which no search chose" in note
    assert "may explain the difference" in note
    assert note in side_by_side(compare(a_result(), _longer()))
    trials = tuple(
        trial.model_copy(update={"params": {**trial.params, "batch_size": 4}})
        for trial in a_result().trials
    )
    (note,) = compare(a_result(), _longer().model_copy(update={"trials": trials})).notes
    assert "differ by `epochs`, which" in note


def test_a_rate_that_no_search_chose_is_named_as_a_cause() -> None:
    fixed = {"trials": (), "winner": None, "improvement": None}
    (note,) = compare(a_result(**fixed), _other(**fixed)).notes
    assert "differ by `optim.lr`, which" in note


def test_meters_of_other_pixel_sizes_are_noted() -> None:
    one, other = (_with_data(r, card=c) for r, c in zip((a_result(), _other()), SIZES, strict=True))
    assert "`gsd_m` is 10.0; 20.0" in " ".join(compare(one, other).notes)


SIZES = ({**CARD, "gsd_m": 10.0}, {**CARD, "gsd_m": 20.0})


def test_the_command_takes_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for result in (a_result(), _other(), _other(study="else", data_split="by region, seed 3")):
        (tmp_path / result.study).mkdir()
        write(result, tmp_path / result.study)
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))
    said = CliRunner().invoke(main, ["compare", "lakes-lr", str(tmp_path / "lakes-two")])
    assert said.exit_code == 0, said.output
    assert "Improved: the winner of 'lakes-two' scores" in said.output
    assert "optim.lr" in said.output
    refused = CliRunner().invoke(main, ["compare", "lakes-lr", "else"])
    assert refused.exit_code == 1
    assert "may not be compared" in refused.output
    missing = CliRunner().invoke(main, ["compare", "lakes-lr", "nothing"])
    assert missing.exit_code == 2
    assert "There is no study 'nothing'" in missing.output
    assert cryo_hpo.compare(tmp_path / "lakes-lr", tmp_path / "lakes-two").gain is not None


@pytest.mark.parametrize("baseline_won", [False, True])
def test_a_number_of_seeds_that_the_test_scores_fixed_is_told(*, baseline_won: bool) -> None:
    improvement = an_improvement(stopped=Stopping(16, "improved"))
    stopped = a_result(improvement=improvement, winner_is_baseline=baseline_won)
    notes = " ".join(compare(stopped, _other()).notes)
    assert ("stopped as soon as its own comparison was decided" in notes) != baseline_won
