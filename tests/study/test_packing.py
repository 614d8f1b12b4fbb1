"""How many trainings of a frozen encoder a worker trains together, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from cryo_hpo.config import Site, Study
from cryo_hpo.errors import SpecError
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.study import packing
from cryo_hpo.study.memory import StepMemory
from cryo_hpo.study.packing import MOST, pack_lines, room_of, with_packs
from cryo_hpo.study.preflight import _require_shared

SITE = Site.from_env({})
SLOTS = TrialResources(cpus=1, gpus=0, parallel=None)


def _study(pack: Any = 1, *, tune: str = "frozen", **changes: Any) -> Study:
    rate = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
    model = {"encoder": "galileo-nano", "decoder": "upernet", "channels": 16, "weights": "scratch"}
    base = {"data": {"name": "lakes-demo", "crop": 32}, "model": {**model, "tune": tune}}
    search = {"space": {"params": {"optim.lr": rate}}, "trials": 6, **changes.pop("search", {})}
    raw = {
        "name": "x",
        "base": {**base, **changes},
        "search": search,
        "resources": {"gpus": 0, "pack": pack},
    }
    return Study.model_validate_json(json.dumps(raw))


def _measured(monkeypatch: pytest.MonkeyPatch, member_gib: float) -> None:
    """Let a step leave room for members of a size in 10 GiB."""
    step = StepMemory(fixed_gib=1.0, sample_gib=0.0, model_gib=0.1, member_gib=member_gib)
    monkeypatch.setattr(packing, "measure_step", lambda *_: step)
    monkeypatch.setattr(packing, "room_of", lambda *_: packing.Room(10.0, "a core"))


@pytest.mark.parametrize(("member_gib", "number"), [(0.01, MOST), (2.0, 4), (9.0, 1)])
def test_auto_is_what_memory_holds(monkeypatch, member_gib, number) -> None:
    _measured(monkeypatch, member_gib)
    assert with_packs(SLOTS, [_study("auto")], SITE).pack == number


def test_auto_is_one_where_no_encoder_is_frozen_and_nothing_is_measured(monkeypatch) -> None:
    monkeypatch.setattr(packing, "measure_step", None)
    assert with_packs(SLOTS, [_study("auto", tune="full")], SITE) == SLOTS
    assert with_packs(SLOTS.packed(3), [_study(3)], SITE).pack == 3


def test_the_largest_model_of_a_study_or_campaign_counts(monkeypatch) -> None:
    sizes = {16: 0.01, 64: 2.0}

    def measure(recipe: Any, _: Site) -> StepMemory:
        member_gib = sizes[recipe.model.channels]
        return StepMemory(fixed_gib=1.0, sample_gib=0.0, model_gib=0.1, member_gib=member_gib)

    _measured(monkeypatch, 0.0)
    monkeypatch.setattr(packing, "measure_step", measure)
    widths = {"model.channels": {"kind": "choice", "values": [16, 64]}}
    wide = _study("auto", search={"space": {"params": widths}})
    assert with_packs(SLOTS, [_study("auto")], SITE).pack == MOST
    assert with_packs(SLOTS, [wide], SITE).pack == 4
    cells = [_study("auto"), wide, _study("auto", tune="full")]
    assert with_packs(SLOTS, cells, SITE).pack == 4


def test_a_share_of_a_gpu_has_a_share_of_its_memory(monkeypatch) -> None:
    card = type("Card", (), {"total_memory": 24 * 2**30})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    assert room_of(0.5, 1).gib == pytest.approx(12 - 0.6)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "this machine does not see" in str(room_of(1.0, 1))
    assert room_of(0, 10**6).gib > room_of(0, 1).gib * 0.99


def test_a_frozen_study_without_packs_says_that_there_are_some() -> None:
    (line,) = pack_lines([_study()], SITE)
    assert line.startswith("packs: none. With `resources: {pack: auto}` a worker trains up to 8")
    assert "the frozen encoder (galileo-nano, 0.826 of " in line
    assert pack_lines([_study(tune="full")], SITE) == []


def test_the_number_is_said_with_what_it_follows_from(monkeypatch) -> None:
    _measured(monkeypatch, 2.0)
    (line,) = pack_lines([_study("auto")], SITE)
    assert "up to 4 trainings of a worker (measured: 2 GiB each beside a step of 1 GiB, in" in line
    (line,) = pack_lines([_study(8, search={"parallel": 3})], SITE)
    assert "up to 3 trainings of a worker, as many as `search.parallel` allows" in line
    assert pack_lines([_study(8)] * 3, SITE) == pack_lines([_study(8)], SITE)


def test_packs_of_encoders_that_are_frozen_and_not_shared_are_refused() -> None:
    _require_shared(_study(4))
    for pack in (1, "auto"):
        _require_shared(_study(pack, compile="auto"))
    with pytest.raises(SpecError, match=r"got 4: .*base.compile: off"):
        _require_shared(_study(4, compile="auto"))
