"""Counts on the device are those of the host, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cryo_hpo.data.cache import Scenes, open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.tiles import Normalize
from cryo_hpo.errors import DataError, Diverged, OutOfMemory
from cryo_hpo.evaluation import device_score
from cryo_hpo.evaluation.device_confusion import DeviceConfusion
from cryo_hpo.evaluation.device_score import score_on_device
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.evaluation.pieces import Window, chunk_pieces
from cryo_hpo.evaluation.sliding_window import score
from cryo_hpo.evaluation.tiling import windows
from cryo_hpo.training.scoring import windows_per_pass

from ..support.fakes import fake_folder

CPU = torch.device("cpu")
PLAIN = Normalize.of((0, 0, 0), (99, 99, 99), device=CPU)
CLASSES = ("background", "lake")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    root = tmp_path_factory.mktemp("device")
    card = fake_folder(root, num=(5, 0, 0), size=(20, 26))
    return open_split(custom_dataset(card), root, "train", cache=root / "cache")


@pytest.mark.parametrize("window", [Window(8, 2), Window(8, 0, tile=10), Window(32, 8)])
@pytest.mark.parametrize("batch", [1, 16])
def test_a_split_has_the_same_scores(scenes: Scenes, window: Window, batch: int) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 3, padding=1)
    given = {"normalize": PLAIN, "classes": CLASSES, "window": window, "batch": batch}
    scores = score(model, scenes, **given)  # type: ignore[arg-type]
    assert score_on_device(model, scenes, **given) == scores  # type: ignore[arg-type]
    assert np.count_nonzero(scores.confusion_TP) == 4, "both classes, right and wrong"


@given(data=st.data(), classes=st.integers(1, 5), pixels=st.integers(0, 40))
def test_every_pixel_is_counted_once(data: st.DataObject, classes: int, pixels: int) -> None:
    values = [*range(classes), 255]
    truth = np.array(data.draw(st.lists(st.sampled_from(values), min_size=pixels, max_size=pixels)))
    logits = torch.randn(1, classes, 1, pixels, generator=torch.Generator().manual_seed(pixels))
    counter = DeviceConfusion(classes, CPU)
    half = pixels // 2
    mask = torch.from_numpy(truth.astype(np.uint8)).view(1, 1, pixels)
    counter.add(logits[..., :half], mask[..., :half])
    counter.add(logits[..., half:], mask[..., half:])
    names = tuple(map(str, range(classes)))
    expected = Scores.of(truth, logits.argmax(dim=1).flatten().numpy(), classes=names)
    counted = counter.read()
    assert np.array_equal(counted.confusion_TP, expected.confusion_TP)
    assert (counted.lost, counted.strangers) == (0, 0)


class _Fails(nn.Module):
    """Returns logits of which one is not a number."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, 2, H, W)."""
        logits = x_BCHW[:, :2].clone()
        logits[0, 0, 0, 0] = torch.nan
        return logits


def test_an_output_that_is_not_a_number_is_refused(scenes: Scenes) -> None:
    with pytest.raises(Diverged, match="not a number for some pixels"):
        score_on_device(
            _Fails(), scenes, normalize=PLAIN, classes=CLASSES, window=Window(8, 2), batch=4
        )


def test_masks_that_do_not_fit_on_the_device_are_a_message(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(device_score, "copy_pixels", full)
    with pytest.raises(OutOfMemory, match="while moving masks to the device"):
        score_on_device(
            nn.Conv2d(3, 2, 1),
            scenes,
            normalize=PLAIN,
            classes=CLASSES,
            window=Window(8, 2),
            batch=4,
        )


def test_a_mask_of_other_classes_is_refused(scenes: Scenes) -> None:
    class Two(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return x_BCHW[:, :1]

    with pytest.raises(DataError, match=r"Mask pixels must hold one of 0 \(background\), got 1"):
        score_on_device(
            Two(), scenes, normalize=PLAIN, classes=CLASSES[:1], window=Window(8, 2), batch=4
        )


def test_windows_of_several_scenes_fill_a_pass_of_a_gpu(scenes: Scenes) -> None:
    """Nine windows a scene, as 512 pixels give: one scene fills 9 of 16, seven fill 63 of 64."""
    window = Window(12, 4)
    places = windows((20, 26), size=12, overlap=4)
    filled = {
        kind: max(
            len(chunk)
            for chunk in chunk_pieces(scenes, window, batch=windows_per_pass(torch.device(kind)))
        )
        * len(places)
        for kind in ("cpu", "cuda")
    }
    assert filled["cpu"] < filled["cuda"] <= windows_per_pass(torch.device("cuda"))
