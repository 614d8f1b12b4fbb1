"""Define the file names in the folder of a study."""

from __future__ import annotations

CAMPAIGN = "campaign.yaml"
SPEC, LOCK, JOURNAL, EVENTS, TRIALS, CONFIRM = (
    "study.yaml",
    ".driver",
    "journal.log",
    "events.jsonl",
    "trials",
    "confirm",
)
REUSED = "reused.json"  # in the folder of a training that was taken from elsewhere
TEST_SCORES = "test-scores.json"
TEST_SCENES = (
    "test-scenes.npz"  # `scenes`: ids; per training one confusion matrix per scene, (S, K, K)
)
TEST_MAPS = "test-maps.npz"
INITIAL_WEIGHTS = "initial-weights.json"  # value of model.weights -> sha256 of the file
GRANT = "repeats.json"  # the repeats of a campaign's cell, where the cells share a total
EXTENSIONS = "extensions.json"  # what was added after the first result
