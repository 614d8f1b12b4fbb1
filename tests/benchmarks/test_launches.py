"""What a card will measure is rehearsed on a CPU: the same code, without graphs, on a small model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import launches, stacked
from benchmarks.capture import CapturedStep
from benchmarks.card_steps import (
    MODELS,
    first_batch,
    make_recipe,
    site_below,
    write_scenes,
)
from cryo_hpo.config import DatasetCard, ModelSpec
from cryo_hpo.training.opening import open_run
from cryo_hpo.training.run import Run
from cryo_hpo.training.step import take_step

CPU = torch.device("cpu")
SMALL = ModelSpec(encoder="unet", decoder="unet", width=4)
NUMBER = r"\d+\.\d"


@pytest.fixture
def scenes(tmp_path: Path) -> DatasetCard:
    torch.set_num_threads(1)
    return write_scenes(tmp_path, {"train": 2, "val": 1})


def _run(root: Path, card: DatasetCard, optim: dict[str, str | float]) -> Run:
    recipe = make_recipe(card, model=SMALL, crop=32, batch_size=2)
    changes = {f"optim.{key}": value for key, value in optim.items()}
    run = open_run(recipe.replace(changes), site_below(root), CPU)
    run.model.train()
    return run


@pytest.mark.parametrize("optim", [{}, {"clip_grad_norm": 0.1}, {"encoder_lr_scale": 0.125}])
def test_a_captured_step_trains_as_the_loops_own(
    scenes: DatasetCard, tmp_path: Path, optim: dict[str, str | float]
) -> None:
    """Bit for bit, over steps whose rates differ, where float32 holds the rates exactly."""
    rates: dict[str, str | float] = {"lr": 2**-13, "schedule": "constant", "warmup_epochs": 2}
    plain, other = (_run(tmp_path, scenes, {**rates, **optim}) for _ in range(2))
    for group in plain.optimizer.param_groups:
        group.update(fused=True, foreach=False)  # as on a card
    x, y = first_batch(plain, CPU)
    step = CapturedStep(other, x, y)
    for number, position in enumerate((0, 1, 2)):
        batch = x + number, y
        expected = take_step(plain, *batch, position=position)
        found = step(*batch, position=position)
        for one, two in zip(expected, found, strict=True):
            assert torch.equal(one, two)
    assert plain.factor(0) < plain.factor(1), "a rate that stays would hide a fixed one"
    pairs = zip(plain.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_a_captured_step_is_of_adamw_alone(scenes: DatasetCard, tmp_path: Path) -> None:
    recipe = make_recipe(scenes, model=SMALL, crop=32, batch_size=2)
    run = open_run(recipe.replace({"optim.name": "sgd"}), site_below(tmp_path), CPU)
    with pytest.raises(ValueError, match="of AdamW alone and of no average, got SGD"):
        CapturedStep(run, *first_batch(run, CPU))


def test_a_row_compares_the_loop_with_the_captured_step(
    scenes: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "ROUNDS", 1)
    here = site_below(tmp_path)
    row = launches.compare_captured(scenes, here, CPU, SMALL, 2, crop=32)
    assert re.fullmatch(
        rf"{NUMBER} \| {NUMBER} \| \d+\.\d\d \| \d+ \| \d+ % \| 0\.0 \| {NUMBER}", row
    )

    def fails(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(launches, "CapturedStep", fails)
    row = launches.compare_captured(scenes, here, CPU, SMALL, 2, crop=32)
    why = "does not run: RuntimeError: operation not permitted when stream is capturing more"
    assert re.fullmatch(rf"{NUMBER} \| {why}", row), "what was measured before is kept"


def test_every_part_goes_on_where_a_row_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(launches, "open_run", fails)
    for part in ("captured", "reduced"):
        head, _, *rows = launches.PARTS[part](tmp_path / part, CPU)
        assert all(row.endswith("| does not run: RuntimeError: no kernel image |") for row in rows)
        assert len(rows) == {"captured": 2 * len(MODELS), "reduced": 2}[part]
        assert head.startswith("| model")
    assert [name for name, _ in launches.CAPTURED[:2]] == ["ViT-B, UPerNet-512"] * 2


def test_a_way_of_many_rates_that_does_not_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("vmap knows no\nsuch kernel")

    ways = {"one at a time": lambda *_: None, "encoder shared": fails}
    monkeypatch.setattr(stacked, "_ways", lambda _: ways)
    one, two = stacked.compare(None, steps=1, device=CPU)
    assert one.startswith("one at a time: ")
    assert two == "encoder shared: does not run on cpu: vmap knows no such kernel"


def test_a_part_that_dies_or_hangs_costs_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run(words: list[str], *, timeout: float, check: bool) -> subprocess.CompletedProcess[str]:
        asked.append(words[-1])
        if words[-1] == "processes":
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, -11 if words[-1] == "captured" else 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert list(launches.run_parts()) == [
        "captured: does not run: its process ended with -11",
        "processes: stopped after 90 s; what it printed is whole",
    ]
    assert asked == list(launches.LIMITS_S) == list(launches.PARTS)
    assert "### reduced" in capsys.readouterr().out
    assert sum(launches.LIMITS_S.values()) <= 6 * 60


def test_without_a_card_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["launches"])
    with pytest.raises(SystemExit, match="No CUDA card is visible to torch here"):
        launches.main()


@pytest.mark.slow
def test_trainings_of_several_processes_are_timed_together(
    scenes: DatasetCard, tmp_path: Path
) -> None:
    changes = {"crop": 32, "batch_size": 2}
    task = launches.Task(tmp_path, scenes, CPU, SMALL, changes, window_s=1.0)
    found = re.fullmatch(rf"({NUMBER}+) \| ({NUMBER}+)", launches.time_processes(task, 2))
    assert found is not None
    together, each = map(float, found.groups())
    assert each == pytest.approx(2e3 / together, rel=0.2)
    why = launches.time_processes(task._replace(root=tmp_path / "absent"), 2)
    assert why.startswith("does not run: DataError")
