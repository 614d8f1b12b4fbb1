"""What a study cost, and against what."""

from __future__ import annotations

from typing import Any

import pytest

from cryo_hpo.report.costs import cost_line, costs
from cryo_hpo.results.study import Costs, Result

from ..support.results import a_result

SPENT: dict[str, Any] = {
    "epochs_search": 50,
    "epochs_confirm": 150,
    "epochs_full_grid": 100,
    "seconds_search": 3600.0,
    "seconds_confirm": 10800.0,
    "seconds_data": 1440.0,
}


def costly(resources: dict[str, Any] | None = None, **changes: Any) -> Result:
    spec = {**a_result().spec, **({} if resources is None else {"resources": resources})}
    return a_result(costs=Costs(**{**SPENT, **changes}), spec=spec)


def test_search_proof_and_both_stand_beside_a_grid_with_and_without_proof() -> None:
    assert costs(costly({"cpus": 2, "gpus": 0})).rows == (
        ("search", "50", "1.00 h", "2.00"),
        ("proof (retraining on seeds)", "150", "3.00 h", "6.00"),
        ("total", "200", "4.00 h", "8.00"),
        ("of which waiting for data (10.0 %)", "", "0.40 h", "0.80"),
        ("a grid of the same, without proof", "100", "2.00 h", "4.00"),
        ("a grid of the same, with proof", "250", "5.00 h", "10.00"),
    )


def test_nothing_is_saved_that_the_proof_spent() -> None:
    assert cost_line(costly()) == (
        "Cost: 50 epochs of search and 150 of proof, 200 in total (4.00 h of training). A grid of the "
        "same configurations at full length takes 100 epochs without proof and 250 with it: the study "
        "cost 100 % more than that grid without proof, 20 % less than the grid with it."
    )


@pytest.mark.parametrize(
    ("search", "words"),
    [(100, "as much as that grid without proof, as much as the grid with it; nothing was saved."),
     (9_975, "about as much as that grid without proof, about as much as the grid with it."),
     (5_000, "50 % less than that grid without proof, 50 % less than the grid with it.")],
)  # fmt: skip
def test_what_no_percent_was_saved_of_is_said_to_cost_as_much(search: int, words: str) -> None:
    grid = 100 if search == 100 else 10_000
    spent = costly(epochs_search=search, epochs_full_grid=grid, epochs_confirm=0)
    assert cost_line(spent).endswith(f"the study cost {words}")
    assert "0 % less" not in cost_line(spent).replace("50 % less", "")


def test_without_the_full_proof_there_is_one_grid() -> None:
    quick = costly(epochs_search=75, epochs_confirm=0).model_copy(update={"proof": "quick"})
    assert cost_line(quick).endswith("100 epochs: the study cost 25 % less than that grid.")


@pytest.mark.parametrize(
    ("resources", "unit"),
    [({"cpus": 1, "gpus": 0}, "core-hours"), ({"cpus": 1, "gpus": 0.5}, "GPU-hours"),
     ({"cpus": 1, "gpus": "auto"}, None), (None, None)],
)  # fmt: skip
def test_device_hours_are_named_where_the_spec_fixes_the_device(resources: Any, unit: Any) -> None:
    head = costs(costly(resources)).head
    assert (head[3] if len(head) == 4 else None) == unit


def test_without_a_search_there_is_no_grid() -> None:
    none = costly(epochs_search=0, epochs_full_grid=0, seconds_search=0.0)
    assert [row[0] for row in costs(none).rows][-1].startswith("of which waiting for data")
    assert "grid" not in cost_line(none)
    idle = a_result(costs=Costs(**dict.fromkeys(SPENT, 0)))
    assert costs(idle).rows[2] == ("total", "0", "0 s")


def test_one_epoch_is_no_epochs() -> None:
    line = cost_line(costly(epochs_search=1, epochs_full_grid=1))
    assert line.startswith("Cost: 1 epoch of search and ")
    assert "at full length takes 1 epoch without proof" in line
