"""Every encoder gives the CPU's values on a card, trains there, and is validated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.errors import SpecError
from cryo_hpo.models import ENCODERS
from cryo_hpo.training import loop

from ..support.fakes import write
from .test_card import DEVICE

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("tiny_encoders")]

S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
SIZE = 64
NAMES = [*ENCODERS, "timm/resnet18", "timm/lambda_resnet26t"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture
def site(root: Path) -> Site:
    names = ("DATA", "STORAGE", "CACHE", "WEIGHTS")
    return Site.from_env({f"CRYO_{name}": str(root / name.lower()) for name in names})


@pytest.fixture(scope="module")
def cards(root: Path) -> dict[str, DatasetCard]:
    """Datasets of all optical bands, of radar and of both."""
    kinds = {"optical": S2, "radar": ("VV", "VH"), "both": (*S2, "VV", "VH")}
    return {kind: _scenes(root / "data", kind, bands) for kind, bands in kinds.items()}


def _scenes(data: Path, name: str, bands: tuple[str, ...]) -> DatasetCard:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(2):
            image = rng.integers(0, 255, (len(bands), 96, 96)).astype(np.uint16)
            write(data / name / split / "i" / f"{number}.tif", image)
            mask = rng.integers(0, 3, (1, 96, 96)).astype(np.uint8)
            write(data / name / split / "m" / f"{number}.png", mask)
    return DatasetCard(
        name=name,
        root=name,
        images="{split}/i/{id}.tif",
        masks="{split}/m/{id}.png",
        bands=bands,
        classes=("a", "b", "c"),
        ignore=255,
        license="Apache-2.0",
    )


def _recipe(cards: dict[str, DatasetCard], encoder: str, **changes: Any) -> Recipe:
    needs_both = encoder in ENCODERS and ENCODERS[encoder].needs_all
    kind = "both" if needs_both else "radar" if "sar" in encoder else "optical"
    model = ModelSpec(encoder=encoder, decoder="upernet", channels=8, weights="scratch")
    data = DataSpec(card=cards[kind], crop=SIZE)
    return Recipe(data=data, model=model, batch_size=2, epochs=1, **changes)


@pytest.mark.parametrize("encoder", NAMES)
def test_an_encoder_gives_the_values_of_the_cpu(
    encoder, site, cards, record_property: Callable[[str, object], None]
):
    recipe = _recipe(cards, encoder, precision="fp32")
    maps = []
    for device in (torch.device("cpu"), DEVICE):
        run = loop.open_run(recipe, site, device)
        x, _ = next(iter(run.tiles.batches(2, seed=0, epoch=1, device=device)))
        run.model.eval()
        with torch.no_grad():
            maps.append(run.forward(x).cpu())
    one, two = maps
    apart = float((one - two).norm() / one.norm())
    record_property("difference, relative", f"{apart:.1e}")
    assert apart < 1e-3


@pytest.mark.parametrize("encoder", NAMES)
def test_an_encoder_trains_and_is_validated(
    encoder, site, cards, record_property: Callable[[str, object], None]
):
    run = loop.open_run(_recipe(cards, encoder, precision="auto"), site, DEVICE)
    loss, _ = loop._train(run, 1)
    record_property("loss", f"{loss:.3f}")
    assert 0 < loss < 10
    assert 0 <= run.validation.score(run.model).miou <= 1


@pytest.mark.parametrize("encoder", NAMES)
def test_bitwise_trainings_agree_or_are_refused(
    encoder, site, cards, record_property: Callable[[str, object], None]
):
    recipe = _recipe(cards, encoder, precision="auto", reproducible="bitwise")
    try:
        one, two = (_trained(recipe, site) for _ in range(2))
    except SpecError as error:
        record_property("refused", str(error).partition(": ")[2].partition(" does not")[0])
        return
    record_property("bitwise", "equal")
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def _trained(recipe: Recipe, site: Site) -> list[torch.Tensor]:
    run = loop.open_run(recipe, site, DEVICE)
    for number in (1, 2):
        torch.manual_seed(number)
        loop._train(run, number)
    return [p.detach().cpu() for p in run.model.parameters()]
