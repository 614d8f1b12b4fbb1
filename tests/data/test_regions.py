"""The process that tries a card's region: stopped, ended or too slow."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.regions import find_regions
from cryo_hpo.errors import DataError


@pytest.fixture
def card() -> DatasetCard:
    return DatasetCard(
        name="rocks",
        root="rocks",
        images="{split}/i/{id}.tif",
        masks="{split}/m/{id}.png",
        bands=("B4",),
        classes=("a", "b"),
        region="^([a-z]+)_",
        license="Apache-2.0",
    )


def _ends_with(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, code, "", "MemoryError")

    monkeypatch.setattr(subprocess, "run", run)


def test_an_interrupt_stops_the_command_and_blames_no_expression(card, monkeypatch):
    _ends_with(-signal.SIGINT, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        find_regions(card, ["north_1"])


@pytest.mark.parametrize(
    ("code", "words"),
    [(-signal.SIGKILL, "tries too many ways"), (1, "could not be tried.*code 1. MemoryError")],
)
def test_a_process_that_ends_early_is_reported_for_what_it_is(code, words, card, monkeypatch):
    _ends_with(code, monkeypatch)
    with pytest.raises(DataError, match=words):
        find_regions(card, ["north_1"])
