"""The device and the precision of a training, on cards that this machine does not have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, Recipe, Site
from cryo_hpo.errors import SpecError
from cryo_hpo.execution import worker
from cryo_hpo.prediction.model import _device
from cryo_hpo.training import loop
from cryo_hpo.training.build import device_for, runs_in_bf16


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that a card of a compute capability is visible."""

    def pretend(capability: tuple[int, int], *, bf16: bool = True) -> None:
        put = monkeypatch.setattr
        put(torch.cuda, "is_available", lambda: True)
        put(torch.cuda, "get_device_capability", lambda: capability)
        put(torch.cuda, "get_device_name", lambda: "Some card")
        put(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90a", "compute_90"])
        put(
            torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or bf16
        )

    return pretend


def test_a_card_without_kernels_is_refused_before_training(card):
    card((7, 0))
    with pytest.raises(SpecError, match=r"Some card has compute capability 7\.0.*built for 7\.5"):
        device_for(1)
    card((9, 0))
    assert device_for(0.5) == torch.device("cuda")


def test_a_card_that_is_not_seen_may_have_an_old_driver(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpecError, match="driver is too old"):
        device_for(1)


@pytest.mark.parametrize(("precision", "new", "old"), [("auto", True, False), ("fp32", False, False), ("bf16", True, True)])  # fmt: skip
def test_bf16_is_chosen_where_the_card_computes_in_it(card, precision, new, old):
    recipe = Recipe(data=DataSpec(name="glid"), precision=precision)
    cuda = torch.device("cuda")
    card((8, 0))
    assert runs_in_bf16(recipe, cuda) == new
    card((7, 5), bf16=False)
    assert runs_in_bf16(recipe, cuda) == old
    assert runs_in_bf16(recipe, torch.device("cpu")) == (precision == "bf16")


@pytest.mark.parametrize(("gpus", "limits"), [(0.25, [0.25]), (1, []), (0, [])])
def test_a_trial_on_a_shared_card_takes_no_more_than_its_share(card, gpus, limits, monkeypatch):
    card((9, 0))
    given: list[float] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    worker._claim(1, gpus)
    assert given == limits


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda:x", "nowhere"])
def test_a_device_that_has_not_been_tried_is_refused_for_mapping(name):
    with pytest.raises(SpecError, match=rf"Device '{name}'.*Take 'cpu'"):
        _device(name)


def test_the_peak_of_memory_is_that_of_one_training(monkeypatch, tmp_path):
    """A worker trains one recipe after another; the first one's peak would be everybody's."""
    recipe = Recipe(data=DataSpec(name="glid"))
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: calls.append("reset"))

    def opened(*_: object, **__: object) -> None:
        calls.append("opened")
        raise SpecError("far enough")

    monkeypatch.setattr(loop, "open_run", opened)
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    with pytest.raises(SpecError, match="far enough"):
        next(loop.fit(recipe, site=site, workdir=tmp_path / "run", device=torch.device("cuda")))
    assert calls == ["reset", "opened"]
