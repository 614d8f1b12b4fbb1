"""A tuned U-Net as a rival in a campaign: its cells, its comparison, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from cryo_hpo.campaign.rivals import compare_with_rivals
from cryo_hpo.campaign.verdict import metrics
from cryo_hpo.cli.main import main
from cryo_hpo.config import cell_studies, load_campaign
from cryo_hpo.config.space import SearchSpace
from cryo_hpo.errors import SpecError
from cryo_hpo.report import write_campaign
from cryo_hpo.report.answers import headline
from cryo_hpo.report.campaign import page
from cryo_hpo.report.rivals import SHORT
from cryo_hpo.report.table import Table
from cryo_hpo.results.campaign import CampaignResult, CellResult, load_campaign_result, write
from cryo_hpo.stats import relative_improvement
from cryo_hpo.stats.pooled import mean_relative_improvement

from ..support.campaigns import a_campaign_result, a_cell, small_campaign


def _cells(datasets: int = 2, gain: float = 0.1, seeds: int = 6) -> tuple[CellResult, ...]:
    """A model and a rival on each of some datasets; the model is ahead by a share, on every seed."""
    rng = np.random.default_rng(0)
    cells = []
    for number in range(datasets):
        rival = rng.uniform(0.4, 0.6, size=seeds)
        for name, scores in (("galileo", rival * (1 + gain)), ("unet", rival)):
            values = tuple(float(score) for score in scores)
            changes: dict[str, Any] = {
                "study": f"camp.d{number}.{name}",
                "dataset": f"d{number}",
                "row": name,
                "encoder": name,
                "seeds": tuple(range(1, seeds + 1)),
                "tuned": values,
                "baseline": values,
                "improvement": relative_improvement(values, values),
                "is_rival": name == "unet",
            }
            cells.append(a_cell("fronts", "unet").model_copy(update=changes))
    return tuple(cells)


def _result(cells: tuple[CellResult, ...]) -> CampaignResult:
    comparisons, summaries = compare_with_rivals(cells)
    return a_campaign_result(cells=cells, rivals=comparisons, rival_summaries=summaries)


def test_every_dataset_and_share_has_its_rival_whatever_is_skipped(tmp_path):
    matrix = {
        "encoders": {"narrow": {"width": 4}, "wide": {"width": 6}},
        "datasets": {"one": {"card": "one.yaml"}, "two": {"card": "two.yaml"}},
        "label_fractions": [1.0, 0.5],
        "regimes": ["full", "frozen"],
    }
    skip = [{"regime": "full"}, {"dataset": "two", "label_fraction": 0.5}]
    file = small_campaign(tmp_path, matrix=matrix, skip=skip, rivals=["unet"])
    campaign = load_campaign(file)
    rivals = [campaign.study_name(cell) for cell in campaign.cells() if cell.is_rival]
    assert rivals == [
        "camp.one.unet.full.100pct",
        "camp.one.unet.full.50pct",
        "camp.two.unet.full.100pct",
    ]
    assert [cell.dataset for cell in campaign.cells()] == ["one"] * 6 + ["two"] * 3
    assert all(cell.regime == "frozen" for cell in campaign.cells() if not cell.is_rival)


def test_a_rival_has_the_data_and_the_search_and_nothing_of_a_pretrained_encoder(tmp_path):
    rate = {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}
    rank = {"kind": "choice", "values": [4, 8]}
    search = {
        "space": {"params": {"optim.lr": rate, "model.lora.rank": rank}},
        "trials": 3,
        "parallel": 1,
    }
    matrix = {
        "encoders": {"galileo": {"encoder": "galileo-nano", "decoder": "upernet", "channels": 8}},
        "datasets": {"one": {"card": "one.yaml", "normalize": "pretraining", "crop": 16}},
        "regimes": ["lora"],
    }
    base = {
        "model": {"lora": {"rank": 2}},
        "optim": {"lr": 3e-3, "layer_decay": 0.8},
        "epochs": 3,
    }
    arms = {"free": {"optim.name": "schedule-free"}, "low": {"model.lora.rank": 1}}
    text = {"matrix": matrix, "base": base, "search": search, "baselines": arms, "skip": []}
    campaign = load_campaign(small_campaign(tmp_path, rivals={"unet": {"width": 4}}, **text))
    model, rival = cell_studies(campaign).values()
    assert rival.base.data == model.base.data.model_copy(update={"normalize": "dataset"})
    kept = (rival.base.model.encoder, rival.base.model.decoder, rival.base.model.tune)
    assert kept == ("unet", "unet", "full")
    assert rival.base.model.width == 4
    assert rival.base.optim == model.base.optim.model_copy(update={"layer_decay": 1.0})
    assert rival.seeds == model.seeds
    assert rival.search is not None
    assert isinstance(rival.search.space, SearchSpace)
    assert list(rival.search.space.params) == ["optim.lr"]
    assert list(rival.baselines) == ["free"]


def test_a_rival_and_an_encoder_do_not_share_a_name(tmp_path):
    matrix = {"encoders": {"unet": {"width": 4}}, "datasets": {"one": {"card": "one.yaml"}}}
    file = small_campaign(tmp_path, matrix=matrix, skip=[], rivals=["unet"])
    with pytest.raises(SpecError, match=r"rivals: The matrix has an encoder .* 'unet' too"):
        load_campaign(file)
    for wrong in (["vit"], "unet", {"unet": {"channels": 4}}):
        with pytest.raises(SpecError, match="rivals"):
            load_campaign(small_campaign(tmp_path, rivals=wrong))


def test_every_cell_is_compared_with_the_rival_on_its_data_by_seed():
    cells = _cells(gain=0.1)
    comparisons, summaries = compare_with_rivals(cells)
    assert [one.dataset for one in comparisons] == ["d0", "d1"]
    for one in comparisons:
        assert one.improvement is not None
        assert one.improvement.typical_pct.mid == pytest.approx(10)
        assert one.improvement.verdict == "improved"
    (summary,) = summaries
    assert (summary.row, summary.ahead, summary.behind, summary.verdict) == (
        "galileo", 2, 0, "improved",
    )  # fmt: skip


def test_only_seeds_that_both_have_are_compared():
    first, rival, *_ = _cells()
    fewer = first.model_copy(update={"seeds": (2, 3, 9), "tuned": (0.1, 0.2, 0.3)})
    ((one,), _) = compare_with_rivals((fewer, rival))
    assert one.seeds == (2, 3)
    expected = relative_improvement([0.1, 0.2], [rival.tuned[1], rival.tuned[2]])
    assert one.improvement == expected
    none = first.model_copy(update={"seeds": (8, 9), "tuned": (0.1, 0.2)})
    ((one,), summaries) = compare_with_rivals((none, rival))
    assert (one.improvement, summaries) == (None, ())


def test_cells_that_stop_when_decided_have_intervals_for_that():
    (one, *_), _ = compare_with_rivals(_cells(), at_most=16)
    assert one.improvement is not None
    assert one.improvement.stopped is not None
    assert one.improvement.stopped.at_most == 16


def test_cells_that_saw_other_files_are_not_compared_and_the_report_says_so():
    cells = _cells()
    prints = {cell.study: {"train": "a"} for cell in cells}
    prints["camp.d0.unet"] = {"train": "b"}
    comparisons, summaries = compare_with_rivals(cells, fingerprints=prints)
    assert [one.improvement is None for one in comparisons] == [True, False]
    assert summaries[0].datasets == ("d1",)
    result = a_campaign_result(cells=cells, rivals=comparisons, rival_summaries=summaries)
    parts = {section.title: section.parts for section in page(result).sections}
    assert "not compared: other files" in str(parts["Against the rivals"][-1])


@pytest.mark.parametrize(
    ("datasets", "gain", "answer", "few"),
    [
        (2, 0.1, "Yes: galileo beats", True),
        (5, 0.1, "Yes: galileo beats", False),
        (5, -0.1, "No: galileo is behind", False),
    ],
)
def test_the_report_answers_first_whether_the_model_beats_the_rival(
    datasets, gain, answer, few, tmp_path
):
    result = _result(_cells(datasets, gain))
    text = headline(result)
    assert text.startswith(f"{answer} a tuned U-Net here. ")
    assert max(map(len, text.split(". "))) < 160, "sentences to read at a glance"
    first, second = page(result).sections[:2]
    assert (first.title, second.title) == ("Answers", "Against the rivals")
    row = cast(Table, first.parts[0]).rows[0]
    counts = (datasets, 0, 0) if gain > 0 else (0, 0, datasets)
    assert row[:3] == (
        "galileo against tuned U-Net",
        SHORT["improved" if gain > 0 else "worse"],
        f"{100 * gain:+.2f} %",
    )
    assert row[4:] == tuple(map(str, counts))
    assert any("fewer than 4 datasets" in str(part) for part in first.parts) == few
    (statistics,) = (s.parts for s in page(result).sections if s.title == "Statistics")
    models = [row[1] for row in cast(Table, statistics[-1]).rows]
    assert models == ["galileo", "unet"] * datasets + ["galileo against U-Net"] * datasets
    write(result, tmp_path)
    assert load_campaign_result(tmp_path) == result
    write_campaign(result, tmp_path / "report")
    assert f"{answer} a tuned U-Net" in (tmp_path / "report" / "report.md").read_text()
    numbers = metrics(result)
    assert numbers["vs_unet.galileo.relative_pct"] == pytest.approx(100 * gain)
    assert numbers["vs_unet.galileo.ahead"] == (datasets if gain > 0 else 0)


def test_a_difference_that_varies_in_sign_is_no_answer():
    ahead, behind = _cells(1, 0.1), _cells(1, -0.1)
    moved = tuple(cell.model_copy(update={"dataset": "other"}) for cell in behind)
    _, (summary,) = compare_with_rivals((*ahead, *moved))
    assert (summary.verdict, summary.ahead, summary.behind) == ("not shown", 1, 1)


def test_several_models_have_an_answer_together_and_each():
    more = tuple(
        cell.model_copy(update={"row": "dofa", "encoder": "dofa", "study": cell.study + "2"})
        for cell in _cells()
        if not cell.is_rival
    )
    result = _result((*_cells(), *more))
    assert [one.row for one in result.rival_summaries] == [None, "galileo", "dofa"]
    assert headline(result).startswith("Yes: the models of this campaign beat a tuned U-Net here. ")
    assert headline(result).count("U-Net") == 1, "each has a row, all have the sentence"
    assert "vs_unet.ahead" in metrics(result)


def test_without_rivals_nothing_is_said_of_them():
    result = a_campaign_result()
    assert "U-Net" not in headline(result)
    assert not any(name.startswith("vs_") for name in metrics(result))


def test_cells_that_share_a_rival_are_drawn_together():
    """Copies of a cell are no new evidence within a group, and are taken for it outside of one."""
    rng = np.random.default_rng(1)
    pairs = [
        (rng.uniform(0.4, 0.7, 6).tolist(), rng.uniform(0.4, 0.6, 6).tolist()) for _ in range(3)
    ]
    once = mean_relative_improvement(pairs)
    names = ["a", "b", "c"]
    assert mean_relative_improvement(pairs, groups=names) == once
    twice = mean_relative_improvement([*pairs, *pairs], groups=[*names, *names])
    apart = mean_relative_improvement([*pairs, *pairs])
    assert once.relative_pct is not None
    assert twice.relative_pct is not None
    assert apart.relative_pct is not None
    assert twice.relative_pct.low == pytest.approx(once.relative_pct.low)
    assert twice.relative_pct.high == pytest.approx(once.relative_pct.high)
    width = apart.relative_pct.high - apart.relative_pct.low
    assert width < 0.9 * (once.relative_pct.high - once.relative_pct.low)


@pytest.mark.slow
def test_a_campaign_with_a_rival_runs_to_its_answer(tmp_path):
    root: Path = tmp_path
    matrix = {"encoders": {"narrow": {"width": 4}}, "datasets": {"one": {"card": "one.yaml"}}}
    small_campaign(
        root, matrix=matrix, skip=[], rivals={"unet": {"width": 4}}, seeds=[1], transfer=False
    )
    fields = yaml.safe_load((root / "camp.yaml").read_text())
    fields["base"] = {**fields["base"], "epochs": 1}
    fields["search"] = {**fields["search"], "trials": 2, "scheduler": {"kind": "none"}}
    (root / "camp.yaml").write_text(yaml.safe_dump(fields))
    names = {"CRYO_DATA": "data", "CRYO_CACHE": "cache", "CRYO_STORAGE": "runs"}
    env = {name: str(root / place) for name, place in names.items()}
    words = ["run", "--inline", str(root / "camp.yaml")]
    done = CliRunner().invoke(main, words, env=env, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "narrow is not clearly better than a tuned U-Net here" in done.output
    result = load_campaign_result(root / "runs" / "camp")
    assert [cell.study for cell in result.cells] == ["camp.one.narrow", "camp.one.unet"]
    (one,) = result.rivals
    assert one.improvement is not None
    assert (one.improvement.tuned, one.improvement.baseline) == tuple(
        cell.tuned[0] for cell in result.cells
    )
    assert result.mlflow_run_id is not None
    run = MlflowClient(f"sqlite:///{root / 'runs' / 'mlflow.db'}").get_run(result.mlflow_run_id)
    assert "vs_unet.narrow.ahead" in run.data.metrics
