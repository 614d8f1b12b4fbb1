"""Map images of any size with the models of this folder. Needs torch and numpy only.

    import predict  # this file, copied beside the models
    mapper = predict.load("folder")  # device="cuda" for a GPU
    classes = mapper.predict(image)  # (bands, height, width), as in the files -> (height, width)

As a program: `python predict.py image.npy map.npy`. Windows overlap and are blended; several models
map together by the mean of their probabilities. Names, order and units of the bands are in
config.json.
"""

# B windows, C bands, K classes, H W pixels, S side of a window

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export.passes import move_to_device_pass


class Mapper:
    """Map images with exported models.

    Attributes:
        config: Content of config.json: bands, classes, window.
    """

    def __init__(
        self, config: dict[str, Any], models: list[Callable[..., torch.Tensor]], device: str
    ) -> None:
        """Hold the models on a device."""
        self.config, self._models, self._device = config, models, device

    def predict(self, image_CHW: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class of every pixel, (H, W)."""
        classes_HW: NDArray[np.uint8] = self.probabilities(image_CHW).argmax(0).astype(np.uint8)
        return classes_HW

    def probabilities(self, image_CHW: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probability of each class at every pixel, (K, H, W).

        Args:
            image_CHW: Bands as in config.json, in the files' units.

        Raises:
            ValueError: The image has another number of bands.
        """
        bands = self.config["bands"]
        if image_CHW.ndim != 3 or len(image_CHW) != len(bands):
            message = (
                f"An image is (bands, height, width) with {len(bands)} bands ({' '.join(bands)}), "
                f"got {image_CHW.shape}. Give the bands in this order."
            )
            raise ValueError(message)
        total_KHW: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        for model in self._models:
            probs_KHW = self._predict(model, np.ascontiguousarray(image_CHW, dtype=np.float32))
            total_KHW = total_KHW + probs_KHW if total_KHW.size else probs_KHW
        return total_KHW / np.float32(len(self._models))

    def _predict(
        self, model: Callable[..., torch.Tensor], image_CHW: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the probabilities of one model, (K, H, W)."""
        size, overlap = self.config["window"], self.config["overlap"]
        batch, (height, width) = self.config["batch"], image_CHW.shape[1:]
        fill_C11 = np.asarray(self.config["fill"], dtype=np.float32)[:, None, None]
        full = (max(height, size), max(width, size))
        padded_CHW = np.broadcast_to(fill_C11, (len(image_CHW), *full)).copy()
        padded_CHW[:, :height, :width] = image_CHW
        sum_KHW = np.zeros((len(self.config["classes"]), *full), dtype=np.float32)
        norm_HW = np.zeros(full, dtype=np.float32)
        weights_SS = blend(size, overlap)
        places = [
            (t, u) for t in starts(full[0], size, overlap) for u in starts(full[1], size, overlap)
        ]
        for first in range(0, len(places), batch):
            chunk = places[first : first + batch]
            crops = [padded_CHW[:, t : t + size, u : u + size] for t, u in chunk]
            crops += [crops[-1]] * (batch - len(crops))  # a model may take one batch size only
            x_BCSS = torch.from_numpy(np.stack(crops)).to(self._device)
            with torch.inference_mode():
                logits_BKSS = model(x_BCSS).float().cpu().numpy()
            for (t, u), logits_KSS in zip(chunk, logits_BKSS, strict=False):
                sum_KHW[:, t : t + size, u : u + size] += logits_KSS * weights_SS
                norm_HW[t : t + size, u : u + size] += weights_SS
        logits = torch.from_numpy((sum_KHW / norm_HW)[:, :height, :width])
        probs_KHW: NDArray[np.float32] = logits.softmax(dim=0).numpy()
        return probs_KHW


def load(folder: Path | str = ".", device: str = "cpu") -> Mapper:
    """Read the models of a folder, and warn of what weakens their scores.

    Args:
        folder: Folder with config.json and the models.
        device: Device to compute on, in torch's names.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for text in config.get("warnings", []):
        warnings.warn(text, stacklevel=2)
    programs = [torch.export.load(folder / name) for name in config["models"]]
    return Mapper(config, [_network(program, device) for program in programs], device)


def _network(program: torch.export.ExportedProgram, device: str) -> torch.nn.Module:
    """Return a network on a device; its graph names the device of tensors that it makes itself."""
    return program.module() if device == "cpu" else move_to_device_pass(program, device).module()


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Return the first pixels of windows that cover a side; the last one ends where it ends."""
    last = max(length - size, 0)
    number = math.ceil(last / (size - overlap)) + 1
    return [int(start) for start in np.linspace(0, last, number).round()]


def blend(size: int, overlap: int) -> NDArray[np.float32]:
    """Return the weight of each pixel of a window, (S, S): 1 inside, falling towards the edges."""
    distance = (np.arange(size) + 0.5) / max(overlap, 0.5)
    ramp = np.sin(np.pi / 2 * np.minimum(distance, 1)) ** 2
    line = ramp * ramp[::-1]
    return np.outer(line, line).astype(np.float32)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python predict.py image.npy map.npy; the image is (bands, height, width).")
    source, target = sys.argv[1:]
    np.save(target, load(Path(__file__).parent).predict(np.load(source)))
