"""Choose small crops that an encoder takes."""

from __future__ import annotations

from cryo_hpo.models import find_encoder


def side_of(encoder: str, most: int = 64) -> int:
    """Return the side of a crop in pixels: the one that the encoder takes, or up to `most`.

    Presto reads every pixel by itself, so its crops have half the side.
    """
    card = find_encoder(encoder)
    most = most // 2 if encoder == "presto" else most
    return card.only_size or most // card.multiple * card.multiple
