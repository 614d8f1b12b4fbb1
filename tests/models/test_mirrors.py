"""Mirrors hold their authors' numbers under timm's names: they give what timm's model gives."""

# B batch, C channels, H W pixels

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch

from cryo_hpo.models import ENCODERS
from cryo_hpo.models.weights.load import load_weights

MIRRORED = ("s12-moco", "s12-dino", "s12-mae")
TWINS = ("presto",)  # the same tensors in another format, put there by hand


def test_what_only_people_may_fetch_has_a_mirror_if_there_is_one() -> None:
    cards = {name: card.weights for name, card in ENCODERS.items() if card.weights is not None}
    assert {name for name, weights in cards.items() if weights.mirror} == {*MIRRORED, *TWINS}
    alone = {name for name, x in cards.items() if not x.address and not x.mirror}
    assert alone == {"gfm-swin", "s12-data2vec"}
    for name in MIRRORED:
        weights = cards[name]
        assert "drive.google.com" in weights.url
        assert weights.mirror is not None
        assert weights.mirror.address.startswith("hf://")


@pytest.mark.slow
@pytest.mark.parametrize("name", MIRRORED)
def test_a_mirror_fits_and_gives_timms_features(name: str, tmp_path: Path) -> None:
    card = ENCODERS[name]
    assert card.weights is not None
    assert card.weights.mirror is not None
    theirs = timm.create_model("vit_small_patch16_224", in_chans=13, num_classes=0).eval()
    path = tmp_path / card.weights.mirror.file
    path.parent.mkdir()
    torch.save(theirs.state_dict(), path)
    rules = card.weights.mirror
    ours = card.build(card.bands).eval()
    # The file is a stand-in: its digits are not those of the card.
    stand_in = replace(card.weights, mirror=replace(rules, sha256=""))
    load_weights(ours, None, published=stand_in, root=tmp_path, name=name)
    image_BCHW = torch.randn(1, 13, 224, 224)
    with torch.no_grad():
        expected = cast(Any, theirs).forward_intermediates(
            image_BCHW, indices=[3, 5, 7, 11], norm=False, intermediates_only=True
        )
        found = ours(image_BCHW)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
