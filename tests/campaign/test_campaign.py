"""A campaign without Ray: what is refused, what is offered, what is said of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner

from cryo_hpo.campaign import check_campaign, plan_campaign
from cryo_hpo.campaign.transfer import SPREAD, Transfer, belief, with_belief
from cryo_hpo.campaign.verdict import metrics
from cryo_hpo.cli.main import main
from cryo_hpo.config import Site, cell_studies, load_campaign
from cryo_hpo.config.space import Float, Int, Scalar
from cryo_hpo.errors import CryoError, SpecError, StorageError
from cryo_hpo.report import write_campaign
from cryo_hpo.report.answers import answers, answers_text, headline
from cryo_hpo.report.campaign import cells_csv, page, table
from cryo_hpo.report.table import Table
from cryo_hpo.results.campaign import Offer, load_campaign_result, write
from cryo_hpo.search.trials import Record
from cryo_hpo.stats import Interval, Verdict, relative_improvement
from cryo_hpo.study.folder import claim, keep_spec, refuse_another
from cryo_hpo.study.plan import plan

from ..support.campaigns import SCORES, a_campaign_result, small_campaign
from ..support.results import a_result

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def site(tmp_path, monkeypatch):
    env = {f"CRYO_{n}": str(tmp_path / n.lower()) for n in ("DATA", "STORAGE", "CACHE", "WEIGHTS")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return Site.from_env(env)


@pytest.fixture
def campaign(tmp_path):
    return load_campaign(small_campaign(tmp_path))


def _run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def test_check_and_plan_take_a_campaign(tmp_path, site):
    file = small_campaign(tmp_path)
    said = _run("check", file)
    assert said.exit_code == 0, said.output
    assert "3 cells" in said.output
    said = _run("plan", file)
    assert said.exit_code == 0, said.output
    campaign = load_campaign(file)
    sizes = [plan(study, site=site) for study in cell_studies(campaign).values()]
    total = sum(p.epochs_expected + p.epochs_confirm for p in sizes)
    assert f"about {total};" in said.output
    assert plan_campaign(campaign, site=site).epochs == total


def test_everything_that_is_wrong_with_any_cell_is_said_at_once(tmp_path, site):
    encoders = {
        "plain": {"width": 4},
        "unknown": {"encoder": "unett"},
        "small": {"encoder": "unet", "width": 4, "weights": "nothing.pt"},
    }
    file = small_campaign(
        tmp_path,
        matrix={
            "encoders": encoders,
            "datasets": {"one": {"card": "one.yaml"}, "gone": {"card": "gone.yaml"}},
        },
        skip=[],
    )
    text = (tmp_path / "one.yaml").read_text()
    (tmp_path / "gone.yaml").write_text(
        text.replace("root: one", "root: gone").replace("name: one", "name: gone")
    )
    said = _run("check", file)
    assert said.exit_code == 2
    assert said.output.count("unett") >= 1
    assert "Did you mean 'unet'" in said.output
    assert "nothing.pt" in said.output
    assert re.search(r"gone.*does not exist", said.output)
    assert "In one.unknown, gone.unknown." in said.output
    assert re.search(r"camp\.yaml:\d+: ", said.output)
    assert not (tmp_path / "storage").exists(), "nothing has run"


def test_a_warning_is_printed_once_with_the_cells_that_have_it(tmp_path, site, caplog):
    file = small_campaign(tmp_path)
    text = file.read_text()
    assert "batch_size: 2" in text
    file.write_text(text.replace("batch_size: 2", "batch_size: 50"))
    card = tmp_path / "one.yaml"
    card.write_text(card.read_text() + "assumed: [bands]\n")
    check_campaign(load_campaign(file), site=site)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    batches = [line for line in said if "batch_size: 50 is more" in line]
    assert len(batches) == 1, said
    assert batches[0].endswith("In all 3 cells.")
    assert len([line for line in said if "The card of 'one' holds guesses" in line]) == 1


def test_a_name_belongs_to_one_spec(campaign, tmp_path, site):
    folder = claim(campaign, site)
    keep_spec(campaign, folder)
    claim(campaign, site)
    other = load_campaign(small_campaign(tmp_path, seeds=[1, 2, 3]))
    with pytest.raises(SpecError, match=r"seeds: .* Give this campaign a new name"):
        check_campaign(other, site=site)
    study = next(iter(cell_studies(campaign).values()))
    with pytest.raises(SpecError, match="'camp' is a campaign"):
        refuse_another(study.model_copy(update={"name": "camp"}), site)
    (folder / "campaign.yaml").rename(folder / "study.yaml")
    with pytest.raises(SpecError, match="'camp' is a study"):
        claim(campaign, site)


class _Run:
    """As much of a cell at work as transfer looks at."""

    def __init__(self, campaign, number: int, rate: float) -> None:
        self.cell, self.study = list(cell_studies(campaign).items())[number]
        params: dict[str, Scalar] = {"optim.lr": rate}
        self.trials = [Record(1, params, "complete", params, {2: 0.5})]


def test_a_cell_is_offered_what_its_siblings_found_and_the_same_when_it_goes_on(campaign, tmp_path):
    one, two, wide = (_Run(campaign, n, rate) for n, rate in enumerate((1e-2, 3e-2, 5e-3)))
    transfer = Transfer(campaign, tmp_path)
    assert transfer.informed(one) == one.study, "nobody has finished"  # type: ignore[arg-type]
    transfer.searched(one)  # type: ignore[arg-type]
    informed = transfer.informed(two)  # type: ignore[arg-type]
    assert informed.search is not None
    assert informed.search.prior["optim.lr"].center == pytest.approx(1e-2)
    transfer.searched(two)  # type: ignore[arg-type]
    again = Transfer(campaign, tmp_path)
    for run in (wide, two):
        again.searched(run)  # type: ignore[arg-type]
    assert again.informed(two) == informed, "whatever has finished since"  # type: ignore[arg-type]
    assert again.informed(one) == one.study  # type: ignore[arg-type]
    (offer,) = again.offers(two.study.name)
    assert offer == Offer(study=one.study.name, params={"optim.lr": 1e-2})


def test_another_encoder_offers_only_on_the_same_dataset(campaign, tmp_path):
    one, two, wide = (_Run(campaign, n, rate) for n, rate in enumerate((1e-2, 3e-2, 5e-3)))
    transfer = Transfer(campaign, tmp_path)
    transfer.searched(one)  # type: ignore[arg-type]
    transfer.informed(wide)  # type: ignore[arg-type]
    assert transfer.offers(wide.study.name) == (), (
        "narrow on one: nothing in common with wide on two"
    )
    other = Transfer(campaign, tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.searched(two)  # type: ignore[arg-type]
    other.informed(wide)  # type: ignore[arg-type]
    assert [offer.study for offer in other.offers(wide.study.name)] == [two.study.name]


@pytest.mark.parametrize("left", [b"", b'{"x": [', b"[1]", b'{"x": [{"params": 1}]}', b"\xff"])
def test_damaged_offers_are_refused_with_the_remedy(campaign, tmp_path, left):
    (tmp_path / "offers.json").write_bytes(left)
    with pytest.raises(StorageError, match=r"offers\.json' is damaged.*Restore it"):
        Transfer(campaign, tmp_path)


def test_without_transfer_nothing_is_offered(tmp_path):
    campaign = load_campaign(small_campaign(tmp_path, transfer=False))
    one, two = (_Run(campaign, n, 1e-2) for n in (0, 1))
    transfer = Transfer(campaign, tmp_path)
    transfer.searched(one)  # type: ignore[arg-type]
    assert transfer.informed(two) == two.study  # type: ignore[arg-type]


def test_a_winning_baseline_outside_the_space_is_offered_within_it(campaign):
    study = next(iter(cell_studies(campaign).values()))
    informed = with_belief(study, [Offer(study="x", params={"optim.lr": 1e-7})])
    assert informed.search is not None
    assert informed.search.prior["optim.lr"].center == 1e-3


@pytest.mark.parametrize(
    ("param", "values", "center", "spread"),
    [
        (Float(low=1e-5, high=1e-1, log=True), [1e-3], 1e-3, SPREAD),
        (Float(low=1e-6, high=1e-1, log=True), [1e-5, 1e-1], 1e-3, 100.0),
        (Float(low=0.0, high=0.6), [0.2, 0.4], 0.3, 0.1),
        (Int(low=1, high=13), [2, 12], 7.0, 5.0),
    ],
)
def test_a_belief_covers_what_was_found(param, values, center, spread):
    found = belief(param, values)
    assert found["center"] == pytest.approx(center)
    assert found["spread"] == pytest.approx(spread)


def test_the_table_is_cryo_benchs():
    result = a_campaign_result()
    for tuned in (False, True):
        sheet = table(result, tuned=tuned)
        assert sheet.head == ("model", "fronts", "ponds", "avg. mIoU", "avg. rank")
        for row in sheet.rows:
            means = [100 * np.mean(SCORES[d][row[0]][tuned]) for d in ("fronts", "ponds")]
            assert [float(x) for x in row[1:3]] == pytest.approx(means, abs=0.005)
            assert float(row[3]) == pytest.approx(np.mean(means), abs=0.005)
    fixed, tuned_ = (table(result, tuned=t) for t in (False, True))
    assert [row[-1] for row in fixed.rows] == ["2.00", "1.00"]
    assert [row[-1] for row in tuned_.rows] == ["1.50", "1.50"]


def test_the_headline_is_the_mean_over_cells_and_counts_verdicts():
    result = a_campaign_result()
    gains = [cell.improvement.relative_pct.mid for cell in result.cells]
    mean = np.mean(gains)
    assert f"{mean:+.2f} %" in headline(result)
    assert "mean of 4 cells" in headline(result)
    verdicts = [cell.improvement.verdict for cell in result.cells]
    (row,) = answers(result).rows
    words: list[Verdict] = ["improved", "not shown", "worse"]
    assert row[4:] == tuple(str(verdicts.count(word)) for word in words)
    assert all(cell in answers_text(result) for cell in row)
    numbers = metrics(result)
    assert numbers["mean_relative_improvement_pct"] == pytest.approx(mean)
    assert numbers["tuned.test_miou"] > numbers["baseline.test_miou"]


def test_the_interval_over_fewer_than_four_cells_decides_nothing():
    whole = a_campaign_result()
    mean = Interval(mid=9.0, low=5.0, high=12.0, level=0.95)
    few = whole.overall.model_copy(update={"relative_pct": mean, "num_cells": 3})
    result = whole.model_copy(update={"overall": few})
    assert headline(result).startswith("No clear difference: tuning changes")
    assert page(result).tone == "not shown"
    four = result.model_copy(update={"overall": few.model_copy(update={"num_cells": 4})})
    assert (headline(four)[:8], page(four).tone) == ("Improved", "improved")


def test_a_cell_left_out_is_a_gap_and_not_a_zero():
    whole = a_campaign_result()
    result = whole.model_copy(update={"cells": whole.cells[:3]})
    rows = {row[0]: row for row in table(result, tuned=False).rows}
    assert rows["galileo"][2] == "-"
    assert rows["galileo"][3] == rows["galileo"][1]


def test_the_report_is_written_in_every_format(tmp_path, site):
    result = a_campaign_result()
    write(result, tmp_path)
    assert load_campaign_result(tmp_path) == result
    names = {file.name for file in write_campaign(result, tmp_path / "report")}
    assert names == {
        "report.html", "report.md", "tables.tex", "cells.csv", "gains.svg", "gains.png",
    }  # fmt: skip
    text = (tmp_path / "report" / "report.md").read_text()
    for word in ("Fixed learning rate", "Tuned", "1 → 0 of 3", "offered LRs", "full grid"):
        assert word in text
    assert "<svg" in (tmp_path / "report" / "report.html").read_text()
    assert len(cells_csv(result).splitlines()) == 1 + 4 * 3
    said = _run("report", tmp_path, "--out", tmp_path / "again")
    assert said.exit_code == 0, said.output
    assert headline(result) in said.output
    assert (tmp_path / "again" / "report.html").exists()


def test_p_values_are_words_below_the_fold():
    """The table of cells counts repeats that gain, as a study's verdict does."""
    result = a_campaign_result()
    (first, *rest) = result.cells
    scores = ((0.5,) * 6, (0.6, 0.61, 0.62, 0.63, 0.64, 0.65))
    decided = first.model_copy(update={"improvement": relative_improvement(*reversed(scores))})
    sections = page(result.model_copy(update={"cells": (decided, *rest)})).sections
    parts = {section.title: section.parts for section in sections}
    cells = cast(Table, parts["Cells"][-1])
    typical = decided.improvement.typical_pct
    shown = [cells.rows[0][cells.head.index(name)] for name in ("verdict", "typical", "interval")]
    assert shown == [
        "improved",
        f"{typical.mid:+.1f} %",
        f"{typical.low:+.1f} to {typical.high:+.1f}",
    ]
    assert [head for head in cells.head if head in ("p", "repeats that gain")] == [
        "repeats that gain"
    ]
    assert [row[cells.head.index("repeats that gain")] for row in cells.rows] == [
        "6 of 6", "1 of 3", "3 of 3", "0 of 3",
    ]  # fmt: skip
    chances = cast(Table, parts["Statistics"][1])
    assert chances.rows[0] == (
        "fronts", "unet", "All six repeats agree", "in 3.1 % of studies (p = 0.0312)",
    )  # fmt: skip
    assert chances.rows[1][2:] == (
        "1 of 3 repeats gains and 2 lose", "three repeats are too few for p < 0.05 (p = 1)",
    )  # fmt: skip
    titles = [section.title for section in sections]
    assert titles.index("Statistics") > titles.index("Cells")


def test_the_page_says_how_cells_with_an_offer_did_beside_those_without():
    parts = {section.title: section.parts for section in page(a_campaign_result()).sections}
    assert "2 cells began with what others had found, 2 without." in str(parts["Transfer"][-1])
    without = page(a_campaign_result(transfer=False))
    assert "Transfer" not in {section.title for section in without.sections}


def test_a_campaign_whose_baselines_all_scored_0_has_no_number():
    whole = a_campaign_result()
    zero = {"baseline": (0.0, 0.0, 0.0)}
    cells = tuple(cell.model_copy(update=zero) for cell in whole.cells)
    from cryo_hpo.campaign.verdict import overall

    result = whole.model_copy(update={"cells": cells, "overall": overall(cells)})
    assert result.overall.relative_pct is None
    assert result.overall.undefined == 4
    assert "nothing is relative to it" in headline(result)
    json.loads(result.model_dump_json())


def test_a_campaign_that_0_1_0_finished_is_read(tmp_path):
    raw = json.loads((GOLDEN / "campaign-result-0.1.0.json").read_text())
    result = load_campaign_result(GOLDEN / "campaign-result-0.1.0.json")
    assert (raw["version"], result.version) == (1, 2)
    old, mean = raw["overall"], result.overall.relative_pct
    assert mean is not None
    ends = (mean.mid, mean.low, mean.high, mean.level)
    assert ends == (old["mean_relative_pct"], old["low_pct"], old["high_pct"], old["level"])
    cell = result.cells[0]
    assert cell.improvement == relative_improvement(cell.tuned, cell.baseline)
    write(result, tmp_path)
    assert load_campaign_result(tmp_path) == result


def test_another_version_or_no_result_is_refused(tmp_path):
    with pytest.raises(CryoError, match="Run the campaign first"):
        load_campaign_result(tmp_path)
    (tmp_path / "campaign-result.json").write_text(a_result().model_dump_json())
    with pytest.raises(CryoError, match="version 2"):
        load_campaign_result(tmp_path)
