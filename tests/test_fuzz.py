"""Random and mutated files: every reader reads them or refuses them with a message, never a traceback.

CRYO_FUZZ_S sets the seconds that each reader is fuzzed; by default it gets a few examples.
`make fuzz` gives each a minute, and prints how many files that were.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from rasterio.crs import CRS
from rasterio.transform import Affine

from cryo_hpo.config import dump_study, load_campaign, load_card, load_space, load_study
from cryo_hpo.config.files.shipped import Kind, find_source
from cryo_hpo.config.vector_layer import VectorLayer
from cryo_hpo.data.safe_open import open_file
from cryo_hpo.data.vector import Grid, read_features
from cryo_hpo.errors import CryoError
from cryo_hpo.models.weights.hash import hash_weights
from cryo_hpo.models.weights.load import read_checkpoint
from cryo_hpo.results.model_card import ModelCard
from cryo_hpo.results.study import load_result
from cryo_hpo.search.journal import Journal
from cryo_hpo.storage.event_log import EventLog, read_events
from cryo_hpo.training import checkpoints
from cryo_hpo.training.history_file import read_copy, read_history, save_history
from cryo_hpo.training.warm_start import find_start

from .support.fakes import write
from .support.mutations import mutated
from .support.pool import a_study
from .support.results import a_result

# Read here: within a test the environment has no variables of this package.
FUZZ_S = float(os.environ.get("CRYO_FUZZ_S", "0"))
COUNTS = os.environ.get("CRYO_FUZZ_COUNTS")
EXAMPLES = 100 if FUZZ_S else 8
MOST = 2**30  # bytes of memory that a reader may take
GRID = Grid(CRS.from_epsg(4326), Affine(0.1, 0, 10, 0, -0.1, 70), 8, 8)


@cache
def _study() -> bytes:
    return dump_study(a_study()).encode()


@cache
def _shipped(name: str, kind: Kind) -> bytes:
    return Path(find_source(name, kind, beside=Path())).read_bytes()


@cache
def _journal() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.log", study="s")
        for number in range(2):
            journal.begin({}, None)
            journal.report(number, 1, 0.5)
        return (Path(folder) / "journal.log").read_bytes()


@cache
def _events() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(EventLog(Path(folder) / "events.jsonl")) as log:
            for epoch in (1, 2):
                log.append("epoch", study="s", key="trial-0000", epoch=epoch)
        return (Path(folder) / "events.jsonl").read_bytes()


@cache
def _checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"recipe": "x", "history": [{"epoch": 1}], "model": {"w": torch.ones(3)}}, file)
    return file.getvalue()


@cache
def _history() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        save_history(Path(folder), "x", [{"epoch": 1, "best_val_miou": 0.5}])
        return (Path(folder) / checkpoints.HISTORY).read_bytes()


@cache
def _weights() -> bytes:
    file = io.BytesIO()
    torch.save({"model": {"patch.weight": torch.ones(3, 2), "patch.bias": torch.ones(3)}}, file)
    return file.getvalue()


@cache
def _exported() -> bytes:
    state = {"encoder.weight": torch.ones(3, 2), "decoder.bias": torch.ones(3)}
    card = ModelCard(
        study="s",
        arm="tuned",
        seed=1,
        recipe=a_study().base.model_dump(mode="json"),
        dataset="d",
        bands=("B4",),
        gsd_m=10.0,
        classes=("rock", "ice"),
        mean=(0.0,),
        std=(1.0,),
        val_miou=0.5,
        test_miou=0.5,
        test_iou={},
        improvement=None,
        data_fingerprints={},
        provenance={},
        weights_sha256=hash_weights(state),
    )
    file = io.BytesIO()
    torch.save({"card": card.model_dump_json(), "model": state}, file)
    return file.getvalue()


@cache
def _safetensors() -> bytes:
    return safetensors.torch.save({"patch.weight": torch.ones(3, 2), "bias": torch.ones(3)})


@cache
def _geojson() -> bytes:
    ring = [[10.1, 69.9], [10.5, 69.9], [10.5, 69.5], [10.1, 69.5], [10.1, 69.9]]
    outline = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"kind": "1"}, "geometry": outline}
    return json.dumps({"type": "FeatureCollection", "features": [feature] * 2}, indent=1).encode()


@cache
def _geopackage() -> bytes:
    import tempfile

    import pyogrio.raw
    import shapely

    with tempfile.TemporaryDirectory() as folder:
        file, shape = Path(folder) / "a.gpkg", shapely.box(10.1, 69.5, 10.5, 69.9)
        fields = [np.array(["1"], dtype=object)]
        outlines = shapely.to_wkb(np.array([shape], dtype=object))
        pyogrio.raw.write(
            file, outlines, fields, ["kind"], geometry_type="Polygon", crs="EPSG:4326"
        )
        return file.read_bytes()


@cache
def _raster() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "a.tif", np.ones((2, 8, 8), dtype=np.uint16))
        return (Path(folder) / "a.tif").read_bytes()


def _status_bytes(key: str) -> int:
    """Return a line of this process's memory in bytes; 0 where there is no /proc."""
    with contextlib.suppress(OSError):
        line = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
        return 1024 * int(line[1]) if line else 0
    return 0


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Fail if the block takes more than `MOST` bytes beyond what the process has."""
    before = _status_bytes("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    yield
    assert _status_bytes("VmHWM") - before < MOST


def _read_journal(file: Path) -> None:
    file.with_name(f"{file.name}.copy").unlink(missing_ok=True)
    Journal(file, study="s").records()


def _read_events(file: Path) -> None:
    list(read_events(file))
    EventLog(file).close()


def _read_checkpoint(file: Path) -> None:
    checkpoints.damage_of_best(file, "x")
    checkpoints.set_aside_foreign(file.parent, "x")
    read_history(file.parent, "x", epochs=1)
    checkpoints.load(file)


def _read_raster(file: Path) -> None:
    with open_file(file, root=file.parent) as opened:
        opened.read()


def _read_weights(file: Path) -> None:
    read_checkpoint(file, entry="model")


def _read_outlines(file: Path) -> None:
    layer = VectorLayer(file=file.name, attribute="kind", labels={"1": "ice"})
    read_features(file, layer, ("background", "ice"), GRID)


READERS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    "study": ("study.yaml", _study, load_study),
    "campaign": ("campaign.yaml", _study, load_campaign),
    "space": ("space.yaml", lambda: _shipped("lr", "search space"), load_space),
    "card": ("card.yaml", lambda: _shipped("rock-glaciers", "dataset card"), load_card),
    "result": ("result.json", lambda: a_result().model_dump_json(indent=1).encode(), load_result),
    "journal": ("journal.log", _journal, _read_journal),
    "events": ("events.jsonl", _events, _read_events),
    "checkpoint": ("last.pt", _checkpoint, _read_checkpoint),
    "history": ("history.json", _history, lambda file: read_copy(file.parent, "x")),
    "raster": ("a.tif", _raster, _read_raster),
    "weights": ("weights.pt", _weights, _read_weights),
    "exported model": ("model.pt", _exported, lambda file: find_start(file.name, file.parent)),
    "safetensors": ("weights.safetensors", _safetensors, read_checkpoint),
    "geojson": ("a.geojson", _geojson, _read_outlines),
    "geopackage": ("a.gpkg", _geopackage, _read_outlines),
}


@pytest.mark.filterwarnings("ignore")  # of GDAL and torch about the files
@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_or_refuses_whatever_it_gets(tmp_path: Path, monkeypatch, name: str) -> None:
    file_name, whole, read = READERS[name]
    monkeypatch.setattr(os, "fsync", lambda _: None)
    logging.disable(logging.ERROR)  # warnings about damage, thousands of them
    file = tmp_path / file_name
    read_, count = read, 0

    @settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(mutated(whole))
    def fuzz(content: bytes) -> None:
        nonlocal count
        count += 1
        file.write_bytes(content)
        with contextlib.suppress(CryoError):
            read_(file)

    end = time.monotonic() + FUZZ_S
    try:
        with _little_memory():
            fuzz()
            while time.monotonic() < end:
                fuzz()
    finally:
        logging.disable(logging.NOTSET)
    assert count >= EXAMPLES
    if COUNTS:
        with Path(COUNTS).open("a") as kept:
            kept.write(f"{name:<15} {count:>7} files in {FUZZ_S:g} s\n")


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    for name, (file_name, whole, read) in READERS.items():
        if name == "campaign":
            continue
        (tmp_path / name).mkdir()
        file = tmp_path / name / file_name
        file.write_bytes(whole())
        read(file)
    assert json.loads((tmp_path / "result" / "result.json").read_bytes())["study"] == "lakes-lr"
