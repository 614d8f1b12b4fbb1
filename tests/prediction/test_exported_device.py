"""An exported graph computes on the device it is loaded to, also what it makes itself."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.models import ENCODERS
from cryo_hpo.prediction import standalone
from cryo_hpo.training.build import segmenter

from ..fake_cuda.conftest import S2
from ..support.crops import side_of
from ..support.fakes import fake_folder


class Positions(nn.Module):
    """Adds positions that it computes, as many encoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x_BL: Tensor) -> Tensor:
        return x_BL * self.weight + torch.arange(4, device=x_BL.device, dtype=x_BL.dtype)


def _check(network: nn.Module, x: Tensor) -> None:
    """Run the network on a device without values, where tensors of two devices are refused too."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(x)
        program = torch.export.export(network, (x,))
        assert torch.equal(standalone._network(program, "cpu")(x), expected)
        moved = standalone._network(program, "meta")
        assert moved(x.to("meta")).device.type == "meta"


def test_a_graph_makes_its_tensors_where_it_is_loaded() -> None:
    _check(Positions(), torch.ones(2, 4))


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_encoders")
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "unet"])
def test_every_encoder_runs_where_its_graph_is_loaded(encoder, tmp_path) -> None:
    bands = (*S2, "VV", "VH")
    card = fake_folder(tmp_path, num=(1, 1, 1), size=(64, 64)).model_copy(update={"bands": bands})
    model = ModelSpec(encoder=encoder, decoder="upernet", channels=8, weights="scratch")
    recipe = Recipe(data=DataSpec(card=card, crop=side_of(encoder, 64)), model=model)
    network = segmenter(recipe, site=Site.from_env({}), weights="scratch").eval()
    _check(network, torch.zeros(2, len(bands), recipe.data.crop, recipe.data.crop))
