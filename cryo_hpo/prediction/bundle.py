"""Write a folder of trained models that loads with torch alone, on scenes of any size.

The folder holds a graph per model (`torch.export`), `predict.py`, which maps with them and needs
torch and numpy only, `config.json`, the models' cards, and README.md, a model card as the Hugging
Face hub reads it.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..config import Site
from ..errors import DataError, SpecError
from ..evaluation.out_of_memory import is_out_of_memory, reporting_out_of_memory
from ..models import find_encoder
from ..report.warning import model_warnings
from ..storage.no_room import is_full
from ..training.build import overlap_of
from . import standalone
from .card import MORE_MEMORY, ModelCard, recipe_of
from .ensemble import open_ensemble
from .model import Model, open_model
from .readme import write_readme

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, LOADER, README, ONNX = "config.json", "predict.py", "README.md", "model.onnx"
BATCH = 2  # windows of a forward pass; torch.export takes 1 for a constant


def export_folder(  # noqa: PLR0913 (options of a command)
    source: Path | str,
    out: Path | str,
    *,
    arm: str | None = None,
    seed: int | None = None,
    site: Site | None = None,
    ensemble: bool = False,
    onnx: bool = False,
) -> tuple[ModelCard, ...]:
    """Write a study's models as a folder that loads with torch alone; return their cards.

    Args:
        source: A finished study (its folder or result.json), or an exported model.
        out: Folder; it must not exist, be empty, or hold an earlier export.
        arm: "tuned", "baseline", a named baseline or "winner"; None: the winner.
        seed: Seed of the training; None: the best on validation.
        site: Folders of data and weights; None: from the environment.
        ensemble: All complete trainings of the arm, which map together.
        onnx: Write model.onnx beside the graph, of one model.

    Raises:
        CryoError: The study has no such model, or torch cannot write it as a graph.
    """
    site, out = site or Site.from_env(os.environ), Path(out)
    _refuse_foreign(out)
    if ensemble and seed is not None:
        raise SpecError("An ensemble has all seeds: give --ensemble or --seed, not both.")
    if ensemble and onnx:
        raise SpecError("ONNX is written for one model: give --ensemble or --onnx, not both.")
    if onnx:
        _require_onnx()
    if ensemble:
        models: Sequence[Model] = open_ensemble(source, arm=arm, site=site).members
    else:
        models = (open_model(source, arm=arm, seed=seed, site=site),)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        with reporting_out_of_memory("writing the model as a graph", remedy=MORE_MEMORY):
            _write(models, draft, onnx=onnx)
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return tuple(model.card for model in models)


def _write(models: Sequence[Model], folder: Path, *, onnx: bool) -> None:
    cards = [model.card for model in models]
    names = [f"model-seed{card.seed}.pt2" for card in cards]
    for model, name in zip(models, names, strict=True):
        _write_graph(model, folder / name)
        text = model.card.model_dump_json(indent=2) + "\n"
        (folder / name).with_suffix(".json").write_text(text, encoding="utf-8")
    if onnx:
        _write_onnx(models[0], folder / ONNX)
    config = json.dumps(_config(cards, names), indent=2) + "\n"
    (folder / CONFIG).write_text(config, encoding="utf-8")
    shutil.copyfile(standalone.__file__, folder / LOADER)
    encoder = find_encoder(recipe_of(cards[0].recipe).model.encoder)
    write_readme(folder / README, cards, encoder=encoder)


def _config(cards: Sequence[ModelCard], models: Sequence[str]) -> dict[str, Any]:
    """Return what `predict.py` reads, and what a person must know of input, output and scores."""
    card, recipe = cards[0], recipe_of(cards[0].recipe)
    return {
        "models": list(models),
        "bands": list(card.bands),
        "classes": list(card.classes),
        "gsd_m": card.gsd_m,
        "window": recipe.data.crop,
        "overlap": overlap_of(recipe.data),
        "batch": BATCH,
        "fill": list(card.mean),
        "normalization": "inside the models: pixels are given as in the files",
        **_evidence(cards),
    }


def _evidence(cards: Sequence[ModelCard]) -> dict[str, Any]:
    """Return the test scores, what doing nothing scores, and the warnings of both."""
    constant = cards[0].constant_map
    return {
        "test_miou": {f"seed{card.seed}": card.test_miou for card in cards},
        "constant_map": None if constant is None else constant.model_dump(),
        "warnings": model_warnings(cards),
    }


def _example(model: Model) -> tuple[nn.Module, Tensor]:
    """Return the whole network and windows to trace it with."""
    side = recipe_of(model.card.recipe).data.crop
    return model.native(), torch.zeros(BATCH, len(model.card.bands), side, side)


def _write_graph(model: Model, file: Path) -> None:
    """Write a network as a graph; the batch size is `BATCH`, the windows' side is the crop.

    Raises:
        DataError: torch cannot write it as a graph.
    """
    network, x_BCSS = _example(model)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(network, (x_BCSS,)), file)
    except Exception as error:  # torch has many errors for what is no graph
        _raise_of_machine(error, file)
        raise _refusal(model, "as a graph", error) from error


def _write_onnx(model: Model, file: Path) -> None:
    network, x_BCSS = _example(model)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (x_BCSS,),
                input_names=["image"],
                output_names=["logits"],
                dynamo=True,
                verbose=False,
            )
            assert program is not None, "dynamo=True returns a program"
            program.model.metadata_props["cryo_hpo_card"] = model.card.model_dump_json()
            program.save(str(file), external_data=False)
    except Exception as error:
        _raise_of_machine(error, file)
        raise _refusal(model, "as ONNX", error) from error


def _raise_of_machine(error: Exception, file: Path) -> None:
    """Raise an error that is the machine's: its memory or disk is too small, not the model at fault."""
    if isinstance(error, OSError | MemoryError) or is_out_of_memory(error):
        raise error
    if is_full(file.parent):  # torch wraps a full disk into an error of its archive
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error


def _refusal(model: Model, what: str, error: Exception) -> DataError:
    encoder = recipe_of(model.card.recipe).model.encoder
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return DataError(
        f"torch cannot write a model of encoder '{encoder}' {what} ({reason}). Export it to a file "
        "that this package loads: --out model.pt."
    )


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        message = (
            f"torch writes ONNX with {' and '.join(missing)}, which is not installed. Install "
            "`cryo-hpo[onnx]`, or leave out --onnx."
        )
        raise SpecError(message)


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds anything else than an earlier export."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / CONFIG).exists()):
        message = f"'{out}' exists and is no exported model. Give a new folder, or remove it."
        raise SpecError(message)
