"""What users get wrong, one case per line: refused by the real command before anything trains."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from cryo_hpo.cli.main import main
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.config.files.marked_yaml import write as as_yaml
from cryo_hpo.models import find_encoder

from ..support.fakes import fake_folder, write

SENTINEL = "earlier/trials/trial-0000/last.pt"  # of another study, in the same storage
FINISHED = b"the result of an earlier study"
SMALL = 256  # KiB of a disk for tests


@dataclass(slots=True)
class Good:
    """A study that can run; cases break one thing of it."""

    folder: Path
    raw: dict[str, Any]
    card: DatasetCard
    env: dict[str, str]

    @property
    def file(self) -> Path:
        return self.folder / "study.yaml"

    @property
    def storage(self) -> Path:
        return Path(self.env["CRYO_STORAGE"])

    def scene(self, kind: Literal["images", "masks"], split: str = "train") -> Path:
        """Return the first file of a split."""
        return sorted((self.folder / "data" / self.card.root / split / kind).iterdir())[0]

    def say(self, command: str) -> Result:
        """Write the study down and run a command on it."""
        self.file.write_text(as_yaml(self.raw))
        return CliRunner(env=self.env).invoke(main, [command, str(self.file)])

    def line_of(self, text: str) -> int:
        """Return the line of the study file that holds a text."""
        lines = self.file.read_text().splitlines()
        return next(number for number, line in enumerate(lines, start=1) if text in line)


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Good:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    card = fake_folder(tmp_path / "data", num=(2, 1, 1), size=(32, 32))
    for name in ("weights", "runs"):
        (tmp_path / name).mkdir()
    sentinel = tmp_path / "runs" / SENTINEL
    sentinel.parent.mkdir(parents=True)
    sentinel.write_bytes(FINISHED)
    lr = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
    return Good(
        folder=tmp_path,
        raw={
            "name": "tiny",
            "base": {
                "data": {"card": card.model_dump(mode="json"), "crop": 32},
                "model": {"encoder": "unet", "decoder": "unet", "width": 4, "channels": 8},
                "optim": {"lr": 1e-3},
                "batch_size": 2,
                "epochs": 2,
            },
            "search": {"space": {"params": {"optim.lr": lr}}, "trials": 2},
            "seeds": [1, 2],
            "resources": {"cpus": 1, "gpus": 0},
        },
        card=card,
        env={
            "CRYO_DATA": str(tmp_path / "data"),
            "CRYO_WEIGHTS": str(tmp_path / "weights"),
            "CRYO_STORAGE": str(tmp_path / "runs"),
            "CRYO_CACHE": str(tmp_path / "cache"),
        },
    )


# How to break a study. Each changes one thing.


def _set(*path: str, to: object) -> Callable[[Good], None]:
    def change(good: Good) -> None:
        inner = good.raw
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = to

    return change


def _lr(**bounds: float) -> Callable[[Good], None]:
    def change(good: Good) -> None:
        good.raw["search"]["space"]["params"]["optim.lr"] |= bounds

    return change


def _both(*changes: Callable[[Good], None]) -> Callable[[Good], None]:
    def change(good: Good) -> None:
        for one in changes:
            one(good)

    return change


def _space(name: str, values: list[object]) -> Callable[[Good], None]:
    return _set("search", "space", "params", name, to={"kind": "choice", "values": values})


def _no_data(good: Good) -> None:
    (good.folder / "data" / good.card.root).rename(good.folder / "moved")


def _no_mask(good: Good) -> None:
    good.scene("masks").unlink()


def _cut(good: Good) -> None:
    path = good.scene("images")
    path.write_bytes(path.read_bytes()[:2000])


def _cut_and_wrong(good: Good) -> None:
    _cut(good)
    _mask(7, split="val")(good)
    _mask(9, split="test")(good)


def _small_mask(good: Good) -> None:
    write(good.scene("masks"), np.zeros((1, 16, 32), dtype=np.uint8))


def _mask(value: int, split: str = "train") -> Callable[[Good], None]:
    def change(good: Good) -> None:
        write(good.scene("masks", split), np.full((1, 32, 32), value, dtype=np.uint8))

    return change


def _nan(good: Good) -> None:
    with rasterio.open(good.scene("images")) as file:
        pixels_CHW = file.read().astype(np.float32)
    pixels_CHW[0, 3, 3] = np.nan
    write(good.scene("images"), pixels_CHW, georeferenced=True)


def _weights(good: Good, *, width: int, keep: float = 1.0) -> None:
    good.raw["base"]["model"]["weights"] = "mine.safetensors"
    state = _unet(width)
    path = good.folder / "weights" / "mine.safetensors"
    save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def _unet(width: int) -> dict[str, torch.Tensor]:
    from cryo_hpo.bands import find_band

    bands = tuple(map(find_band, ("B4", "B3", "B2")))
    return find_encoder("unet").build(bands, width=width).state_dict()


def _cut_weights(good: Good) -> None:
    _weights(good, width=4, keep=0.5)


def _other_weights(good: Good) -> None:
    _weights(good, width=8)


def _taken(good: Good) -> None:
    from cryo_hpo.config import dump_study, load_study
    from cryo_hpo.results.files import SPEC

    good.file.write_text(as_yaml({**good.raw, "seeds": [1, 2, 3]}))
    folder = good.storage / good.raw["name"]
    folder.mkdir()
    (folder / SPEC).write_text(dump_study(load_study(good.file)))


def _storage_below_a_file(good: Good) -> None:
    (good.folder / "note.txt").write_text("no folder")
    good.env["CRYO_STORAGE"] = str(good.folder / "note.txt" / "runs")


def _storage_that_takes_no_file(good: Good) -> None:
    good.env["CRYO_STORAGE"] = "/proc/self"


def _cache_below_a_file(good: Good) -> None:
    (good.folder / "note.txt").write_text("no folder")
    good.env["CRYO_CACHE"] = str(good.folder / "note.txt" / "cache")


def _no_mlflow(good: Good) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # free a moment ago, and closed now
        port = taken.getsockname()[1]
    good.env["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"


@dataclass(frozen=True, slots=True)
class Case:
    """A way to break a study.

    Attributes:
        breaks: What it does to a good one.
        code: The exit code; 2 for a wrong spec, 1 for the rest.
        says: What the message holds; {key} is the line of that key in the study file.
        command: The cheapest that can see it.
    """

    breaks: Callable[[Good], None]
    code: Literal[1, 2]
    says: tuple[str, ...]
    command: Literal["check", "run"] = "check"


CASES = {
    "unknown key": Case(
        _set("base", "optim", "lrr", to=0.1),
        2,
        ("study.yaml:{lrr}: base.optim.lrr: No key named 'lrr'", "Did you mean 'lr'?", "Known:"),
    ),
    "unknown encoder": Case(
        _set("base", "model", to={"encoder": "unett"}),
        2,
        ("study.yaml:{unett}: No encoder named 'unett'.", "Did you mean 'unet'?", "Known:"),
    ),
    "unknown dataset": Case(
        _set("base", "data", to={"name": "lakes-dem"}),
        2,
        ("study.yaml:{lakes-dem}: No dataset named 'lakes-dem'.", "Did you mean 'lakes-demo'?"),
    ),
    "unknown loss": Case(
        _set("base", "loss", to={"name": "cee"}),
        2,
        ("study.yaml:{cee}: base.loss.name: Must be one of 'ce'", "got 'cee'. Did you mean 'ce'?"),
    ),
    "LR bounds reversed": Case(
        _lr(low=1e-2, high=1e-4),
        2,
        (
            "study.yaml:{optim.lr}: search.space.params.optim.lr: low must not exceed high, "
            "got low=0.01, high=0.0001. Swap them.",
        ),
    ),
    "LR bounds not positive": Case(
        _lr(low=-1e-4),
        2,
        ("study.yaml:{optim.lr}: ", "A log scale needs low above 0, got low=-0.0001. Raise low"),
    ),
    "LR bounds not positive, without log": Case(
        _lr(low=0.0, log=False),
        2,
        ("study.yaml:{optim.lr}: ", "optim.lr: Must be above 0, got 0.0."),
    ),
    "fixed LR not positive": Case(
        _set("base", "optim", "lr", to=-0.5),
        2,
        ("study.yaml:{-0.5}: base.optim.lr: Must be above 0, got -0.5.",),
    ),
    "a parameter the recipe does not have": Case(
        _space("optim.momentum", [0.9]),
        2,
        ("study.yaml:{momentum}: ", "No recipe parameter named 'optim.momentum'.", "Known:"),
    ),
    "negative seed of the base": Case(
        _set("base", "seed", to=-1), 2, ("study.yaml:{-1}: base.seed: Must be at least 0, got -1.",)
    ),
    "negative seed of the comparison": Case(
        _set("seeds", to=[1, -7]), 2, ("study.yaml:{-7}: seeds[1]: Must be at least 0, got -7.",)
    ),
    "negative seed of the search": Case(
        _set("search", "seed", to=-9),
        2,
        ("study.yaml:{-9}: search.seed: Must be at least 0, got -9.",),
    ),
    "encoder needs bands the dataset lacks": Case(
        _both(
            _set("base", "data", "card", "bands", to=["VV", "PAN", "GREY"]),
            _set("base", "model", to={"encoder": "galileo-nano", "weights": "scratch"}),
        ),
        2,
        ("study.yaml:{galileo}: Encoder 'galileo-nano' needs the bands", "Use an encoder that"),
    ),
    "crop not divisible": Case(
        _set("base", "data", "crop", to=35),
        2,
        ("study.yaml:{crop: 35}: data.crop must be a multiple of 16", "got 35. Nearest: 32, 48."),
    ),
    "crop not divisible, in the space": Case(
        _space("data.crop", [32, 40]),
        2,
        ("study.yaml:{data.crop}: data.crop must be a multiple of 16", "got 40. Nearest: 32, 48."),
    ),
    "crop not divisible, in a baseline": Case(
        _set("baselines", to={"paper": {"data.crop": 24}}),
        2,
        ("study.yaml:{paper}: data.crop must be a multiple of 16", "got 24. Nearest: 16, 32."),
    ),
    "missing directory": Case(
        _no_data,
        1,
        ("data/fake: dataset 'fake' must lie in this folder", "does not exist. Set CRYO_DATA"),
    ),
    "image without mask": Case(
        _no_mask, 1, ("data/fake: every image of split 'train' must have its mask, 1 have none",)
    ),
    "sizes that differ": Case(
        _small_mask,
        1,
        (
            "masks/train0_0.png: a mask must be as large as its image of 32 x 32",
            "this one has 16 x 32. Resample the mask",
        ),
    ),
    "truncated GeoTIFF": Case(
        _cut,
        1,
        (
            "images/train0_0.tif: a raster must be readable to its last pixel",
            "Was it copied completely?",
        ),
    ),
    "scenes of all parts": Case(
        _cut_and_wrong,
        1,
        (
            "train/images/train0_0.tif: a raster must be readable to its last pixel",
            "val/masks/val0_0.png: the mask holds the value 7",
            "test/masks/test0_0.png: the mask holds the value 9",
        ),
    ),
    "mask value outside the classes": Case(
        _mask(7),
        1,
        (
            "masks/train0_0.png: the mask holds the value 7 (1024 wrong pixels)",
            "'fake' allows 0 (background), 1 (lake) and 255 (ignore). Was it resampled",
        ),
    ),
    "an all-ignored split": Case(
        _mask(255, split="test"),
        1,
        ("test/masks: no labeled pixels: all 1 scenes", "Check 'values'"),
    ),
    "NaN pixels": Case(
        _nan,
        1,
        ("images/train0_0.tif: pixels must be finite, 1 of 1024 are NaN", "Write `nan: ignore`"),
    ),
    "weights file missing": Case(
        _set("base", "model", "weights", to="mine.pt"),
        1,
        ("weights/mine.pt': weights are read from this file, which does not exist. Put it there",),
    ),
    "weights file truncated": Case(
        _cut_weights,
        1,
        ("weights/mine.safetensors' must be a checkpoint of plain tensors", "cut short: compare"),
    ),
    "weights of another architecture": Case(
        _other_weights,
        1,
        (
            "weights/mine.safetensors': weights must fit 'unet' key by key, these hold",
            "where the model has",
            "Nothing was loaded. Name the checkpoint",
        ),
    ),
    "no GPU where one was asked for": Case(
        _set("resources", "gpus", to=1),
        2,
        (
            "study.yaml:{gpus}: resources.gpus is 1, and no GPU is visible here.",
            "Set resources.gpus to 0",
        ),
        command="run",
    ),
    "study name already used with a different spec": Case(
        _taken,
        2,
        (
            "runs/tiny/study.yaml: a study's name belongs to one spec",
            "seeds: [1, 2, 3] -> [1, 2]. Give this study a new name",
        ),
        command="run",
    ),
    "read-only storage: below a file": Case(
        _storage_below_a_file,
        1,
        (
            "note.txt/runs/tiny: CRYO_STORAGE must be a folder that can be written to",
            "Set CRYO_STORAGE",
        ),
        command="run",
    ),
    "read-only storage: takes no file": Case(
        _storage_that_takes_no_file,
        1,
        (
            "/proc/self/tiny: CRYO_STORAGE must be a folder that can be written to",
            "Set CRYO_STORAGE",
        ),
        command="run",
    ),
    "read-only cache": Case(
        _cache_below_a_file,
        1,
        ("note.txt/cache: decoded scenes are kept here", "Set CRYO_CACHE to a folder"),
    ),
    "MLflow not reachable": Case(
        _no_mlflow,
        1,
        ("MLflow must answer before a study begins, 'http://127.0.0.1:", "unset MLFLOW_"),
        command="run",
    ),
}


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Ray and training an error of the test: both come after every check."""

    def never(*_: object, **__: object) -> None:
        pytest.fail("the study went on to Ray")

    from cryo_hpo.execution import ray_driver as driver

    monkeypatch.setattr(driver, "cluster", never)


def _refuse(good: Good, case: Case) -> None:
    """Break a study, run the command, and compare exit code and message."""
    case.breaks(good)
    result = good.say(case.command)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == case.code, result.output
    assert "Traceback" not in result.output
    assert result.stderr.strip(), "the message goes to standard error"
    for text in case.says:
        key = text.partition("{")[2].partition("}")[0]
        assert text.replace(f"{{{key}}}", str(good.line_of(key))) in result.stderr


def _nothing_happened(good: Good) -> None:
    """The earlier study is as it was, and this one has neither trials nor a name taken."""
    assert (good.folder / "runs" / SENTINEL).read_bytes() == FINISHED
    begun = [p for p in (good.folder / "runs").rglob("*") if p.name in ("trials", "confirm")]
    assert begun == [good.folder / "runs" / "earlier" / "trials"]
    assert not (good.storage / "tiny" / "journal.log").exists()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("without_training")
def test_what_is_wrong_is_refused_before_anything_trains(name: str, good: Good) -> None:
    case = CASES[name]
    if name == "no GPU where one was asked for" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    _refuse(good, case)
    _nothing_happened(good)
    folder = good.storage / "tiny"
    assert (folder / "study.yaml").exists() == (case.breaks is _taken), "a refusal takes no name"


def test_the_good_study_passes_check_and_says_what_it_found(good: Good) -> None:
    result = good.say("check")
    assert result.exit_code == 0, result.output
    assert "train: 2 scenes, 3 bands, uint8" in result.stdout
    assert "Every trainable parameter is in exactly one of" in result.stdout
    assert f"'tiny' can run: cryo-hpo run {good.file}" in result.stdout
    _nothing_happened(good)


def test_the_good_study_gets_as_far_as_ray(good: Good, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, every case above could be refused for another reason."""
    from cryo_hpo.execution import ray_driver as driver

    def stand_in() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "cluster", stand_in)
    assert good.say("run").exit_code == 130
    assert (good.storage / "tiny" / "study.yaml").exists()


def test_a_refused_study_keeps_its_name_once_it_is_mended(
    good: Good, without_training: None
) -> None:
    crop = _set("base", "data", "crop", to=35)
    crop(good)
    assert good.say("run").exit_code == 2
    _set("base", "data", "crop", to=32)(good)
    good.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    refused = good.say("run")  # by the next check, and not for its name
    assert refused.exit_code == 1
    assert "MLflow must answer" in refused.stderr


def test_check_says_all_that_is_wrong_at_once(good: Good) -> None:
    names = (
        "crop not divisible",
        "no GPU where one was asked for",
        "study name already used with a different spec",
    )
    wrong = [*(CASES[name] for name in names), CASES["NaN pixels"], CASES["an all-ignored split"]]
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for case in wrong:
        case.breaks(good)
    result = good.say("check")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == len(wrong)
    for law in (
        "data.crop must",
        "no GPU is visible",
        "belongs to one spec",
        "finite",
        "no labeled pixels",
    ):
        assert law in result.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, as small as SMALL says."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}k", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if made.returncode:
        pytest.skip(f"a disk of its own cannot be mounted here: {made.stderr.strip()}")
    yield place
    # a study that was not refused still holds its database open
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(place: Path, *, leave: int) -> None:
    """Leave so many KiB free."""
    with (place / "filler").open("wb", buffering=0) as file:
        file.write(bytes((SMALL - leave) * 1024))


def _on(good: Good, place: Path) -> None:
    good.env["CRYO_STORAGE"] = str(place / "runs")
    finished = place / "runs" / SENTINEL
    finished.parent.mkdir(parents=True)
    finished.write_bytes(FINISHED)


def test_a_full_disk_is_refused(good: Good, disk: Path, without_training: None) -> None:
    _on(good, disk)
    _fill(disk, leave=4)
    case = Case(
        lambda _: None,
        1,
        (
            "disk/runs/tiny: CRYO_STORAGE must be a folder that can be written to",
            "No space left on device",
            "or free space",
        ),
        command="run",
    )
    _refuse(good, case)
    assert (disk / "runs" / SENTINEL).read_bytes() == FINISHED
    assert not (disk / "runs" / "tiny" / "trials").exists()


def test_a_disk_without_room_for_the_checkpoints_is_refused(
    good: Good, disk: Path, without_training: None
) -> None:
    _on(good, disk)
    case = Case(
        lambda _: None,
        1,
        ("disk/runs/tiny: the study's checkpoints take up to ", " GiB are free. Free space, or"),
        command="run",
    )
    _refuse(good, case)
    assert (disk / "runs" / SENTINEL).read_bytes() == FINISHED
    assert not (disk / "runs" / "tiny" / "trials").exists()


def test_a_read_only_disk_is_refused(good: Good, disk: Path, without_training: None) -> None:
    """A study that is there already meets it at another place than one whose folder is made."""
    _on(good, disk)
    (disk / "runs" / "tiny").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    says = (
        "disk/runs/tiny: CRYO_STORAGE must be a folder that can be written to",
        "Read-only file system",
        "Set CRYO_STORAGE to one that is",
    )
    _refuse(good, Case(lambda _: None, 1, says, command="run"))
    assert (disk / "runs" / SENTINEL).read_bytes() == FINISHED
    assert not list((disk / "runs" / "tiny").iterdir())


def test_a_cluster_without_the_gpu_is_refused_before_a_trial(
    good: Good, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cluster has is known once it is joined; this machine may have none."""
    from cryo_hpo.execution import ray_driver as driver

    monkeypatch.setattr(driver, "cluster", contextlib.nullcontext)
    node = {"Alive": True, "Resources": {"CPU": 4.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    good.env["RAY_ADDRESS"] = "there:6379"
    _set("resources", "gpus", to=0.5)(good)
    says = (
        "study.yaml:{gpus}: resources.gpus asks for 0.5 GPU per trial, the cluster's nodes have up to 0.",
    )
    _refuse(good, Case(lambda _: None, 2, says, command="run"))
    _nothing_happened(good)


def test_a_cache_without_room_is_refused(good: Good, disk: Path) -> None:
    good.env["CRYO_CACHE"] = str(disk / "cache")
    _fill(disk, leave=8)
    says = ("disk/cache: the decoded scenes need about ", "Set CRYO_CACHE to a folder")
    _refuse(good, Case(lambda _: None, 1, says))
    _nothing_happened(good)
