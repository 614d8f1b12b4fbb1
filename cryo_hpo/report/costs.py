"""Describe what a study cost, search and proof, against a grid with and without the same proof."""

from __future__ import annotations

from collections.abc import Iterator

from ..results.study import Costs, Result
from .table import Table
from .wording import count_of, duration

Row = tuple[str, int | None, float | None]  # name, epochs, seconds of training


def costs(result: Result) -> Table:
    """Return the costs of search, proof and both, and of a grid with and without the proof."""
    device, number = _devices(result)
    rows = [
        (
            name,
            "" if epochs is None else str(epochs),
            "" if seconds is None else duration(seconds),
            "" if seconds is None else f"{number * seconds / 3600:.2f}",
        )
        for name, epochs, seconds in _rows(result.costs)
    ]
    head = ("", "epochs", "training time", device)
    width = len(head) if device else len(head) - 1
    return Table.of(head[:width], [row[:width] for row in rows], left=1, strong=[2])


def cost_line(result: Result) -> str:
    """Return the costs in sentences; nothing is saved that the proof spent again."""
    spent = result.costs
    total = f"Cost: {count_of(spent.epochs_search, 'epoch')} of search and {spent.epochs_confirm} of proof"
    seconds = spent.seconds_search + spent.seconds_confirm
    line = f"{total}, {_total(spent)} in total ({duration(seconds)} of training)."
    if spent.epochs_reused:
        line += f" {spent.epochs_reused} epochs more of the comparison were reused, not trained."
    line += _budget(result) + _energy(spent)
    grid = spent.epochs_full_grid
    if not grid:
        return line
    if result.proof != "full":
        return (
            f"{line} A grid of the same configurations at full length takes {count_of(grid, 'epoch')}: the "
            f"study cost {_against(_total(spent), grid, 'that grid')}."
        )
    proven = grid + spent.epochs_confirm
    saved = "" if _total(spent) < proven else "; nothing was saved"
    return (
        f"{line} A grid of the same configurations at full length takes {count_of(grid, 'epoch')} without proof "
        f"and {proven} with it: the study cost {_against(_total(spent), grid, 'that grid without proof')}, "
        f"{_against(_total(spent), proven, 'the grid with it')}{saved}."
    )


def _budget(result: Result) -> str:
    """Return how much of a budget of hours was spent; nothing without one."""
    budget = result.spec.get("budget")
    if not budget:
        return ""
    _, number = _devices(result)
    unit = "GPU-hours" if budget.get("gpu_hours") else "core-hours"
    seconds = result.costs.seconds_search + result.costs.seconds_confirm
    hours = budget.get("gpu_hours") or budget.get("core_hours")
    return f" Budget: {number * seconds / 3600:.3g} of {hours:g} {unit} spent."


def _energy(spent: Costs) -> str:
    """Return the energy of the machine; nothing where it was not measured."""
    if spent.energy_kwh is None:
        return ""
    return (
        f" Energy of the machine's processors and GPUs meanwhile: {spent.energy_kwh:.3g} kWh, "
        "other programs included."
    )


def _rows(spent: Costs) -> Iterator[Row]:
    seconds = spent.seconds_search + spent.seconds_confirm
    yield "search", spent.epochs_search, spent.seconds_search
    yield "proof (retraining on seeds)", spent.epochs_confirm, spent.seconds_confirm
    yield "total", _total(spent), seconds
    yield (
        f"of which waiting for data{_share(spent.seconds_data, seconds)}",
        None,
        spent.seconds_data,
    )
    if spent.epochs_full_grid:
        grid = _grid_seconds(spent)
        whole = None if grid is None else grid + spent.seconds_confirm
        yield "a grid of the same, without proof", spent.epochs_full_grid, grid
        yield "a grid of the same, with proof", spent.epochs_full_grid + spent.epochs_confirm, whole


def _grid_seconds(spent: Costs) -> float | None:
    """Return the estimated time of the grid, at the search's time per epoch."""
    if not spent.epochs_search:
        return None
    return spent.epochs_full_grid * spent.seconds_search / spent.epochs_search


def _total(spent: Costs) -> int:
    return spent.epochs_search + spent.epochs_confirm


def _share(part: float, whole: float) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""


def _against(epochs: int, other: int, name: str) -> str:
    """Return by how many percent the study's epochs differ from those of a grid, and its name."""
    percent = round(100 * (epochs / other - 1))
    if not percent:
        return f"{'as' if epochs == other else 'about as'} much as {name}"
    return f"{abs(percent)} % {'more' if percent > 0 else 'less'} than {name}"


def _devices(result: Result) -> tuple[str, float]:
    """Return the unit that a training occupies, and how many; no unit where that was not fixed."""
    resources = result.spec.get("resources") or {}
    gpus = resources.get("gpus")
    if gpus == 0:
        return "core-hours", float(resources.get("cpus", 1))
    return ("GPU-hours", float(gpus)) if isinstance(gpus, int | float) else ("", 1.0)
