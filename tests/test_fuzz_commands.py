"""Random and damaged files through the command line: exit code 0, 1 or 2 and a message, no traceback.

CRYO_FUZZ_S sets the seconds that each command is fuzzed, as in test_fuzz.py.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryo_hpo.cli.main import main
from cryo_hpo.config import dump_study
from cryo_hpo.prediction.model import export_model
from cryo_hpo.report import files as report_files

from .support.finished import finished_study
from .support.mutations import mutated, reshaped
from .support.results import a_result
from .test_fuzz import COUNTS, EXAMPLES, FUZZ_S

CODES = (0, 1, 2)  # done, failed, refused


class Ground(NamedTuple):
    """Hold a finished study, its data and its exported model."""

    root: Path
    spec: bytes
    card: bytes
    scene: Path
    mask: Path
    model: Path


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    root = tmp_path_factory.mktemp("ground")
    done = finished_study(root, epochs=1)
    model = root / "model.pt"
    export_model(done.folder, model, site=done.site)
    scenes = root / "data" / "fake" / "test"
    return Ground(
        root,
        dump_study(done.study).encode(),
        json.dumps(done.study.base.model_dump(mode="json")["data"]["card"]).encode(),
        sorted((scenes / "images").iterdir())[0],
        sorted((scenes / "masks").iterdir())[0],
        model,
    )


@cache
def _result() -> bytes:
    return a_result().model_dump_json().encode()


class Case(NamedTuple):
    """Hold a command, the file it gets, and how that is damaged."""

    words: tuple[str, ...]
    file: str
    whole: Callable[[Ground], bytes]
    damage: Callable[[Callable[[], bytes]], st.SearchStrategy[bytes]]


SPEC, CARD = (lambda ground: ground.spec), (lambda ground: ground.card)
RESULT = lambda _: _result()  # noqa: E731 (a row of the table below)
FILE, OUT = "{file}", "{out}"
CASES = {
    "check": Case(("check", FILE), "s.yaml", SPEC, reshaped),
    "check, bytes": Case(("check", FILE), "s.yaml", SPEC, mutated),
    "plan": Case(("plan", FILE), "s.yaml", SPEC, reshaped),
    "plan, bytes": Case(("plan", FILE), "s.yaml", SPEC, mutated),
    "data check": Case(("data", "check", FILE), "c.yaml", CARD, reshaped),
    "data check, bytes": Case(("data", "check", FILE), "c.yaml", CARD, mutated),
    "report": Case(("report", FILE, "--out", OUT), "r.json", RESULT, reshaped),
    "report, bytes": Case(("report", FILE, "--out", OUT), "r.json", RESULT, mutated),
    "compare": Case(("compare", FILE, "{root}/sound.json"), "r.json", RESULT, reshaped),
    "learn": Case(("learn", FILE, "--out", f"{OUT}.json"), "r.json", RESULT, reshaped),
    "predict, scene": Case(
        ("predict", "{model}", FILE, "--out", f"{OUT}.tif"),
        "a.tif",
        lambda ground: ground.scene.read_bytes(),
        mutated,
    ),
    "predict, model": Case(
        ("predict", FILE, "{scene}", "--out", f"{OUT}.tif"),
        "m.pt",
        lambda ground: ground.model.read_bytes(),
        mutated,
    ),
    "data check, mask": Case(
        ("data", "check", "{root}/c.yaml"),
        "mask",
        lambda ground: ground.mask.read_bytes(),
        mutated,
    ),
    "status": Case(
        ("status",),
        "storage/done/events.jsonl",
        lambda ground: (ground.root / "storage/done/events.jsonl").read_bytes(),
        mutated,
    ),
}


@pytest.mark.filterwarnings("ignore")  # of GDAL and torch about the files
@pytest.mark.parametrize("name", CASES)
def test_a_command_ends_in_words_whatever_file_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ground: Ground, name: str
) -> None:
    case, count = CASES[name], 0
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(
        report_files, "FIGURES", {}
    )  # seconds each, and one that fails costs only itself
    for place in ("data", "storage", "cache", "weights"):
        monkeypatch.setenv(f"CRYO_{place.upper()}", str(tmp_path / place))
    shutil.copytree(ground.root / "data", tmp_path / "data")
    shutil.copytree(ground.root / "storage", tmp_path / "storage")
    (tmp_path / "sound.json").write_bytes(_result())
    (tmp_path / "c.yaml").write_bytes(ground.card)
    mask = tmp_path / ground.mask.relative_to(ground.root)
    file = mask if case.file == "mask" else tmp_path / case.file
    facts = {"root": tmp_path, "out": tmp_path / "out", "file": file}
    words = [word.format(model=ground.model, scene=ground.scene, **facts) for word in case.words]

    @settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(case.damage(lambda: case.whole(ground)))
    def fuzz(content: bytes) -> None:
        nonlocal count
        count += 1
        file.write_bytes(content)
        done = CliRunner().invoke(main, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code in CODES, done.output
        assert done.output.strip()
        assert "Traceback" not in done.output

    end = time.monotonic() + FUZZ_S
    try:
        fuzz()
        while time.monotonic() < end:
            fuzz()
    finally:
        logging.disable(logging.NOTSET)
    assert count >= EXAMPLES
    if COUNTS:
        with Path(COUNTS).open("a") as kept:
            kept.write(f"{name:<20} {count:>7} files in {FUZZ_S:g} s\n")
