"""An exported folder maps scenes of any size without this package, as `predict` does."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
import warnings
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.errors import FetchError, OutOfMemory, SpecError
from cryo_hpo.evaluation import tiling
from cryo_hpo.models import Segmenter, find_encoder
from cryo_hpo.models.weights import push
from cryo_hpo.prediction import bundle, standalone
from cryo_hpo.prediction import model as prediction
from cryo_hpo.prediction.card import MORE_MEMORY
from cryo_hpo.prediction.ensemble import open_ensemble
from cryo_hpo.prediction.model import export_model, load_model, open_model, remedy_on
from cryo_hpo.prediction.readme import write_readme
from cryo_hpo.report.wording import percent
from cryo_hpo.results.study import ConstantMap, load_result, write

from ..support.fakes import fake_scene
from ..support.fakes import write as write_raster
from ..support.finished import SEEDS, Finished, finished_study


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_study(tmp_path_factory.mktemp("done"), epochs=2)


@pytest.fixture(scope="module")
def folder(done: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "model"
    bundle.export_folder(done.folder, out, site=done.site, ensemble=True)
    return out


@pytest.mark.parametrize("size", [(50, 61), (16, 16), (7, 40)])
def test_the_folder_maps_as_the_study_does(
    done: Finished, folder: Path, size: tuple[int, int]
) -> None:
    image = fake_scene(np.random.default_rng(5), size=size, bands=3, dtype="uint8")[0]
    expected = open_ensemble(done.folder, site=done.site).probabilities(image)
    found = standalone.load(folder).probabilities(image)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5)


def test_the_folder_needs_torch_alone(folder: Path, tmp_path: Path) -> None:
    image = fake_scene(np.random.default_rng(5), size=(20, 33), bands=3, dtype="uint8")[0]
    np.save(tmp_path / "image.npy", image)
    code = (
        "import runpy, sys; sys.modules['cryo_hpo'] = None; sys.modules['timm'] = None; "
        f"sys.argv = ['predict.py', '{tmp_path}/image.npy', '{tmp_path}/map.npy']; "
        f"runpy.run_path('{folder}/predict.py', run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = standalone.load(folder).predict(image)
    assert np.array_equal(np.load(tmp_path / "map.npy"), expected)


def test_the_folder_says_how_it_is_used_as_a_program(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(folder / "predict.py"), "--help"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith("Usage: python predict.py image.npy map.npy")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("encoder", "weights", "start", "terms"),
    [
        ("galileo-nano", None, "the encoder's published weights", ", under MIT, and from the "),
        ("galileo-nano", "hub", "the encoder's published weights", ", under MIT, and from the "),
        ("scale-mae-l", None, "the encoder's published weights", "does not state, and from the "),
        ("galileo-nano", "scratch", "random weights", "from the training data alone"),
        ("unet", None, "random weights", "from the training data alone"),
        ("unet", "old/lakes.pt", "`lakes.pt`", "derived from `lakes.pt` and from the "),
    ],
)
def test_the_readme_says_from_which_weights_the_encoder_started(
    done: Finished, tmp_path: Path, encoder: str, weights: str | None, start: str, terms: str
) -> None:
    card = open_model(done.folder, site=done.site).card
    model = {**card.recipe["model"], "encoder": encoder, "weights": weights}
    card = card.model_copy(update={"recipe": {**card.recipe, "model": model}})
    write_readme(tmp_path / "README.md", [card], encoder=find_encoder(encoder))
    text = (tmp_path / "README.md").read_text()
    assert f"Encoder `{encoder}` from {start}, decoder" in text
    assert terms in text.split("## License")[1]


def test_the_folder_says_what_goes_in_and_comes_out(done: Finished, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["models"] == [
        f"model-seed{m.card.seed}.pt2" for m in open_ensemble(done.folder, site=done.site).members
    ]
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["pipeline_tag"] == "image-segmentation"
    for words in ("in this order", *config["bands"], *config["classes"], "Scores", "License"):
        assert words in text
    with pytest.raises(ValueError, match="Give the bands in this order"):
        standalone.load(folder).predict(np.zeros((2, 20, 20)))


def test_windows_and_weights_are_those_of_prediction() -> None:
    for length, size, overlap in ((50, 16, 4), (16, 16, 0), (7, 16, 8), (100, 32, 31)):
        corners = tiling.windows((length, 1), size=size, overlap=overlap)
        assert standalone.starts(length, size, overlap) == [top for top, _ in corners]
        expected = tiling.blend(size, overlap=overlap)
        assert np.array_equal(standalone.blend(size, overlap), expected)


def _export(
    done: Finished, monkeypatch: pytest.MonkeyPatch, *words: object, study: object = "done"
) -> Any:
    for name in ("data", "storage", "cache", "weights"):
        monkeypatch.setenv(f"CRYO_{name.upper()}", str(getattr(done.site, name)))
    command = ["export", *map(str, (study, *words))]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_the_command_writes_one_model_or_uploads_the_folder(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []

    class Hub:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            sent.append((name, private, exist_ok))

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
            sent.append((repo_id, sorted(p.name for p in folder_path.iterdir())))

    monkeypatch.setattr(push, "HfApi", Hub)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    out = tmp_path / "single"
    said = _export(done, monkeypatch, "--out", out, "--seed", SEEDS[0], "--push", "me/lakes")
    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[-1].endswith("/me/lakes")
    files = ["README.md", "config.json", "model-seed1.json", "model-seed1.pt2", "predict.py"]
    assert sent == [("me/lakes", True, True), ("me/lakes", files)]
    front = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    metric = front["model-index"][0]["results"][0]["metrics"][0]
    assert metric["type"] == "mean_iou"


class _StandIn(BaseHTTPRequestHandler):
    """Answer as the hub does when a repository is created and a folder of small files is committed."""

    requests: list[tuple[str, str, str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append((self.command, self.path, self.headers.get("Authorization"), body))
        answer: dict[str, Any] = {"url": "https://huggingface.co/me/lakes"}
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            answer = {"files": [{"path": file["path"], **mode} for file in files]}
        elif "/commit/" in self.path:
            answer = {
                "commitUrl": "https://huggingface.co/me/lakes/commit/" + "0" * 40,
                "commitOid": "0" * 40,
            }
        self._answer(answer)

    def do_GET(self) -> None:
        self.requests.append((self.command, self.path, self.headers.get("Authorization"), b""))
        self._answer({"id": "me/lakes", "siblings": [], "sha": "0" * 40})

    def _answer(self, answer: object) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


def test_the_hubs_own_client_uploads_a_folder_to_a_stand_in_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("# lakes\n")
    (tmp_path / "config.json").write_text("{}")
    requests: list[tuple[str, str, str | None, bytes]] = []
    handler = type("Handler", (_StandIn,), {"requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    try:
        address = push.push_folder(tmp_path, "me/lakes")
    finally:
        server.shutdown()
        server.server_close()
    assert address == f"http://127.0.0.1:{server.server_port}/me/lakes"
    bodies = {
        path.partition("?")[0]: body for method, path, _, body in requests if method == "POST"
    }
    created = json.loads(bodies["/api/repos/create"])
    assert (created["name"], created["organization"]) == ("lakes", "me")
    # Clients differ in how they say it.
    assert created.get("visibility") == "private" or created.get("private") is True, created
    lines = [json.loads(line) for line in bodies["/api/models/me/lakes/commit/main"].splitlines()]
    files = {
        line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"
    }
    assert b64decode(files["README.md"]) == b"# lakes\n"
    assert set(files) == {"README.md", "config.json"}
    assert {token for *_, token, _ in requests} == {"Bearer hf_secret"}


def test_an_upload_that_fails_keeps_the_folder_and_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, *_: Any, **__: Any) -> None:
            raise OSError("401 Unauthorized")

    monkeypatch.setattr(push, "HfApi", Away)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(FetchError, match="HF_TOKEN"):
        push.push_folder(tmp_path, "me/lakes")


@pytest.fixture(scope="module")
def weak(done: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study none of whose runs beats a map of one class."""
    nothing = {"constant_map": ConstantMap(label="background", test_miou=0.9999)}
    result = load_result(done.folder).model_copy(update=nothing)
    folder = shutil.copytree(done.folder, tmp_path_factory.mktemp("weak") / "weak")
    write(result, folder)
    return folder


NOTHING = "scored no more than doing nothing: a map of 'background' everywhere has 99.99"


@pytest.mark.parametrize("words", [("--out", "m.pt"), ("--out", "m", "--ensemble")])
def test_an_export_of_what_scores_no_more_than_doing_nothing_says_so(
    done: Finished,
    weak: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = _export(done, monkeypatch, *words, study=weak)
    assert said.exit_code == 0, said.output
    assert NOTHING in said.stderr
    arm = load_result(weak).arm("baseline")
    (line,) = (line for line in said.stderr.splitlines() if NOTHING in line)
    scores = re.findall(r"\(test mIoU ([\d.]+)\)", line)
    assert len(scores) == (2 if "--ensemble" in words else 1)
    assert set(scores) <= {percent(seed.test_miou) for seed in arm.seeds}


def test_an_exported_file_carries_its_warnings_to_where_the_study_is_not(
    done: Finished, weak: Path, tmp_path: Path
) -> None:
    file = tmp_path / "m.pt"
    card = export_model(weak, file, seed=2, site=done.site)
    assert card.constant_map == ConstantMap(label="background", test_miou=0.9999)
    assert load_model(file).card == card
    assert json.loads(file.with_suffix(".json").read_text())["warnings"] == list(card.warnings)
    image = fake_scene(np.random.default_rng(5), size=(20, 33), bands=3, dtype="uint8")[0]
    write_raster(tmp_path / "scene.tif", image, georeferenced=True)
    words = ["predict", str(file), str(tmp_path / "scene.tif"), "--out", str(tmp_path / "map.tif")]
    said = CliRunner().invoke(main, words, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    score = percent(card.test_miou)
    assert f"Warning: 'baseline' of study 'done', seed 2 (test mIoU {score}), {NOTHING}" in (
        said.stderr
    )


def test_a_file_of_before_the_warnings_still_loads(
    done: Finished, weak: Path, tmp_path: Path
) -> None:
    file = tmp_path / "m.pt"
    export_model(weak, file, site=done.site)
    content = torch.load(file, weights_only=True)
    fields = json.loads(content["card"])
    assert fields.pop("constant_map") is not None
    fields.pop("warnings")
    torch.save({**content, "card": json.dumps(fields)}, file)
    card = load_model(file).card
    assert (card.constant_map, card.warnings) == (None, ())


def test_a_folder_carries_its_warnings_too(done: Finished, weak: Path, tmp_path: Path) -> None:
    bundle.export_folder(weak, tmp_path / "m", site=done.site, ensemble=True)
    readme = (tmp_path / "m" / "README.md").read_text()
    assert "A map of `background` everywhere has a test mIoU of 99.99 %" in readme
    assert f"{NOTHING}" in readme.split("> **Warning:**")[1]
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["constant_map"] == {"label": "background", "test_miou": 0.9999}
    assert set(config["test_miou"]) == {"seed1", "seed2"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mapper = standalone.load(tmp_path / "m")
    assert any(NOTHING in str(warning.message) for warning in caught)
    assert mapper.config["warnings"] == config["warnings"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "m.pt", "--ensemble"), "write a folder"),
        (("--out", "m", "--merge"), "merged already"),
        (("--out", "m", "--public"), "--public has no effect here: it is of an upload. Add --push"),
        (("--out", "m.pt", "--public"), "Add --push OWNER/NAME, or leave it out"),
        (("--out", "m", "--ensemble", "--seed", 1), "not both"),
        (("--out", "m", "--ensemble", "--onnx"), "not both"),
        (("--out", "full"), "is no exported model"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    done: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    said = _export(done, monkeypatch, *words)
    assert said.exit_code == 2
    assert message in said.output
    assert (tmp_path / "full" / "thesis.tex").exists()


TOO_SMALL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
FULL = "No space left on device"


@pytest.mark.parametrize(
    ("error", "free", "message"),
    [
        (RuntimeError(TOO_SMALL), 2**30, "Out of memory while writing the model as a graph"),
        (MemoryError(), 2**30, "The memory of this machine"),
        (RuntimeError("PytorchStreamWriter failed writing file"), 0, FULL),
        (OSError(28, FULL, "model.pt2"), 0, FULL),
        (RuntimeError("Unsupported operator"), 2**30, "torch cannot write a model of encoder"),
    ],
)
def test_a_machine_that_is_too_small_for_an_export_is_not_taken_for_a_fault_of_the_model(
    done: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    free: int,
    message: str,
) -> None:
    def export(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.export, "export", export)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 0, free))
    said = _export(done, monkeypatch, "--out", tmp_path / "m", "--seed", SEEDS[0])
    assert said.exit_code == 1
    assert said.output.startswith(message), said.output
    assert not list(tmp_path.iterdir()), "no half-written folder"


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (Segmenter, "forward", "even with a single window"),
        (torch.Tensor, "softmax", "while mapping a scene"),
    ],
)
@pytest.mark.parametrize(
    ("device", "remedy"),
    [("cpu", r"take a machine with more memory\..*--members best"), ("cuda", "--device cpu")],
)
def test_a_map_that_does_not_fit_is_a_message_with_its_remedy(
    done: Finished,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    message: str,
    device: str,
    remedy: str,
) -> None:
    """Of a window, and of what lies around it; the windows are those of the training."""
    model = open_model(done.folder, site=done.site)
    monkeypatch.setattr(prediction, "remedy_on", lambda _: remedy_on(torch.device(device)))

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(OutOfMemory, match=f"{message}.*{remedy}") as told:
        model.predict(np.zeros((3, 40, 40), dtype=np.uint8))
    assert "data.crop" not in str(told.value), "who maps cannot change the training"
    assert ("--device cpu" in str(told.value)) == (device == "cuda"), "or it is there already"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(TOO_SMALL)]
)
def test_a_model_that_memory_does_not_hold_is_not_called_a_foreign_file(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Of an ensemble each would be left out, as if its weights were gone."""
    out = tmp_path / "model.pt"
    export_model(done.folder, out, site=done.site)

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", full)
    for opens in (
        lambda: load_model(out),
        lambda: open_ensemble(done.folder, site=done.site),
        lambda: export_model(done.folder, out, site=done.site),
    ):
        with pytest.raises(OutOfMemory, match=f"(reading|exporting) the model .*{MORE_MEMORY}"):
            opens()


def test_onnx_without_its_packages_is_refused(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match=r"cryo-hpo\[onnx\]"):
        bundle.export_folder(done.folder, tmp_path / "m", site=done.site, onnx=True)


def test_onnx_is_written_where_torch_can(done: Finished, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx and onnxscript are not installed")
    bundle.export_folder(done.folder, tmp_path / "m", site=done.site, seed=1, onnx=True)
    file = tmp_path / "m" / "model.onnx"
    assert file.stat().st_size > 1000
    (entry,) = onnx.load(file).metadata_props
    card = json.loads((tmp_path / "m" / "model-seed1.json").read_text())
    assert (entry.key, json.loads(entry.value)) == ("cryo_hpo_card", card)
