from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cryo_hpo.training.ema import WeightAverage


def _models(steps: int) -> list[nn.Module]:
    """The weights after each of some steps, with running means and a counter."""
    torch.manual_seed(0)
    found: list[nn.Module] = []
    for step in range(steps):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        model.get_buffer("1.running_mean").normal_()
        model.get_buffer("1.num_batches_tracked").fill_(step)
        found.append(model)
    return found


def _averaged(models: list[nn.Module], *, decay: float) -> tuple[nn.Module, WeightAverage]:
    """A model that goes through given weights, and its average."""
    model = copy.deepcopy(models[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)  # the initial weights
    average = WeightAverage(model, decay=decay)
    for one in models:
        model.load_state_dict(one.state_dict())
        average.update(model)
    return model, average


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_it_is_the_sum_that_its_definition_names(decay):
    models = _models(7)
    _, average = _averaged(models, decay=decay)
    shares = [(1 - decay) * decay ** (7 - i) for i in range(1, 8)]
    for name, value in average.model.state_dict().items():
        values = [model.state_dict()[name] for model in models]
        if value.is_floating_point():
            wanted = sum(s * v for s, v in zip(shares, values, strict=True)) / (1 - decay**7)
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(value, values[-1]), name


def test_after_one_step_it_is_that_step_whatever_it_started_from():
    (after,) = _models(1)
    _, average = _averaged([after], decay=0.999)
    for name, value in after.state_dict().items():
        assert torch.equal(average.model.state_dict()[name], value), name


def test_weights_that_stay_stay_in_the_average_bit_for_bit():
    (model,) = _models(1)
    _, average = _averaged([model] * 5, decay=0.9)
    for name, value in model.state_dict().items():
        assert torch.equal(average.model.state_dict()[name], value), name


def test_it_shares_no_memory_with_the_model():
    model, average = _averaged(_models(2), decay=0.5)
    with torch.no_grad():
        model.get_parameter("0.weight").zero_()
    assert average.model.get_parameter("0.weight").abs().sum() > 0


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_every_step_equals_the_written_out_formula_bit_for_bit(decay):
    models = _models(6)
    model = copy.deepcopy(models[0])
    average, wanted = WeightAverage(model, decay=decay), copy.deepcopy(model).state_dict()
    for step, one in enumerate(models, start=1):
        model.load_state_dict(one.state_dict())
        average.update(model)
        share = (1 - decay) / (1 - decay**step)
        for name, value in one.state_dict().items():
            if not value.is_floating_point() or step == 1:
                wanted[name] = value.clone()
            else:
                wanted[name] = wanted[name].lerp(value, share)
            assert torch.equal(average.model.state_dict()[name], wanted[name]), (step, name)


def test_a_restored_average_continues_as_if_it_had_never_stopped():
    models = _models(5)
    whole, first = (_averaged(models[:k], decay=0.9)[1] for k in (5, 2))
    again = WeightAverage(copy.deepcopy(models[0]), decay=0.9)
    again.restore(first.state())
    for one in models[2:]:
        again.update(one)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
