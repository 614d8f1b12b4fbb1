from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site, Study
from cryo_hpo.data.cache import open_split
from cryo_hpo.errors import Diverged, SpecError, StorageError
from cryo_hpo.study.preflight import check
from cryo_hpo.training import checkpoints
from cryo_hpo.training.build import device_for, parameter_groups, segmenter
from cryo_hpo.training.loop import Epoch, fit
from cryo_hpo.training.opening import open_run, to_channels_last

from ..support.fakes import fake_folder
from ..support.scoring import score_split

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.from_env(
        {
            "CRYO_DATA": str(tmp_path / "data"),
            "CRYO_STORAGE": str(tmp_path / "runs"),
            "CRYO_CACHE": str(tmp_path / "cache"),
        }
    )


@pytest.fixture
def recipe(site: Site) -> Recipe:
    card = fake_folder(site.data, num=(6, 3, 2), size=(32, 40))
    return Recipe(
        data=DataSpec(card=card, crop=32),
        model=ModelSpec(encoder="unet", decoder="unet", width=8),
        optim=OptimSpec(lr=0.01, schedule="constant"),
        batch_size=2,
        epochs=4,
    )


def _losses(epochs: list[Epoch]) -> list[float]:
    return [epoch.train_loss for epoch in epochs]


def _fit(recipe: Recipe, site: Site, name: str, **kwargs) -> list[Epoch]:
    return list(fit(recipe, site=site, workdir=site.storage / name, device=CPU, **kwargs))


def test_it_learns_what_can_be_learned(recipe, site):
    epochs = _fit(recipe.replace({"epochs": 12}), site, "learn")
    assert epochs[-1].best_val_miou > 0.9
    assert epochs[-1].train_loss < epochs[0].train_loss / 2


def test_two_runs_are_identical(recipe, site):
    one, two = _fit(recipe, site, "one"), _fit(recipe, site, "two")
    assert _losses(one) == _losses(two)
    assert [e.val for e in one] == [e.val for e in two]


def test_a_resumed_run_equals_one_that_ran_through(recipe, site):
    through = _fit(recipe, site, "through")
    first = list(
        itertools.islice(fit(recipe, site=site, workdir=site.storage / "cut", device=CPU), 2)
    )
    rest = _fit(recipe, site, "cut")
    assert _losses(first + rest) == _losses(through)
    states = [
        torch.load(site.storage / n / "last.pt", weights_only=True) for n in ("through", "cut")
    ]
    for key, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][key]), key


@pytest.mark.parametrize("files", [["last.pt"], ["last.pt", "before.pt"]])
def test_a_run_whose_checkpoint_was_damaged_equals_one_that_ran_through(recipe, site, files):
    """It goes back to the state before; where that is damaged too, to the beginning."""
    through = _fit(recipe, site, "through")
    whole = site.storage / "cut"
    first = list(itertools.islice(fit(recipe, site=site, workdir=whole, device=CPU), 3))
    for name in files:
        (whole / name).write_bytes(b"garbage")
    rest = _fit(recipe, site, "cut")
    assert [e.number for e in rest] == [3, 4] if len(files) == 1 else [1, 2, 3, 4]
    assert _losses(first[: 4 - len(rest)] + rest) == _losses(through)


def test_another_seed_gives_another_run(recipe, site):
    assert _losses(_fit(recipe, site, "a")) != _losses(_fit(recipe.replace({"seed": 7}), site, "b"))


def test_a_finished_run_yields_nothing_and_keeps_its_history(recipe, site):
    epochs = _fit(recipe, site, "done")
    assert _fit(recipe, site, "done") == []
    again = fit(recipe, site=site, workdir=site.storage / "done", device=CPU)
    assert [epoch["train_loss"] for epoch in again.history] == _losses(epochs)


def test_a_work_directory_belongs_to_one_recipe(recipe, site):
    _fit(recipe, site, "mine")
    with pytest.raises(SpecError, match="belongs to one recipe"):
        _fit(recipe.replace({"optim.lr": 0.5}), site, "mine")


def test_a_diverging_run_ends_at_that_step(recipe, site):
    beyond = recipe.optim.model_copy(update={"lr": 1e30})  # no study may have it
    with pytest.raises(Diverged, match=r"became (nan|inf) at epoch \d+, step \d+ \(lr 1e\+30"):
        _fit(recipe.model_copy(update={"optim": beyond}), site, "far")


def test_a_frozen_encoder_stays_as_it_was(recipe, site):
    frozen = recipe.replace({"model.tune": "frozen", "epochs": 1})
    _fit(frozen, site, "frozen")
    torch.manual_seed(frozen.seed)
    fresh = segmenter(frozen, site=site, weights="scratch").state_dict()
    after = torch.load(site.storage / "frozen" / "best.pt", weights_only=True)["model"]
    changed = {k.split(".")[0] for k in fresh if not torch.equal(fresh[k], after[k])}
    assert changed == {"decoder"}


def test_the_best_checkpoint_is_the_one_that_is_scored(recipe, site):
    epochs = _fit(recipe, site, "best")
    again = score_split(recipe, "val", site=site, workdir=site.storage / "best", device=CPU)
    assert math.isclose(again.miou, max(e.val.miou for e in epochs), rel_tol=1e-12)


def test_a_search_keeps_no_best_checkpoint(recipe, site):
    _fit(recipe, site, "search", keep_best=False)
    assert not (site.storage / "search" / "best.pt").exists()


def test_a_killed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoints.save(path, {"epoch": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="Free space or set CRYO_STORAGE"):
        checkpoints.save(path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoints.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_check_returns_groups_that_hold_every_parameter(recipe, site):
    found = check(Study(name="groups", base=recipe), site=site)
    model = segmenter(recipe, site=site, weights="scratch")
    assert sum(g.num_values for g in found) == sum(p.numel() for p in model.parameters())
    assert parameter_groups(recipe, model) == found


def test_every_epoch_reports_what_schedulers_need(recipe, site):
    for number, epoch in enumerate(_fit(recipe, site, "numbers"), start=1):
        metrics = epoch.metrics()
        assert metrics["epoch"] == number
        assert metrics["best_val_miou"] >= metrics["val_miou"]
        assert metrics["data_seconds"] <= metrics["seconds"]


def test_the_schedule_moves_the_learning_rate(recipe, site):
    epochs = _fit(recipe.replace({"optim.schedule": "multistep", "epochs": 10}), site, "steps")
    assert [round(e.lr, 9) for e in epochs] == [0.01] * 6 + [0.001] * 3 + [0.0001]


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(SpecError, match=r"resources\.gpus is 1.*no GPU is visible"):
        device_for(1)
    assert device_for(0) == CPU


def test_half_precision_is_kept_on_cpu_where_it_is_asked_for(recipe, site):
    precisions = ("auto", "fp32", "bf16")
    auto, full, half = (
        _losses(_fit(recipe.replace({"precision": p, "epochs": 1}), site, p)) for p in precisions
    )
    assert auto == full
    assert half != full
    assert half == pytest.approx(full, rel=0.05)


def test_in_bf16_a_cpu_takes_the_kernels_of_a_gpu_and_in_fp32_those_of_the_published_loop(
    recipe, site
):
    half = open_run(recipe.replace({"precision": "bf16"}), site, CPU)
    full = open_run(recipe, site, CPU)
    weights = [next(p for p in run.model.parameters() if p.ndim == 4) for run in (half, full)]
    layouts = [p.is_contiguous(memory_format=torch.channels_last) for p in weights]
    assert layouts == [True, False]
    assert [run.optimizer.param_groups[0]["fused"] for run in (half, full)] == [True, None]


def test_a_training_in_bf16_resumes_bit_for_bit(recipe, site):
    recipe = recipe.replace({"precision": "bf16", "epochs": 3})
    whole = _losses(_fit(recipe, site, "whole"))
    workdir = site.storage / "cut"
    begun = list(itertools.islice(fit(recipe, site=site, workdir=workdir, device=CPU), 1))
    rest = list(fit(recipe, site=site, workdir=workdir, device=CPU))
    assert _losses([*begun, *rest]) == whole


def test_weights_of_3d_convolutions_keep_their_layout():
    flat, deep = torch.nn.Conv2d(2, 3, 3), torch.nn.Conv3d(2, 3, 3)
    model = torch.nn.Sequential(flat, deep)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    to_channels_last(model)
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert deep.weight.is_contiguous()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_resumed_training_reads_its_checkpoint_once_and_no_pretrained_weights(
    recipe, site, monkeypatch
):
    workdir = site.storage / "cut"
    list(itertools.islice(fit(recipe, site=site, workdir=workdir, device=CPU), 2))
    reads, built = [], []
    load, build = checkpoints.load, segmenter

    def reading(path: Path, **kwargs):
        reads.append(path.name)
        return load(path, **kwargs)

    def building(*args, weights, **kwargs):
        built.append(weights)
        return build(*args, weights=weights, **kwargs)

    monkeypatch.setattr(checkpoints, "load", reading)
    monkeypatch.setattr("cryo_hpo.training.build.segmenter", building)
    training = fit(recipe, site=site, workdir=workdir, device=CPU)
    assert [epoch["epoch"] for epoch in training.history] == [1, 2]
    assert built == [], "what an earlier process finished is known before anything is built"
    assert [epoch.number for epoch in training] == [3, 4]
    assert (reads, built) == (["last.pt"], ["scratch"])


@pytest.mark.gpu
def test_a_gpu_trains_in_half_precision(recipe, site):
    epochs = list(fit(recipe, site=site, workdir=site.storage / "gpu", device=device_for(1)))
    assert epochs[-1].peak_gib > 0
    assert epochs[-1].best_val_miou > 0.5


def test_the_test_split_is_not_read_by_training(recipe, site, monkeypatch):
    opened = []

    def listening(dataset, root, split, *, cache):
        opened.append(split)
        return open_split(dataset, root, split, cache=cache)

    monkeypatch.setattr("cryo_hpo.training.build.open_split", listening)
    _fit(recipe.replace({"epochs": 1}), site, "blind")
    assert set(opened) == {"train", "val"}


def test_the_losses_are_those_of_the_golden_file(recipe, site):
    """A change that is meant to leave results alone leaves these alone."""
    golden = Path(__file__).parents[1] / "golden" / "fit_tiny_losses.txt"
    losses = _losses(_fit(recipe, site, "golden"))
    # other processors round differently; a changed procedure differs by far more
    assert losses == pytest.approx([float(line) for line in golden.read_text().split()], rel=2e-3)


def test_averaging_leaves_the_training_itself_alone(recipe, site):
    raw = _fit(recipe, site, "raw")
    averaged = _fit(recipe.replace({"optim.ema": 0.8}), site, "ema")
    assert _losses(averaged) == _losses(raw)
    assert [e.val for e in averaged] != [e.val for e in raw]
    states = [torch.load(site.storage / n / "last.pt", weights_only=True) for n in ("raw", "ema")]
    one, two = (state["model"] for state in states)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_average_is_what_is_scored_and_kept(recipe, site):
    averaged = recipe.replace({"optim.ema": 0.8})
    epochs = _fit(averaged, site, "kept")
    again = score_split(averaged, "val", site=site, workdir=site.storage / "kept", device=CPU)
    assert math.isclose(again.miou, epochs[-1].best_val_miou, rel_tol=1e-12)
    assert epochs[-1].best_val_miou == max(e.val.miou for e in epochs)


def test_a_resumed_average_equals_one_that_ran_through(recipe, site):
    averaged = recipe.replace({"optim.ema": 0.8})
    through = _fit(averaged, site, "through")
    cut = site.storage / "cut"
    first = list(itertools.islice(fit(averaged, site=site, workdir=cut, device=CPU), 2))
    rest = _fit(averaged, site, "cut")
    assert [e.val for e in first + rest] == [e.val for e in through]
    states = [
        torch.load(site.storage / n / "last.pt", weights_only=True) for n in ("through", "cut")
    ]
    one, two = (state["average"] for state in states)
    assert one["steps"] == two["steps"] == 12
    for key, value in one["model"].items():
        assert torch.equal(value, two["model"][key]), key
