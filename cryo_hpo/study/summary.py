"""Return what the MLflow run of a finished study shows: metrics and tags."""

from __future__ import annotations

from .. import report
from ..results.lr_response import response
from ..results.metrics import ensemble_metrics, parent_metrics
from ..results.study import Result
from ..search.source import key

MAX_TAG = 4000  # characters of the warnings; MLflow takes 8,000


def study_metrics(result: Result) -> dict[str, float]:
    """Return the numbers of a study's own run."""
    metrics = {
        "epochs_search": float(result.costs.epochs_search),
        "epochs_confirm": float(result.costs.epochs_confirm),
        "epochs_spent": float(result.costs.epochs_search + result.costs.epochs_confirm),
        "epochs_full_grid": float(result.costs.epochs_full_grid),
        **{f"{arm.name}.test_miou": arm.mean_test_miou for arm in result.arms},
    }
    if result.costs.epochs_full_grid:
        grid = metrics["epochs_full_grid"] + metrics["epochs_confirm"]
        metrics["epochs_full_grid_and_proof"] = grid
        metrics["epochs_saved_pct"] = 100 * (1 - metrics["epochs_spent"] / grid)
    if result.costs.energy_kwh is not None:
        metrics["energy_kwh"] = result.costs.energy_kwh
    metrics |= _rates(result)
    metrics |= parent_metrics(result)
    for ensemble in result.ensembles:
        metrics |= ensemble_metrics(result, ensemble)
        metrics[f"{ensemble.arm}_ensemble.test_miou"] = ensemble.test_miou
        metrics[f"{ensemble.arm}_ensemble.gain_points"] = 100 * ensemble.gain
    metrics |= {f"runs_{kind}": float(len(runs)) for kind, runs in result.weak_runs.items()}
    if result.constant_map is not None:
        metrics["constant_map.test_miou"] = result.constant_map.test_miou
    if result.improvement is not None:
        metrics["tuned.test_miou"] = result.improvement.tuned
        metrics["p_value"] = result.improvement.p_value
        metrics["repeats_gained"] = float(result.improvement.num_gained)
        metrics |= result.improvement.relative_pct.to_metrics("relative_improvement_pct")
        metrics |= result.improvement.typical_pct.to_metrics("typical_gain_pct")
    return metrics


def _rates(result: Result) -> dict[str, float]:
    """Return the learning rates and the best validation score as metrics of the parent run."""
    trial = next((t for t in result.trials if t.number == result.winner), None)
    curve = response(result)
    if trial is None or curve is None:
        return {}
    rates = {
        "winner_lr": trial.lr,
        "fixed_lr": curve.fixed_lr,
        "recommended_lr": curve.recommended_lr,
    }
    rates_shown = {name: lr for name, lr in rates.items() if lr is not None}
    return {**rates_shown, "best_val_miou": trial.best_val_miou or 0.0}


def study_tags(result: Result) -> dict[str, str]:
    """Return the tags of a study's own run: verdict, proof, winner, start of the search, warnings."""
    warnings = report.warnings(result)
    return {
        "cryo.verdict": result.verdict,
        "cryo.proof": result.proof,
        **({"cryo.improvement": gain} if (gain := report.gain_line(result)) else {}),
        **({"cryo.warnings": "\n".join(warnings)[:MAX_TAG]} if warnings else {}),
        "cryo.winner_is_baseline": str(result.winner_is_baseline).lower(),
        **({} if result.winner is None else {"cryo.winner": key(result.winner)}),
        **({"cryo.search_start": start[:MAX_TAG]} if (start := result.search_start) else {}),
    }
