"""Load, export and run a trained model: weights as plain tensors, and a card about them."""

# C bands, K classes, H W pixels

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from ..config import Site
from ..data.tiles import Normalize
from ..errors import DataError, SpecError
from ..evaluation.out_of_memory import reporting_out_of_memory
from ..evaluation.pieces import number_of_windows
from ..evaluation.sliding_window import refuse_nan
from ..evaluation.window_predictor import WindowPredictor
from ..models import Segmenter, is_adapted, merge_adapters
from ..models.weights.hash import hash_weights
from ..report.warning import training_warnings
from ..results.files import CONFIRM
from ..results.improvement import to_json
from ..results.study import ArmResult, Result, SeedResult, load_result
from ..search.winner import WINNER
from ..storage.atomic import write_text
from ..training import checkpoints
from ..training.build import overlap_of, runs_in_bf16, segmenter
from ..training.kernels import choose_kernels
from ..training.scoring import WINDOWS_PER_PASS
from .card import MORE_MEMORY, describe_model, read_weights
from .card import VERSION as VERSION
from .card import ModelCard as ModelCard
from .card import recipe_of as recipe_of
from .native import NativeModel
from .winner import open_winner, opens_winner

Rows = Callable[[int, int], NDArray[Any]]  # (top, bottom) -> those rows of a scene, (C, h, W)


@dataclass(frozen=True, slots=True)
class Model:
    """Hold a trained model, ready to map.

    Attributes:
        card: Description of the model.
        segmenter: Network in evaluation mode.
    """

    card: ModelCard
    segmenter: Segmenter
    _normalize: Normalize

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self._normalize.mean_C11.device

    def native(self) -> nn.Module:
        """Return the network with its normalization: pixels as in the files -> logits.

        Adapters are merged, in a copy, so that the network's state is whole.
        """
        segmenter = self.segmenter
        if is_adapted(segmenter):
            segmenter = copy.deepcopy(segmenter)
            merge_adapters(segmenter)
        return NativeModel(segmenter, self._normalize).eval()

    def predict(self, image_CHW: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class of every pixel, (H, W).

        Args:
            image_CHW: Bands as in the card, in the files' units; at least one pixel.

        Raises:
            DataError: The image has another number of bands.
        """
        classes_HW: NDArray[np.uint8] = self._whole(image_CHW).argmax(axis=0).astype(np.uint8)
        return classes_HW

    def probabilities(self, image_CHW: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probability of each class at every pixel, (K, H, W); see `predict`."""
        return self._whole(image_CHW)

    def predict_rows(
        self,
        rows: Rows,
        *,
        length_hw: tuple[int, int],
        batch: int = WINDOWS_PER_PASS,
        advance: Callable[[int], object] = lambda _windows: None,
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, probabilities (K, rows, W)) of a scene, from top to bottom.

        Args:
            rows: (top, bottom) -> those rows of the scene, (C, bottom - top, W).
            length_hw: Height and width of the scene, pixels.
            batch: Windows per forward pass; fewer where memory is too small.
            advance: Called with the number of windows of each finished forward pass.

        Raises:
            OutOfMemory: One window at a time does not fit.
        """
        recipe = recipe_of(self.card.recipe)
        predictor = WindowPredictor(
            self.segmenter,
            size=recipe.data.crop,
            overlap=overlap_of(recipe.data),
            batch=batch,
            advance=advance,
            remedy=remedy_on(self.device),
        )
        parts = predictor.predict_rows(
            lambda first, last: self._normalize(rows(first, last))[None], length_hw=length_hw
        )
        bf16 = runs_in_bf16(recipe, self.device)
        while True:
            # Modes of torch are never held over a yield: models that map in turns would leave the
            # mode of one another on.
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16),
                reporting_out_of_memory("mapping a scene", remedy=remedy_on(self.device)),
            ):
                part = next(parts, None)
                if part is None:
                    return
                top, logits_SKHW = part
                probs_KHW = logits_SKHW[0].softmax(dim=0).cpu().numpy()
                refuse_nan(bool(np.isnan(probs_KHW).any()))
            yield top, probs_KHW

    def count_windows(self, length_hw: tuple[int, int]) -> int:
        """Return the number of windows that cover an image of some height and width."""
        data = recipe_of(self.card.recipe).data
        return number_of_windows(length_hw, size=data.crop, overlap=overlap_of(data))

    def _whole(self, image_CHW: NDArray[Any]) -> NDArray[np.float32]:
        if image_CHW.ndim != 3 or len(image_CHW) != len(self.card.bands):
            message = (
                f"An image is (bands, height, width) with {len(self.card.bands)} band{'s' * (len(self.card.bands) != 1)} "
                f"({' '.join(self.card.bands)}), got {image_CHW.shape}. Give the bands in this order."
            )
            raise DataError(message)
        height, width = image_CHW.shape[1:]
        parts = self.predict_rows(lambda a, b: image_CHW[:, a:b], length_hw=(height, width))
        return np.concatenate([part_KHW for _, part_KHW in parts], axis=1)


def load_model(path: Path | str, *, device: str = "cpu") -> Model:
    """Read a model that `export_model` wrote.

    Args:
        path: The file.
        device: Device to compute on, in torch's names: "cpu", "cuda".

    Raises:
        DataError: The file does not exist, or is no exported model.
    """
    with reporting_out_of_memory("reading the model", remedy=MORE_MEMORY):
        state = read_weights(Path(path))
    try:
        card = ModelCard.model_validate_json(state["card"])
    except (KeyError, ValidationError) as error:
        message = (
            f"{path}: an exported model holds a card of version {VERSION}, this file does not. "
            "Write it again with `cryo-hpo export`."
        )
        raise DataError(message) from error
    return _model(card, state["model"], device)


def export_model(
    source: Path | str,
    out: Path | str,
    *,
    arm: str | None = None,
    seed: int | None = None,
    site: Site | None = None,
    merge: bool = False,
) -> ModelCard:
    """Write one of a study's models to a file, and the model's card as JSON beside it.

    Args:
        source: A finished study: its folder or its result.json.
        out: A file, such as model.pt; the card gets the same name with .json.
        arm: "tuned", "baseline" or a named baseline; "winner": the search's, which is there before
            the study has finished; None: the winner.
        seed: Seed of the training; None: the best training on the validation split.
        site: Folders of data and weights; None: from the environment.
        merge: Fold low-rank adapters into the encoder's weights. Otherwise the file of an adapted
            model holds only the trained tensors; loading it requires the published weights.

    Raises:
        CryoError: The study has no such model, or no adapters to merge.
    """
    site = site or Site.from_env(os.environ)
    out = Path(out)
    with reporting_out_of_memory("exporting the model", remedy=MORE_MEMORY):
        card, state = _of_study(Path(source), arm, seed, site)
        if merge:
            card, state = _merge(card, state, site)
        checkpoints.save(out, {"card": card.model_dump_json(), "model": state})
    write_text(out.with_suffix(".json"), card.model_dump_json(indent=2) + "\n")
    return card


def open_model(
    source: Path | str,
    *,
    arm: str | None = None,
    seed: int | None = None,
    site: Site | None = None,
    device: str = "cpu",
) -> Model:
    """Return a model of a finished study, or an exported one; see `export_model`."""
    path = Path(source)
    if path.is_file() and path.suffix != ".json":
        return load_model(path, device=device)
    with reporting_out_of_memory("reading the model", remedy=MORE_MEMORY):
        card, state = _of_study(path, arm, seed, site or Site.from_env(os.environ))
    return _model(card, state, device)


def _of_study(
    path: Path, arm: str | None, seed: int | None, site: Site
) -> tuple[ModelCard, dict[str, Tensor]]:
    if opens_winner(path, arm):
        return open_winner(path if path.is_dir() else path.parent, seed, site)
    result = load_result(path)
    chosen = arm_of(result, arm)
    training = _training(chosen, seed)
    folder = path if path.is_dir() else path.parent
    file = folder / CONFIRM / chosen.training(training.seed) / checkpoints.BEST
    if not file.is_file():
        message = (
            f"{file}: the weights of a study's trainings lie in its folder, these are gone. "
            "Choose another --arm or --seed, or run the study again."
        )
        raise DataError(message)
    state: dict[str, Tensor] = read_weights(file)["model"]
    return _card(result, chosen, training, site, state), state


def _card(
    result: Result, arm: ArmResult, training: SeedResult, site: Site, state: Mapping[str, Tensor]
) -> ModelCard:
    return describe_model(
        recipe_of(arm.recipe).replace({"seed": training.seed}),
        state,
        site,
        study=result.study,
        arm=arm.name,
        val_miou=training.val_miou,
        test_miou=training.test_miou,
        test_iou=training.test_iou,
        constant_map=result.constant_map,
        warnings=training_warnings(result, arm.name, training.seed),
        improvement=None if result.improvement is None else to_json(result.improvement),
        data_fingerprints=result.data_fingerprints,
        provenance=result.provenance,
    )


def arm_of(result: Result, name: str | None) -> ArmResult:
    """Return an arm of a result; None: the winner.

    Raises:
        SpecError: There is no such arm.
    """
    names = [arm.name for arm in result.arms]
    if not names:
        message = (
            f"'{result.study}' ended after its search (proof: none), so it has only the arm "
            f"'{WINNER}', not '{name or 'baseline'}'. Take that one."
        )
        raise SpecError(message)
    if name is None:
        return result.arm("tuned" if "tuned" in names else "baseline")
    if name not in names:
        won = " The baseline won its search." if result.winner_is_baseline else ""
        message = f"'{result.study}' has the arms {', '.join(names)}, not '{name}'.{won} Take one of them."
        raise SpecError(message)
    return result.arm(name)


def _training(arm: ArmResult, seed: int | None) -> SeedResult:
    """Return the requested training, or the best on validation: the test split chooses nothing."""
    if seed is None:
        return max(arm.seeds, key=lambda training: training.selection)
    trainings = [training for training in arm.seeds if training.seed == seed]
    if not trainings:
        seeds = ", ".join(str(training.seed) for training in arm.seeds)
        message = (
            f"Arm '{arm.name}' was trained on the seeds {seeds}, not {seed}. Take one of them."
        )
        raise SpecError(message)
    return trainings[0]


def _merge(
    card: ModelCard, state: Mapping[str, Tensor], site: Site
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Return a card and a whole state whose encoder needs no adapters.

    Raises:
        SpecError: The model has no adapters.
    """
    recipe = recipe_of(card.recipe)
    if recipe.model.tune != "lora":
        message = (
            f"Only a model with adapters can be merged, '{card.study}' has model.tune: "
            f"{recipe.model.tune}. Leave out --merge: its file is whole."
        )
        raise SpecError(message)
    model = segmenter(recipe, site=site, weights=recipe.model.weights)
    model.load_state_dict(state)
    merge_adapters(model)
    merged = model.state_dict()
    return card.model_copy(update={"merged": True, "weights_sha256": hash_weights(merged)}), merged


def _model(card: ModelCard, state: Mapping[str, Tensor], device: str) -> Model:
    recipe = recipe_of(card.recipe)
    if card.merged:  # then the encoder is a plain one
        plain = recipe.model.model_copy(update={"tune": "full"})
        recipe = recipe.model_copy(update={"model": plain})
    where = _device(device)
    choose_kernels(recipe, where)
    with reporting_out_of_memory("loading the model", remedy=remedy_on(where)):
        model = segmenter(recipe, site=Site.from_env(os.environ), weights="scratch")
        model.load_state_dict(state)
        model.to(where).eval()
        return Model(card, model, Normalize.of(card.mean, card.std, device=where))


def remedy_on(device: torch.device) -> str:
    """Return what helps who maps with a trained model that does not fit on a device.

    The windows are those of the training, so no smaller ones can be taken.
    """
    alone = "map with the best of a study's trainings alone (--members best)"
    if device.type == "cpu":
        return f"{MORE_MEMORY} Or {alone}."
    return f"Map on the CPU (--device cpu), end what else uses this GPU, or {alone}."


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(f"Device '{name}' needs a GPU, and none is visible here. Take 'cpu'.")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise SpecError(f"Device '{name}' is not supported. Take 'cpu', 'cuda' or 'auto'.")
    return torch.device(name)
