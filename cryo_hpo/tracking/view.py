"""Prepare the page of an MLflow experiment: its studies, each above its trainings, with what decides.

MLflow keeps a shared view of the table of runs in a tag of the experiment, and opens it by the name
in the address. The table is ordered by `cryo.key`, the name of the study and of the training in it,
so every study stands above its trainings without a click. Source: the pages of MLflow 3.17
(`viewStateShareKey`, `mlflow.sharedViewState.`); a version that does not know the tag shows its own
table.
"""

from __future__ import annotations

import json

NAME = "cryo"
TAG = f"mlflow.sharedViewState.{NAME}"
ORDER = "tags.`cryo.key`"
# Column -> width in pixels, from left to right.
COLUMNS = {
    "tags.`cryo.verdict`": 90,
    "tags.`cryo.improvement`": 190,
    "params.`lr`": 80,
    "tags.`cryo.state`": 85,
    "metrics.`best_val_miou`": 110,
    "attributes.`Dataset`": 200,
}
FIRST = ("attributes.`Run Name`", "runDateAndNestInfo")  # stay on the left


def view_state() -> str:
    """Return the value of the tag: columns, their order, and the order of the rows."""
    state = {
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*FIRST, *COLUMNS],
        "columnWidths": COLUMNS,
        "orderByKey": ORDER,
        "orderByAsc": True,
    }
    return json.dumps(state)


def page_of(experiment_id: str) -> str:
    """Return the part of an address, after the server's, that opens the view of an experiment."""
    query = f"viewStateShareKey={NAME}&workflowType=machine_learning"
    return f"/#/experiments/{experiment_id}/runs?{query}"
