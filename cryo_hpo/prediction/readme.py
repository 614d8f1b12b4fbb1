"""Write the README of an exported model, in the layout of model cards on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.encoder_card import Encoder
from ..models.weights.load import HUB, SCRATCH
from ..report.warning import model_warnings
from ..results.study import ConstantMap
from .card import ModelCard, recipe_of

PUBLISHED = "the encoder's published weights"

USE = """\
```python
import numpy as np
import predict  # in this folder; needs torch and numpy only

mapper = predict.load(".")  # device="cuda" for a GPU
classes = mapper.predict(np.load("image.npy"))  # (bands, height, width) -> (height, width)
```

Any image size: windows overlap and are blended. Pixels are given as in the training's files, without
normalization."""


def write_readme(file: Path, cards: Sequence[ModelCard], *, encoder: Encoder) -> None:
    """Write the README of one model, or of several that map together.

    Args:
        file: The README.
        cards: Cards of the models; the first is the best on validation.
        encoder: Card of their encoder.
    """
    card, recipe = cards[0], recipe_of(cards[0].recipe)
    start = _start(recipe.model.weights, encoder)
    parts = [
        f"---\n{_front_matter(cards)}---\n",
        f"# {card.study}: {', '.join(card.classes)} from {card.dataset}\n",
        f"{_opening(cards)}\n",
        f"## Use\n\n{USE}\n",
        f"## Input and output\n\n{_table(card)}\n",
        f"## Training\n\nEncoder `{recipe.model.encoder}` from {start or 'random weights'}, decoder "
        f"`{recipe.model.decoder}`, learning rate {recipe.optim.lr:g}, {recipe.epochs} epochs, chosen "
        f"on the validation split. The whole recipe and its provenance are in the JSON files.\n",
        f"## Scores\n\n{_scores(cards)}\n",
        f"## License\n\n{_license(start, encoder.weights_license)}\n",
    ]
    file.write_text("\n".join(parts), encoding="utf-8")


def _front_matter(cards: Sequence[ModelCard]) -> str:
    """Return the YAML that the hub reads; JSON values are YAML too."""
    card = cards[0]
    facts: dict[str, Any] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-segmentation",
        "tags": ["remote-sensing", "cryosphere", recipe_of(card.recipe).model.encoder],
    }
    if len(cards) == 1 and card.test_miou is not None:
        facts["model-index"] = [
            {
                "name": card.study,
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {"name": card.dataset, "type": card.dataset},
                        "metrics": [{"type": "mean_iou", "value": round(card.test_miou, 4)}],
                    }
                ],
            }
        ]
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in facts.items())


def _opening(cards: Sequence[ModelCard]) -> str:
    card, seeds = cards[0], ", ".join(str(card.seed) for card in cards)
    what = "One training (seed" if len(cards) == 1 else f"{len(cards)} trainings (seeds"
    together = "" if len(cards) == 1 else ", which map together by the mean of their probabilities"
    return f"{what} {seeds}) of recipe `{card.arm}` of the study `{card.study}`{together}."


def _table(card: ModelCard) -> str:
    size = "unknown" if card.gsd_m is None else f"{card.gsd_m:g} m"
    rows = [
        ("bands, in this order", ", ".join(card.bands)),
        ("pixel size of the training data", size),
        (
            "classes, by their value in the map",
            ", ".join(f"{i} {c}" for i, c in enumerate(card.classes)),
        ),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])


def _scores(cards: Sequence[ModelCard]) -> str:
    """Return the scores of every training by itself."""
    rows = [
        (str(card.seed), f"{100 * card.val_miou:.2f}", _percent(card.test_miou)) for card in cards
    ]
    head = ["| seed | validation mIoU, % | test mIoU, % |", "| --- | ---: | ---: |"]
    table = "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
    together = "" if len(cards) == 1 else "\n\nThe scores are those of each training by itself."
    return f"{table}{together}{_doing_nothing(cards[0].constant_map)}{_warnings(cards)}"


def _doing_nothing(constant: ConstantMap | None) -> str:
    if constant is None:
        return ""
    return (
        f"\n\nA map of `{constant.label}` everywhere has a test mIoU of "
        f"{_percent(constant.test_miou)} % on the same pixels."
    )


def _warnings(cards: Sequence[ModelCard]) -> str:
    return "".join(f"\n\n> **Warning:** {text}" for text in model_warnings(cards))


def _percent(fraction: float | None) -> str:
    return "not scored" if fraction is None else f"{100 * fraction:.2f}"


def _start(wanted: str | None, encoder: Encoder) -> str:
    """Return the weights that the encoder started from, in words; empty: random ones."""
    if wanted == SCRATCH or (wanted is None and encoder.weights is None):
        return ""
    return PUBLISHED if wanted in (None, HUB) else f"`{Path(wanted).name}`"


def _license(start: str, license_: str) -> str:
    """Return the terms of a model that started from some weights; empty: from random ones."""
    own = "`predict.py` is under Apache-2.0."
    if not start:
        return (
            "The weights are derived from the training data alone; check its terms before you "
            f"share them. {own}"
        )
    if start != PUBLISHED:
        terms = ""
    elif license_ and license_ != "not stated":
        terms = f", under {license_},"
    else:
        terms = ", under terms that its publisher does not state,"
    return (
        f"The weights are derived from {start}{terms} and from "
        f"the training data; check the terms of both before you share them. {own}"
    )
