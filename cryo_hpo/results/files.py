"""What lies in the folder of a study, by name."""

from __future__ import annotations

CAMPAIGN = "campaign.yaml"
SPEC, LOCK, JOURNAL, SPOOL, TRIALS, CONFIRM = (
    "study.yaml",
    ".driver",
    "journal.log",
    "mlflow.jsonl",
    "trials",
    "confirm",
)
TEST_SCORES = "test-scores.json"
TEST_SCENES = "test-scenes.npz"  # `scenes`: ids; of every training a matrix per scene, (S, K, K)
TEST_MAPS = "test-maps.npz"
