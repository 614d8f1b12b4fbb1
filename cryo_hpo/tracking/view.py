"""Prepare the page of an MLflow experiment: its studies, each above its trainings, with what decides.

MLflow keeps a shared view of the table of runs in a tag of the experiment, and opens it by the name
in the address. The table is ordered by `cryo.key`, the name of the study and of the training in it,
so every study stands above its trainings without a click. Source: the pages of MLflow 3.17
(`viewStateShareKey`, `mlflow.sharedViewState.`); a version that does not know the tag shows its own
table.

The same view holds the charts: best score over learning rate, the same as parallel coordinates, the
curves over epochs, and bars of the scores, of all runs. The page that compares selected runs reads no
view; it begins with the first three parameters that differ, by name, and the first metric.
"""

from __future__ import annotations

import json
from typing import Any

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
SECTION, HEADING = "cryo-answer", "Which learning rate, and how good"
SCORE, RATE = "best_val_miou", "lr"
# Settings of the charts, by MLflow's types and names; MLflow titles each by what it shows.
CHARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "SCATTER",
        {
            "xaxis": {"key": RATE, "type": "PARAM"},
            "yaxis": {"key": SCORE, "type": "METRIC"},
            "runsCountToCompare": 100,
        },
    ),
    (
        "PARALLEL",
        {"selectedParams": [RATE], "selectedMetrics": [SCORE], "showAllRuns": True},
    ),
    (
        "LINE",
        {
            "metricKey": "val_miou",
            "selectedMetricKeys": ["val_miou"],
            "lineSmoothness": 0,
            "scaleType": "linear",
            "xAxisScaleType": "linear",
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "range": {},
            "ignoreOutliers": False,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        },
    ),
    ("BAR", {"metricKey": SCORE}),
)


def view_state() -> str:
    """Return the value of the tag: columns, their order, the order of the rows, and the charts."""
    state = {
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*FIRST, *COLUMNS],
        "columnWidths": COLUMNS,
        "orderByKey": ORDER,
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [_chart(*chart) for chart in CHARTS],
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": HEADING,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "isAccordionReordered": True,
    }
    return json.dumps(state)


def _chart(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a chart as MLflow keeps it."""
    return {
        "uuid": f"cryo-{kind.lower()}",
        "type": kind,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
        **settings,
    }


def charts_of(page: str) -> str:
    """Return the address that opens an experiment's page on its charts."""
    return f"{page}&compareRunsMode=CHART"


def page_of(experiment_id: str) -> str:
    """Return the part of an address, after the server's, that opens the view of an experiment."""
    query = f"viewStateShareKey={NAME}&workflowType=machine_learning"
    return f"/#/experiments/{experiment_id}/runs?{query}"
