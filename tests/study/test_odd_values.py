"""Values of a study that are legal and make little sense on this machine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, Recipe, Study
from cryo_hpo.config.resources import Resources
from cryo_hpo.study.odd_values import emulated_bf16


def _study(precision: str, gpus: float | str) -> Study:
    base: dict[str, Any] = {"data": DataSpec(name="glid"), "precision": precision}
    return Study(name="s", base=Recipe(**base), resources=Resources(cpus=1, gpus=gpus))  # type: ignore[arg-type]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that a processor and a card compute in bf16, or only emulate it."""

    def pretend(*, processor: bool, card: bool | None) -> None:
        able = {"architecture": "x86_64", "avx512_bf16": processor, "amx_bf16": False}
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: card is not None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or card
        )

    return pretend


@pytest.mark.parametrize(
    ("precision", "gpus", "processor", "card", "says"),
    [
        ("bf16", 0, False, None, "neither avx512_bf16 nor amx_bf16.*Set precision: fp32"),
        ("bf16", "auto", False, None, "neither avx512_bf16 nor amx_bf16"),
        ("bf16", 0, True, None, ""),
        ("bf16", 0, False, True, "neither avx512_bf16"),
        ("bf16", "auto", False, True, ""),
        ("auto", 0, False, None, ""),
        ("fp32", 1, False, False, ""),
        ("auto", 1, True, False, "auto, and Tesla T4 only emulates bf16: auto is fp32 there"),
        ("bf16", 0.5, True, False, "bf16, and Tesla T4 only emulates bf16: a step takes longer"),
        ("auto", "auto", True, False, "Tesla T4 only emulates bf16"),
        ("auto", 1, True, True, ""),
    ],
)
def test_emulated_bf16_is_told(precision, gpus, processor, card, says, machine):
    machine(processor=processor, card=card)
    warnings = list(emulated_bf16(_study(precision, gpus)))
    if says:
        (warning,) = warnings
        assert re.search(says, warning), warning
    else:
        assert not warnings


def test_on_a_cluster_other_machines_train(machine, monkeypatch):
    machine(processor=False, card=None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not list(emulated_bf16(_study("bf16", 0)))


def test_a_processor_of_another_kind_is_not_judged(machine, monkeypatch):
    machine(processor=False, card=None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    assert not list(emulated_bf16(_study("bf16", 0)))
