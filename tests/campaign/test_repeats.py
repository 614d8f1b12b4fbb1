"""A campaign whose cells share a total of repeats: who gets them, after a kill and beside a failed cell too."""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cryo_hpo.campaign import plan_campaign, run_campaign
from cryo_hpo.campaign import run as running
from cryo_hpo.config import Site, load_campaign
from cryo_hpo.errors import CryoError, SpecError, StorageError
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.execution.worker import train_job
from cryo_hpo.report.evidence import evidence_notes
from cryo_hpo.report.repeats import parts
from cryo_hpo.report.table import Table
from cryo_hpo.results.campaign import CampaignResult, CellResult, load_campaign_result
from cryo_hpo.results.epochs import MIOU_SCORE
from cryo_hpo.results.grant import RepeatGrant, read_grant, write_grant
from cryo_hpo.results.study import load_result
from cryo_hpo.search.jobs import MESSAGE, OUTCOME, Job
from cryo_hpo.stats import relative_improvement
from cryo_hpo.stats.sequential import Decision
from cryo_hpo.study.run import run_study

from ..support.campaigns import a_campaign_result, a_cell, small_campaign

RATE = {"kind": "float", "low": 1e-2, "high": 1e-1, "log": True}
SHARED: dict[str, Any] = {
    "transfer": False,
    "log_model": False,
    "search": {"space": {"params": {"optim.lr": RATE}}, "trials": 2, "parallel": 1},
    "seeds": {"at_most": 16, "total": 17},
}
# 12 of 17 repeats are first rounds. Of the other five, two go to the cell whose first four agree, and
# three are too few for the one with a loss, which needs nine more gains. The third is futile.
SIGNS = {
    "camp.one.narrow": "+++-" + "+" * 12,
    "camp.two.narrow": "+-+-" + "+" * 12,
    "camp.two.wide": "+" * 16,
}
ENDS = {
    "camp.one.narrow": (4, "spent"),
    "camp.two.narrow": (4, "futile"),
    "camp.two.wide": (6, "improved"),
}


class Killed(BaseException):
    """The driver is killed."""


class Signed(InlineExecutor):
    """Train in this process; no baseline wins, and a seed's sign decides whether its tuned one gains."""

    def __init__(
        self, *, killed_after: int | None = None, lost: str = "", hopeless: str = ""
    ) -> None:
        """Set what fails.

        Args:
            killed_after: Scored trainings after which the driver is killed.
            lost: A cell whose comparison cannot be trained.
            hopeless: A cell all of whose trials fail.
        """
        super().__init__(self._report)
        self.opened: list[str] = []
        self._killed_after, self._lost, self._hopeless = killed_after, lost, hopeless

    def _report(
        self, fields: Mapping[str, Any], *args: Any, **given: Any
    ) -> Generator[Mapping[str, Any], None, None]:
        if self._lost and f"/{self._lost}/confirm/" in fields["workdir"]:
            raise RuntimeError(self._lost)
        if self._hopeless and f"/{self._hopeless}/trials/" in fields["workdir"]:
            yield {OUTCOME: "refused", MESSAGE: "it cannot be"}
            return
        is_baseline = fields["workdir"].endswith("trial-0000")
        for report in train_job(fields, *args, **given):
            yield {**report, MIOU_SCORE: 0.0} if is_baseline and MIOU_SCORE in report else report

    def score(self, jobs: Sequence[Job], **given: Any) -> list[dict[str, Scores]]:
        if self._killed_after is not None and len(self.opened) >= self._killed_after:
            raise Killed
        scored = super().score(jobs, **given)
        self.opened += [f"{Path(job.workdir).parts[-3]}/{job.key}" for job in jobs]
        return [
            {scene: _signed(job, scores) for scene, scores in each.items()}
            for job, each in zip(jobs, scored, strict=True)
        ]


def _signed(job: Job, scores: Scores) -> Scores:
    arm, _, seed = job.key.rpartition("-seed")
    sign = SIGNS[Path(job.workdir).parts[-3]][int(seed) - 1]
    right = 60 + {"+": 1, "-": -1}[sign] * (arm == "tuned")
    return Scores(scores.classes, np.array([[right, 100 - right], [100 - right, right]]))


@dataclass
class Ran:
    """A campaign's file and storage, and what was opened by its first whole run."""

    file: Path
    site: Site
    opened: list[str]

    @property
    def result(self) -> CampaignResult:
        return load_campaign_result(self.site.storage / "camp")


def _site(root: Path) -> Site:
    names = {"CRYO_DATA": "data", "CRYO_CACHE": "cache", "CRYO_STORAGE": "runs"}
    return Site.from_env({name: str(root / path) for name, path in names.items()})


def _run(file: Path, site: Site, executor: Signed) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "executor_for", lambda **_: executor)
        run_campaign(load_campaign(file), site, console=Console(file=io.StringIO()), inline=True)
    return executor.opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("whole")
    file, site = small_campaign(root, **SHARED), _site(root)
    return Ran(file, site, _run(file, site, Signed()))


def _ends(result: CampaignResult) -> dict[str, tuple[int, str | None]]:
    stops = {cell.study: cell.improvement.stopped for cell in result.cells}
    decisions = {name: stop.decision if stop else None for name, stop in stops.items()}
    return {cell.study: (len(cell.seeds), decisions[cell.study]) for cell in result.cells}


@pytest.mark.slow
def test_saved_repeats_go_where_they_decide_and_what_is_left_is_not_spent(whole: Ran) -> None:
    assert _ends(whole.result) == ENDS
    assert len(whole.opened) == len(set(whole.opened)) == 2 * 14
    for cell in whole.result.cells:
        folder = whole.site.storage / cell.study
        spent = ENDS[cell.study][1] == "spent"
        assert read_grant(folder) == RepeatGrant(
            repeats=len(cell.seeds), is_spent=spent, campaign="camp", total=17
        )
        assert load_result(folder).improvement == cell.improvement
        assert "total" not in (folder / "study.yaml").read_text()
    report = (whole.site.storage / "camp" / "report" / "report.md").read_text()
    assert "The cells share a total of 17 repeats and have 14, reused ones among them. 1" in report
    assert "the campaign's repeats were spent" in report
    notes = "\n".join(evidence_notes(load_result(whole.site.storage / "camp.one.narrow")))
    assert "ended without a decision after 4 of at most 16 repeats: the repeats that" in notes


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [8, 24])
def test_a_killed_campaign_shares_as_one_that_ran_through(
    whole: Ran, tmp_path: Path, killed_after: int
) -> None:
    file, site = small_campaign(tmp_path, **SHARED), _site(tmp_path)
    first, second = Signed(killed_after=killed_after), Signed()
    with pytest.raises(Killed):
        _run(file, site, first)
    _run(file, site, second)
    assert sorted([*first.opened, *second.opened]) == sorted(whole.opened)
    result = load_campaign_result(site.storage / "camp")
    assert [cell.model_copy(update={"seconds": 0.0}) for cell in result.cells] == [
        cell.model_copy(update={"seconds": 0.0}) for cell in whole.result.cells
    ]


@pytest.mark.slow
def test_undecided_cells_wait_for_one_that_failed_and_all_end_as_if_it_had_not(
    whole: Ran, tmp_path: Path
) -> None:
    file, site = small_campaign(tmp_path, **SHARED), _site(tmp_path)
    with pytest.raises(CryoError) as error:
        _run(file, site, Signed(lost="camp.two.narrow"))
    assert "1 of 3 cells could not be finished: two.narrow: " in str(error.value)
    assert "share their repeats with them wait: one.narrow, two.wide. The same" in str(error.value)
    with pytest.raises(SpecError, match="cannot be run alone"):
        run_study(site.storage / "camp.two.wide" / "study.yaml", site, inline=True)
    _run(file, site, Signed())
    assert _ends(load_campaign_result(site.storage / "camp")) == ENDS


@pytest.mark.slow
def test_the_others_go_on_without_a_cell_whose_search_fails_and_it_gets_what_they_leave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, site = small_campaign(tmp_path, **SHARED), _site(tmp_path)
    for _ in range(2):
        with pytest.raises(CryoError) as error:
            _run(file, site, Signed(hopeless="camp.two.wide"))
        assert "1 of 3 cells could not be finished: two.wide: " in str(error.value)
        assert "The others are; the same command tries these again." in str(error.value)
    for name in ("camp.one.narrow", "camp.two.narrow"):
        done = load_result(site.storage / name).improvement
        assert done is not None
        assert done.stopped is not None
        assert done.stopped.decision == ENDS[name][1]
    said = [record.message for record in caplog.records if "without it" in record.message]
    assert said == [
        "camp.two.wide has no winner, so the cells that share 17 repeats go on without it. If its "
        "search succeeds in a later run, it gets its first 4 and what they leave."
    ], "once"
    _run(file, site, Signed())
    assert _ends(load_campaign_result(site.storage / "camp")) == ENDS
    late = read_grant(site.storage / "camp.two.wide")
    assert late == RepeatGrant(repeats=6, turn=1, campaign="camp", total=17)


@pytest.mark.slow
def test_a_cell_that_succeeds_after_a_kill_takes_nothing_back(tmp_path: Path) -> None:
    """The driver dies after another cell was granted more, and before it has used it."""
    file, site = small_campaign(tmp_path, **SHARED), _site(tmp_path)
    first = Signed(hopeless="camp.two.narrow", killed_after=16)
    with pytest.raises(Killed):
        _run(file, site, first)
    late = RepeatGrant(repeats=4, turn=1, campaign="camp", total=17)
    assert read_grant(site.storage / "camp.two.narrow") == late
    granted = read_grant(site.storage / "camp.two.wide")
    assert granted is not None
    assert granted.repeats == 6
    second = Signed()
    _run(file, site, second)
    assert _ends(load_campaign_result(site.storage / "camp")) == ENDS
    assert len({*first.opened, *second.opened}) == len([*first.opened, *second.opened]) == 2 * 14
    assert read_grant(site.storage / "camp.two.narrow") == late


def test_plan_prices_the_total_and_says_if_it_limits_nothing(tmp_path: Path) -> None:
    def lines(**seeds: int) -> str:
        file = small_campaign(tmp_path, **{**SHARED, "seeds": seeds})
        return "\n".join(plan_campaign(load_campaign(file), site=_site(tmp_path)).lines())

    assert "repeats:" not in lines(at_most=16)
    text = lines(at_most=16, total=17)
    assert "repeats: at most 17 of all cells together, 68 epochs of retraining at most" in text
    assert "without a total 48 repeats at most" in text
    alone, shared = (
        re.findall(r"epochs in all: about (\d+)", t)[0] for t in (lines(at_most=16), text)
    )
    assert int(alone) - int(shared) == 3 * 6 * 4 - 68, "as many as six each, but for the total"
    assert "a total of 48 limits nothing, all cells have at most 48" in lines(at_most=16, total=48)


def test_the_dearest_cells_may_get_most_of_the_total(tmp_path: Path) -> None:
    file = small_campaign(tmp_path, **SHARED)
    size = plan_campaign(load_campaign(file), site=_site(tmp_path))
    first, *others = size.cells
    dear = replace(size.cells[first], epochs_confirm_most=10 * 16)
    cells = {first: dear, **{name: size.cells[name] for name in others}}
    assert replace(size, cells=cells).epochs_shared == 9 * 10 + 8 * 4


def test_a_damaged_grant_is_a_message(tmp_path: Path) -> None:
    write_grant(RepeatGrant(repeats=4, campaign="camp", total=17), tmp_path)
    assert read_grant(tmp_path) == RepeatGrant(repeats=4, campaign="camp", total=17)
    (tmp_path / "repeats.json").write_text('{"repeats": 4}')
    with pytest.raises(StorageError, match="run the campaign again: it is written anew"):
        read_grant(tmp_path)


def _cell(signs: str, decision: Decision | None = None) -> CellResult:
    scores = [0.5 + {"+": 1, "-": -1}[sign] / 100 for sign in signs], [0.5] * len(signs)
    improvement = relative_improvement(*scores, at_most=16)
    assert improvement.stopped is not None
    stopped = replace(improvement.stopped, decision=decision or improvement.stopped.decision)
    changes = {
        "seeds": tuple(range(1, len(signs) + 1)),
        "tuned": tuple(scores[0]),
        "baseline": tuple(scores[1]),
        "improvement": replace(improvement, stopped=stopped),
    }
    return a_cell("fronts", "unet").model_copy(update=changes)


def test_the_report_says_why_each_cell_ended() -> None:
    kept = _cell("----").model_copy(update={"winner_is_baseline": True})
    cells = (_cell("++++++"), _cell("+-+-"), _cell("+-" * 8), _cell("++++", "spent"), kept)
    spec = {"seeds": {"at_most": 16, "total": 36}}
    text, table = parts(a_campaign_result(cells=cells, spec=spec))
    assert text == (
        "The cells share a total of 36 repeats and have 34, reused ones among them. 1 cell ended "
        "without a decision because too few were left for another."
    )
    assert isinstance(table, Table)
    assert [row[2:] for row in table.rows] == [
        ("6", "decided"),
        ("4", "given up: more would decide with a chance below 5 %"),
        ("16", "not decided by all 16"),
        ("4", "the campaign's repeats were spent"),
        ("4", "the fixed rate won: nothing to compare"),
    ]
    alone, _ = parts(a_campaign_result(cells=cells[:3], spec={"seeds": {"at_most": 16}}))
    assert alone == "The cells stopped after 26 of at most 48 repeats."
    assert list(parts(a_campaign_result())) == [], "fixed seeds stop nowhere"
