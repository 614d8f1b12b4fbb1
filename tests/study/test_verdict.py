from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo import report, stats
from cryo_hpo.config import Site
from cryo_hpo.errors import StorageError
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.results.files import EVENTS, TEST_SCORES
from cryo_hpo.results.study import ConstantMap, Result, load_result, write
from cryo_hpo.search.confirm import Arm
from cryo_hpo.search.trials import Record
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import verdict
from cryo_hpo.study.verdict import result, score_arms

from ..support.fakes import fake_folder
from ..support.pool import a_study

CLASSES = ("background", "lake")
SEEDS = (1, 2, 3)


def _scores(right: int, wrong: int) -> Scores:
    confusion = [[right, wrong], [wrong, right]]
    return Scores.from_json({**Scores.zero(CLASSES).to_json(), "confusion_TP": confusion})


def _write(folder: Path, epochs: dict[str, int], losses: Sequence[float] = ()) -> None:
    lines: list[dict[str, Any]] = [
        {
            "key": key,
            "epoch": e,
            "best_val_miou": 0.1 * e,
            "seconds": 2.0,
            "data_seconds": 0.5,
            "collapsed": 0.0,
            **({"train_loss": losses[e - 1]} if losses else {}),
        }
        for key, last in epochs.items()
        for e in range(1, last + 1)
    ]
    folder.mkdir(exist_ok=True)
    with contextlib.closing(EventLog(folder / EVENTS)) as log:
        for line in lines:
            log.append("epoch", study="s", **line)


def test_a_training_that_diverged_scores_what_its_best_checkpoint_scores_or_0(tmp_path):
    base = a_study(epochs=4).base
    _write(tmp_path, {"baseline-seed1": 4, "baseline-seed2": 2})
    found = {"baseline-seed1": _scores(9, 1).to_json(), "baseline-seed2": _scores(3, 1).to_json()}
    (arm,) = score_arms([Arm("baseline", base, SEEDS)], tmp_path, found)
    whole, cut, none = arm.seeds
    assert (whole.diverged, whole.epochs, whole.collapsed) == (False, 4, False)
    assert whole.test_miou == pytest.approx(9 / 11)
    assert whole.test_iou == pytest.approx({"background": 9 / 11, "lake": 9 / 11})
    assert [whole.val_miou, whole.seconds] == pytest.approx([0.4, 8.0])
    assert (cut.diverged, cut.epochs, cut.collapsed) == (True, 2, False)
    assert cut.test_miou == pytest.approx(3 / 5)
    assert (none.diverged, none.epochs, none.collapsed) == (True, 0, True)
    assert (none.test_miou, none.val_miou, none.test_iou) == (0.0, 0.0, {})
    assert arm.mean_test_miou == pytest.approx((9 / 11 + 3 / 5) / 3)


def test_one_class_everywhere_is_a_collapse(tmp_path):
    one = {**Scores.zero(CLASSES).to_json(), "confusion_TP": [[9, 0], [1, 0]]}
    _write(tmp_path, {"baseline-seed1": 4})
    (arm,) = score_arms(
        [Arm("baseline", a_study(epochs=4).base, (1,))], tmp_path, {"baseline-seed1": one}
    )
    assert arm.seeds[0].collapsed
    assert not arm.seeds[0].diverged


def test_an_epoch_that_the_record_lost_is_no_divergence(tmp_path):
    _write(tmp_path, {"baseline-seed1": 4})
    file = tmp_path / EVENTS
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], lines[2][:20] + "\n", *lines[3:]]))
    scores = {"baseline-seed1": _scores(9, 1).to_json()}
    (arm,) = score_arms([Arm("baseline", a_study(epochs=4).base, (1,))], tmp_path, scores)
    assert (arm.seeds[0].diverged, arm.seeds[0].epochs) == (False, 4)


def test_a_training_with_a_model_and_without_scores_is_refused_and_never_scores_0(tmp_path):
    _write(tmp_path, {"baseline-seed1": 4})
    with pytest.raises(StorageError, match=r"lack training 'baseline-seed1'.*Remove"):
        score_arms([Arm("baseline", a_study(epochs=4).base, (1,))], tmp_path, {})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    fake_folder(tmp_path / "data", num=(2, 2, 2), size=(32, 32))
    return Site.from_env(
        {"CRYO_DATA": str(tmp_path / "data"), "CRYO_CACHE": str(tmp_path / "cache")}
    )


def _result(
    site: Site, folder: Path, *, best: int | None, tuned: list[int], split: str = "official"
) -> Result:
    card = fake_folder(site.data, num=(2, 2, 2), size=(32, 32), georeferenced=False)
    data = {"card": card.model_dump(mode="json"), "crop": 32, "split": split}
    base = {**a_study(epochs=4).base.model_dump(mode="json"), "data": data}
    study = a_study(
        trials=3, epochs=4, base=base, seeds=SEEDS, baselines={"trial-0001": {"optim.lr": 0.01}}
    )
    if best is None:
        study = study.model_copy(update={"search": None})
    _write(
        folder,
        {
            "trial-0000": 4,
            "trial-0001": 1,
            "trial-0002": 4,
            "trial-0001-seed1": 4,
            **{f"baseline-seed{s}": 4 for s in SEEDS},
            **{f"tuned-seed{s}": 4 for s, _ in zip(SEEDS, tuned, strict=False)},  # or diverged
        },
    )
    curve = {e: 0.1 * e for e in range(1, 5)}
    trials = [
        Record(number=0, params={}, state="complete", curve=curve),
        Record(number=1, params={"optim.lr": 0.1}, state="diverged", curve={1: 0.1}, message="nan"),
        Record(number=2, params={"optim.lr": 1e-3}, state="complete", curve=curve),
    ]
    scores = {f"baseline-seed{s}": _scores(50 + s, 10).to_json() for s in SEEDS}
    scores |= {
        f"tuned-seed{s}": _scores(r, 10).to_json() for s, r in zip(SEEDS, tuned, strict=False)
    }
    names = {"baseline": study.base, "tuned": study.base} if best else {"baseline": study.base}
    arms = score_arms([Arm(n, r, SEEDS) for n, r in names.items()], folder, scores)
    record = None if best is None else trials[best]
    found = trials if best is not None else []
    return result(study, site, folder, trials=found, best=record, arms=arms)


@pytest.mark.parametrize("tuned", [[90, 92, 95], [30, 31, 29], [60, 40, 70], [90]])
def test_the_verdict_is_the_paired_comparison_of_the_seeds(site, tmp_path, tuned):
    found = _result(site, tmp_path / "s", best=2, tuned=tuned)
    wanted = stats.relative_improvement(
        [s.test_miou for s in found.arm("tuned").seeds],
        [s.test_miou for s in found.arm("baseline").seeds],
    )
    assert found.improvement is not None
    assert found.improvement == wanted
    assert (found.improvement.verdict, found.improvement.num_pairs) == (wanted.verdict, 3)
    assert (found.winner, found.winner_is_baseline) == (2, False)
    assert found.best_recipe["optim"]["lr"] == 1e-3
    # a named baseline may be called like a trial
    assert (found.costs.epochs_search, found.costs.epochs_confirm) == (9, 16 + 4 * len(tuned))
    assert found.costs.epochs_full_grid == 12
    assert (found.costs.seconds_search, found.costs.seconds_data) == (
        18.0,
        (9 + 16 + 4 * len(tuned)) / 2,
    )
    write(found, tmp_path)
    assert load_result(tmp_path) == found


def test_what_doing_nothing_scores_is_from_the_same_test_pixels(site, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    test = {**_scores(70, 10).to_json(), "confusion_TP": [[60, 20], [15, 5]]}
    (folder / TEST_SCORES).write_text(json.dumps({"baseline-seed1": test}))
    found = _result(site, folder, best=2, tuned=[90, 92, 95])
    # 80 of 100 test pixels are background: as a map of it, IoU 80 / 100 and 0
    assert found.constant_map == ConstantMap(label="background", test_miou=0.4)
    assert found.weak_runs["still_rising"][0] == "baseline-seed1", "0.1 in the last of four epochs"
    assert "below_constant" not in found.weak_runs


def test_a_training_is_recorded_with_its_final_loss_and_late_gain(tmp_path):
    _write(tmp_path, {"baseline-seed1": 4}, losses=[3.0, 2.0, 1.5, 1.25])
    arm = Arm("baseline", a_study(epochs=4).base, (1,))
    (scored,) = score_arms([arm], tmp_path, {"baseline-seed1": _scores(9, 1).to_json()})
    assert scored.even_guess_loss == pytest.approx(math.log(2))
    assert scored.seeds[0].train_loss == 1.25
    assert scored.seeds[0].late_gain == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("curve", "gain"),
    [([], None), ([0.4], None), ([0.0, 0.4], None), ([0.1] * 18 + [0.2, 0.35], 0.25)],
)
def test_the_late_gain_is_that_of_the_last_tenth(curve, gain):
    epochs = [{"epoch": e, "best_val_miou": score} for e, score in enumerate(curve, start=1)]
    found = verdict._late_gain(epochs)
    assert found == (None if gain is None else pytest.approx(gain))


def test_a_winning_baseline_is_compared_with_itself(site, tmp_path):
    found = _result(site, tmp_path / "s", best=0, tuned=[])
    assert (found.winner, found.winner_is_baseline) == (0, True)
    assert found.improvement is not None
    assert (found.improvement.relative_pct.mid, found.improvement.verdict) == (0.0, "not shown")


def test_without_a_search_there_is_nothing_to_compare(site, tmp_path):
    found = _result(site, tmp_path / "s", best=None, tuned=[])
    assert (found.winner, found.winner_is_baseline, found.improvement) == (None, False, None)
    assert found.costs.epochs_full_grid == 0


@pytest.mark.slow
def test_a_report_takes_arms_that_diverged(site, tmp_path):
    found = _result(site, tmp_path / "s", best=2, tuned=[])
    assert found.arm("tuned").mean_test_miou == 0
    assert report.write(found, tmp_path / "report")


@pytest.mark.parametrize(("split", "said"), [("official",) * 2, ("region", "region, seed 0")])
def test_a_result_and_its_report_say_which_split_was_used(site, tmp_path, split, said):
    found = _result(site, tmp_path / "s", best=None, tuned=[], split=split)
    assert found.data_split == said
    assert found.spec["base"]["data"]["split"] == split
    assert f"| split             | {said}" in report.markdown(found)
