"""How many trials a study may run: what fits on the nodes, in equal parts for the studies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.config import Resources
from cryo_hpo.execution import slots as slots_module
from cryo_hpo.execution.executor import TrialResources, fit_resources
from cryo_hpo.execution.slots import fair_share, requested_capacity, trials_fitting


@pytest.mark.parametrize(
    ("node", "slots", "expected"),
    [
        ({"CPU": 8.0}, TrialResources(2, 0, None), 4),
        ({"CPU": 7.0}, TrialResources(2, 0, None), 3),
        ({"CPU": 8.0, "GPU": 2.0}, TrialResources(1, 1.0, None), 2),
        ({"CPU": 64.0, "GPU": 1.0}, TrialResources(1, 0.1, None), 10),
        ({"CPU": 2.0, "GPU": 4.0}, TrialResources(1, 1.0, None), 2),
        ({"CPU": 8.0}, TrialResources(1, 1.0, None), 0),
        ({"memory": 1.0}, TrialResources(1, 0, None), 0),
    ],
)
def test_a_trial_lies_on_one_node(node, slots, expected):
    assert trials_fitting(node, slots) == expected


@given(
    fits=st.integers(0, 200), studies=st.integers(1, 20), parallel=st.none() | st.integers(1, 50)
)
def test_every_study_gets_its_part(fits, studies, parallel):
    part = fair_share(fits, studies=studies, parallel=parallel)
    assert part >= 1  # one study too many does not stand still for ever: Ray queues its trial
    assert parallel is None or part <= parallel
    if parallel is None and fits:
        assert part * studies >= fits  # nothing stays idle
        assert (part - 1) * studies < fits  # and nobody takes more than a rounded part


@pytest.mark.parametrize(
    ("share", "cards", "fits"),
    [(1, 4, 4), (0.3, 4, 12), (0.4, 4, 8), (0.6, 4, 4), (0.5, 1, 2), (0.1, 1, 10), (0.25, 2, 8)],
)
def test_a_share_of_a_gpu_lies_on_one_card(share, cards, fits):
    slots = TrialResources(cpus=1, gpus=share, parallel=None)
    assert trials_fitting({"CPU": 64, "GPU": float(cards)}, slots) == fits
    assert trials_fitting({"CPU": 3, "GPU": float(cards)}, slots) == min(3, fits)


@given(parallel=st.none() | st.integers(1, 50), most=st.integers(1, 64))
def test_packs_hold_no_more_trainings_than_may_run_at_once(parallel, most):
    slots = TrialResources(cpus=1, gpus=0, parallel=parallel).packed(most)
    if parallel is None:
        assert (slots.pack, slots.packs) == (most, None)
    else:
        assert slots.pack == min(most, parallel)
        assert slots.packs is not None
        assert slots.packs * slots.pack <= parallel < (slots.packs + 1) * slots.pack


@pytest.mark.parametrize(("pack", "expected"), [(1, 1), (4, 4), (9, 6), ("auto", 1)])
def test_the_pack_of_a_study_is_that_of_its_workers(pack, expected):
    """`auto` is 1 until the model's memory is measured."""
    nodes = [{"CPU": 2.0}]
    slots = fit_resources(Resources(gpus=0, pack=pack), 6, nodes, where="there is")
    assert slots.pack == expected


def test_capacity_is_requested_for_packs(monkeypatch):
    asked: list[list[dict[str, float]]] = []
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(slots_module, "request_resources", lambda *, bundles: asked.append(bundles))
    with requested_capacity(TrialResources(cpus=2, gpus=0, parallel=8, pack=3)):
        pass
    assert asked == [[{"CPU": 2}] * 2, []]
