"""Every encoder, decoder and loss trains, resumes, is validated and maps on a fake GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._subclasses import FakeTensor
from torch.utils import _pytree
from torch.utils._device import _device_constructors

from cryo_hpo.config import DataSpec, LossSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data import ahead
from cryo_hpo.data.tiles import Normalize
from cryo_hpo.errors import Diverged
from cryo_hpo.models import DECODERS, ENCODERS, FINGERPRINT
from cryo_hpo.prediction.card import ModelCard
from cryo_hpo.prediction.ensemble import Ensemble
from cryo_hpo.prediction.model import Model
from cryo_hpo.training import loop, pack
from cryo_hpo.training.checkpoint_writer import copy_to_host
from cryo_hpo.training.losses import LOSSES
from cryo_hpo.training.member_run import MemberRun, RandomState
from cryo_hpo.training.run import Run, last_state, resume
from cryo_hpo.training.sharing import SharedEncoders

from ..support.crops import side_of
from .conftest import S2, Places, SyncCounter

pytestmark = pytest.mark.fake_cuda

CUDA = torch.device("cuda")
SIZE = 64
SYNCS_PER_STEP = 0
SYNCS_PER_VALIDATION = 1  # the confusion matrix of the split comes to the host
SYNCS_PER_PASS = 1  # the map of a row of windows comes to the host, where fronts are measured


def _recipe(card: DatasetCard, encoder: str = "unet", **changes: Any) -> Recipe:
    spec = {"encoder": encoder, "decoder": "upernet", "channels": 8, "weights": "scratch"}
    return Recipe(
        data=changes.pop("data", DataSpec(card=card, crop=side_of(encoder, SIZE))),
        model=ModelSpec(**spec | changes.pop("model", {})),
        **{"batch_size": 2, "epochs": 3, **changes},
    )


def _open(
    recipe: Recipe, site: Site, monkeypatch: pytest.MonkeyPatch, *, metric: str = "miou"
) -> Run:
    run = loop.open_run(recipe, site, CUDA, metric=metric)

    def backward(loss: torch.Tensor) -> None:
        assert loss.device.type == "cuda"
        assert loss.dtype == torch.float32
        for p in run.model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    return run


def _train(run: Run, cuda: SyncCounter, epoch: int = 1) -> float:
    """Train an epoch; return how often a step waits for the GPU."""
    cuda.syncs.clear()
    loop._train(run, epoch)
    return sum(cuda.syncs.values()) / run.steps


def _place(places: Places, encoder: str) -> tuple[Site, DatasetCard]:
    if encoder in ENCODERS and ENCODERS[encoder].needs_all:
        return places["both"]
    return places["radar" if "sar" in encoder else "optical"]


@pytest.mark.usefixtures("tiny_encoders")
@pytest.mark.parametrize("encoder", [*ENCODERS, "timm/resnet18", "timm/lambda_resnet26t"])
def test_every_encoder_trains_and_is_validated(encoder, places, cuda, monkeypatch):
    site, card = _place(places, encoder)
    run = _open(_recipe(card, encoder), site, monkeypatch)
    assert {p.device.type for p in run.model.parameters()} == {"cuda"}
    assert _train(run, cuda) <= SYNCS_PER_STEP, cuda.syncs
    cuda.syncs.clear()
    run.validation.score(run.model)
    assert sum(cuda.syncs.values()) == SYNCS_PER_VALIDATION, cuda.syncs


@pytest.mark.usefixtures("tiny_encoders")
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "upernet"])
@pytest.mark.parametrize("encoder", ["vit-scratch", "timm/resnet18"])  # upernet: see above
def test_every_decoder_trains_and_is_validated(encoder, decoder, places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card, encoder, model={"decoder": decoder}), site, monkeypatch)
    assert _train(run, cuda) <= SYNCS_PER_STEP, cuda.syncs
    run.validation.score(run.model)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_waits_for_the_gpu(loss, places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card, "timm/resnet10t", loss=LossSpec(name=loss)), site, monkeypatch)
    for epoch, micro_batch in enumerate((2, 1), start=1):
        run.step.micro_batch = micro_batch
        assert _train(run, cuda, epoch) <= SYNCS_PER_STEP, cuda.syncs


@pytest.mark.usefixtures("tiny_encoders")
def test_normalizing_each_image_does_not_wait_for_the_gpu(places, cuda, monkeypatch):
    site, card = places["optical"]
    data = DataSpec(card=card, crop=SIZE, normalize="image")
    run = _open(_recipe(card, "vit-b16", data=data), site, monkeypatch)
    assert _train(run, cuda) <= SYNCS_PER_STEP, cuda.syncs


def test_clipping_does_not_wait_for_the_gpu(places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card, optim=OptimSpec(clip_grad_norm=1.0)), site, monkeypatch)
    assert _train(run, cuda) <= SYNCS_PER_STEP, cuda.syncs


@pytest.mark.usefixtures("tiny_encoders")
def test_a_resumed_training_waits_for_the_gpu_no_more_often(places, cuda, monkeypatch):
    site, card = places["optical"]
    recipe = _recipe(card, "vit-scratch")
    run = _open(recipe, site, monkeypatch)
    fresh = _train(run, cuda)
    state = copy.copy(last_state(run))
    saved = _pytree.tree_map(lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, state)
    again = _open(recipe, site, monkeypatch)
    resume(again, saved)
    where = {v.device.type for s in again.optimizer.state.values() for v in s.values()}
    assert where == {"cuda"}, "also the count of steps, which the fused kernel reads there"
    assert _train(again, cuda, epoch=2) == fresh <= SYNCS_PER_STEP, cuda.syncs


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_average_of_the_weights_does_not_wait_for_the_gpu(epochs, places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card, optim=OptimSpec(ema=0.9)), site, monkeypatch)
    for epoch in range(1, epochs + 1):
        assert _train(run, cuda, epoch) <= SYNCS_PER_STEP, cuda.syncs
    assert run.scored is not run.model
    assert {p.device.type for p in run.scored.parameters()} == {"cuda"}
    cuda.syncs.clear()
    run.validation.score(run.scored)
    assert sum(cuda.syncs.values()) == SYNCS_PER_VALIDATION, cuda.syncs


@pytest.mark.parametrize(
    ("name", "per_parameter"), [("sgd", 0), ("schedule-free", 0), ("prodigy", 2)]
)
def test_optimizers_wait_for_the_gpu_as_often_as_the_docs_say(
    name, per_parameter, places, cuda, monkeypatch
):
    site, card = places["optical"]
    run = _open(_recipe(card, optim=OptimSpec(name=name)), site, monkeypatch)
    parameters = sum(1 for p in run.model.parameters() if p.requires_grad)
    _train(run, cuda)  # Prodigy asks each parameter once whether it is zero
    most = per_parameter * parameters + SYNCS_PER_STEP
    assert _train(run, cuda, epoch=2) <= most, cuda.syncs
    cuda.syncs.clear()
    loop._settle(run, 2)
    assert not cuda.syncs


def test_batches_are_copied_on_a_stream_of_their_own(places, cuda, monkeypatch):
    """No kernel reads one before it is there, and its memory waits for them: see `SyncCounter`."""
    site, card = places["optical"]
    run = _open(_recipe(card), site, monkeypatch)
    _train(run, cuda)
    assert cuda.copied == 2 * run.steps, "images and masks"
    assert not cuda.in_flight


@pytest.mark.parametrize("missing", ["wait_event", "record_stream"])
def test_a_copy_that_is_not_waited_for_or_kept_would_be_noticed(missing, cuda, monkeypatch):
    batch = torch.empty(3)
    copy = ahead.start_copy(batch, device=CUDA)
    stream = torch.cuda.current_stream(CUDA)
    if missing == "wait_event":
        with pytest.raises(AssertionError, match="read before its copy was there"):
            copy.tensors[0] + 1
        with pytest.raises(AssertionError):
            copy.tensors[0].record_stream(stream)
        ahead.wait_for_copy(copy)
    else:
        stream.wait_event(copy.arrived)
        assert [x is copy.tensors[0] for x in cuda.unguarded] == [True]
        copy.tensors[0].record_stream(stream)
    assert (copy.tensors[0] + 1).device.type == "cuda"


def test_a_frozen_encoder_is_left_out_on_the_gpu_too(places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card, model={"tune": "frozen"}), site, monkeypatch)
    assert _train(run, cuda) <= SYNCS_PER_STEP, cuda.syncs
    keys = last_state(run)["model"]
    assert {key.split(".")[0] for key in keys} == {"decoder", FINGERPRINT}


def test_measuring_fronts_waits_for_the_gpu_once_a_pass(places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card), site, monkeypatch, metric="mde_px/a|b")
    cuda.syncs.clear()
    run.validation.score(run.model)
    assert sum(cuda.syncs.values()) <= SYNCS_PER_PASS * len(run.validation.scenes), cuda.syncs


@pytest.mark.usefixtures("tiny_encoders")
def test_recomputed_activations_do_not_wait_for_the_gpu(places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card, "vit-b16", recompute=True), site, monkeypatch)
    assert _train(run, cuda) <= SYNCS_PER_STEP, cuda.syncs


@pytest.mark.parametrize(("diverges", "launched"), [(2, 3), (4, 4)])
def test_a_divergence_is_noticed_a_step_later_and_before_a_checkpoint(
    diverges, launched, places, cuda, monkeypatch
):
    """Of the last step of an epoch before the epoch ends: nothing of it is scored or kept."""
    site, card = places["optical"]
    run = _open(_recipe(card, batch_size=1), site, monkeypatch)
    assert run.steps == 4
    losses = iter([1.0] * (diverges - 1) + [float("nan")])
    monkeypatch.setattr(FakeTensor, "tolist", lambda _: [next(losses), 1.0])
    steps, step = [], loop.take_step

    def counted(*args: Any, **given: Any) -> Any:
        steps.append(given["position"])
        return step(*args, **given)

    monkeypatch.setattr(loop, "take_step", counted)
    with pytest.raises(Diverged, match=rf"Loss became nan at epoch 1, step {diverges} "):
        loop._train(run, 1)
    assert len(steps) == launched


def test_a_checkpoint_is_copied_to_the_host_before_it_is_written(places, cuda, monkeypatch):
    site, card = places["optical"]
    run = _open(_recipe(card), site, monkeypatch)
    _train(run, cuda)
    copied = _pytree.tree_leaves(copy_to_host(last_state(run)))
    tensors = [x for x in copied if isinstance(x, torch.Tensor)]
    assert len(tensors) > 3 * len(list(run.model.parameters())), "weights and moments"
    assert {x.device.type for x in tensors} == {"cpu"}


@pytest.mark.parametrize(
    ("precision", "bf16"), [("auto", True), ("bf16", True), ("tf32", False), ("fp32", False)]
)
def test_training_and_validation_run_in_the_precision_of_the_recipe(
    precision, bf16, places, cuda, monkeypatch
):
    site, card = places["optical"]
    run = _open(_recipe(card, precision=precision), site, monkeypatch)
    dtypes: set[tuple[bool, torch.dtype]] = set()
    for module in run.model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, _, y: dtypes.add((m.training, y.dtype)))
    loop._train(run, 1)
    run.validation.score(run.model)
    dtype = torch.bfloat16 if bf16 else torch.float32
    assert dtypes == {(True, dtype), (False, dtype)}


@pytest.mark.parametrize("encoder", ["unet", "vit-scratch"])
@pytest.mark.usefixtures("tiny_encoders")
def test_trained_models_map_a_scene_on_the_gpu(encoder, places, cuda, monkeypatch):
    site, card = places["optical"]
    recipe = _recipe(card, encoder)
    run = _open(recipe, site, monkeypatch)
    described = ModelCard.model_construct(recipe=recipe.model_dump(mode="json"), bands=S2)
    normalize = Normalize.of([0.0] * 13, [1.0] * 13, device=CUDA)
    model = Model(described, run.model.eval(), normalize)
    assert model.device.type == "cuda"
    scene = np.zeros((13, 150, 130), dtype=np.uint16)
    cuda.syncs.clear()
    maps = list(Ensemble((model, model)).predict_members(_rows(scene), length_hw=(150, 130)))
    assert sum(part.shape[2] for _, part in maps) == 150
    assert sum(cuda.syncs.values()) <= SYNCS_PER_PASS * 2 * len(maps), cuda.syncs
    assert model.predict(scene).shape == (150, 130)


def _rows(scene: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    return lambda top, bottom: scene[:, top:bottom]


@pytest.fixture
def first_use() -> None:
    """Let torch forget its constructors, as if this were the first test of the process."""
    _device_constructors.cache_clear()


def test_the_fake_card_leaves_torch_as_it_was(first_use, cuda, monkeypatch):
    with torch.device("meta"):
        assert torch.empty(1).device.type == "meta"
    monkeypatch.undo()
    assert torch.empty in _device_constructors()


@pytest.mark.usefixtures("tiny_encoders")
@pytest.mark.parametrize("encoder", ["vit-scratch", "timm/resnet18"])
def test_trainings_side_by_side_share_the_encoder_and_do_not_wait_for_the_gpu(
    encoder, places, cuda, monkeypatch
):
    site, card = places["optical"]
    base = _recipe(card, encoder, model={"tune": "frozen"})
    runs = [_open(base.replace({"optim.lr": lr}), site, monkeypatch) for lr in (1e-4, 1e-3, 1e-2)]
    shared = SharedEncoders()
    for run in runs:
        shared.join(run)
    calls: list[int] = []
    runs[0].model.get_submodule("encoder").register_forward_hook(lambda *_: calls.append(1))
    sides = [_side(number, run) for number, run in enumerate(runs)]
    _replace_backward(runs, monkeypatch)
    cuda.syncs.clear()
    pack._train(sides, 1)
    assert not any(side.error for side in sides), [side.error for side in sides]
    assert len(calls) == runs[0].steps
    assert sum(cuda.syncs.values()) / runs[0].steps <= SYNCS_PER_STEP, cuda.syncs
    cuda.syncs.clear()
    pack._validate(sides)
    assert not any(side.error for side in sides), [side.error for side in sides]
    assert sum(cuda.syncs.values()) == len(runs) * SYNCS_PER_VALIDATION, cuda.syncs
    shared.clear()


def _side(number: int, run: Run) -> MemberRun:
    keeping: Any = None
    return MemberRun(number, run, keeping, keeping, run.recipe.epochs, RandomState(CUDA))


def _replace_backward(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave gradients of the right shape in every model."""

    def backward(loss: torch.Tensor) -> None:
        for run in runs:
            for p in run.model.parameters():
                p.grad = torch.zeros_like(p) if p.requires_grad else None

    monkeypatch.setattr(torch.Tensor, "backward", backward)
