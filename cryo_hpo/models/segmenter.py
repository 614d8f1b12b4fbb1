"""Combine an encoder and a decoder into a segmentation model."""

# B batch, C bands, K classes, H W pixels

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bands import BandPlan
from ..errors import WeightsError
from .band_selection import Pick
from .encoder_card import Backbone
from .encoder_pass import EncoderPass, Levels

FINGERPRINT = "omitted_sha256"  # key in a state dict that leaves tensors out


class Segmenter(nn.Module):
    """Map normalized bands (B, C, H, W) to logits (B, K, H, W) at the size of the input.

    Args:
        encoder: A `Backbone`.
        decoder: Maps the encoder's levels to logits of any height and width.
        plan: Layer of the input for each band of the encoder; None passes all layers as given.
        rescale: Further normalization of the encoder's input; None: none.
    """

    encoder: Backbone
    decoder: nn.Module
    pick: nn.Module | None
    rescale: nn.Module | None
    shared: EncoderPass | None
    """What passes a batch through a frozen encoder once for several models; None: each its own."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        plan: BandPlan | None = None,
        rescale: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = cast(Backbone, encoder)
        self.decoder = decoder
        self.frozen = False
        self.pick = None if plan is None or plan.as_given else Pick(plan)
        self.rescale = rescale
        self.shared: EncoderPass | None = None
        self._omitted: tuple[str, ...] = ()
        self._sha256 = ""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W)."""
        shared = self.shared
        levels = self._encode(x_BCHW) if shared is None else shared(x_BCHW, self._encode)
        logits: Tensor = self.decoder(levels)
        size = x_BCHW.shape[-2:]
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def _encode(self, x_BCHW: Tensor) -> Levels:
        seen = x_BCHW if self.pick is None else self.pick(x_BCHW)
        return self.encoder(seen if self.rescale is None else self.rescale(seen))

    def train(self, mode: bool = True) -> Segmenter:  # noqa: FBT001, FBT002
        """Switch to training mode; a frozen encoder stays in evaluation mode.

        Stochastic depth and batch statistics would disturb features that are not trained.
        """
        super().train(mode)
        if self.frozen:
            self.get_submodule("encoder").eval()
        return self

    def omit(self, keys: Sequence[str]) -> None:
        """Leave tensors that are not trained out of the state dict, which then holds their sha256.

        Args:
            keys: Names of the tensors; empty for a whole state dict again.
        """
        self._omitted, self._sha256 = (), ""
        state = self.state_dict()
        self._sha256 = _hash_tensors(keys, [state[key] for key in keys])
        self._omitted = tuple(keys)

    @property
    def omitted_sha256(self) -> str:
        """sha256 of the tensors that are left out of the state dict; empty: none are."""
        return self._sha256

    @property
    def omitted(self) -> tuple[str, ...]:
        """Names of the tensors that are left out of the state dict."""
        return self._omitted

    def complete(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of this model with the omitted tensors added; it is whole."""
        own = super().state_dict()
        kept = {key: x for key, x in state.items() if key != FINGERPRINT}
        return {**kept, **{key: own[key] for key in self._omitted}}

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the tensors by name, without those that are omitted."""
        state: dict[str, Any] = super().state_dict(*args, **options)
        if self._omitted:
            prefix = options.get("prefix", "")
            for key in self._omitted:
                del state[prefix + key]
            digest = list(bytes.fromhex(self._sha256))
            state[prefix + FINGERPRINT] = torch.tensor(digest, dtype=torch.uint8, device="cpu")
        return state

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any
    ) -> None:
        """Add the omitted tensors to a state dict, after comparing their sha256.

        Raises:
            WeightsError: The state dict was saved with other omitted tensors, or with none.
        """
        if self._omitted:
            stored = state_dict.pop(prefix + FINGERPRINT, None)
            if stored is None or bytes(stored.tolist()).hex() != self._sha256:
                message = (
                    "The weights in the checkpoint belong to other encoder weights than those "
                    "loaded. Nothing was loaded. Put the weights that it was trained with below "
                    "CRYO_WEIGHTS, or set model.weights to them."
                )
                raise WeightsError(message)
            own = super().state_dict()
            state_dict.update({prefix + key: own[key] for key in self._omitted})
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a model's state dict, also one of an earlier version that leaves nothing out.

    Raises:
        WeightsError: It was saved with other omitted tensors than this model has.
    """
    omitted = model.omitted if isinstance(model, Segmenter) else ()
    whole = bool(omitted) and FINGERPRINT not in state and all(key in state for key in omitted)
    if whole:
        cast(Segmenter, model).omit(())
    model.load_state_dict(state)
    if whole:
        cast(Segmenter, model).omit(omitted)


def omit_frozen_encoder(segmenter: Segmenter, *, with_buffers: bool) -> None:
    """Leave the encoder's frozen tensors out of the state dict, which then holds their sha256.

    Args:
        segmenter: Model whose encoder is frozen, its weights loaded. Changed in place.
        with_buffers: Whether its running statistics are frozen too.
    """
    frozen = {key for key, x in segmenter.named_parameters() if not x.requires_grad}
    values = {key for key, _ in segmenter.named_parameters()}
    segmenter.omit(
        [
            key
            for key in segmenter.state_dict()
            if key.startswith("encoder.")
            and (key in frozen or (with_buffers and key not in values))
        ]
    )


def _hash_tensors(keys: Sequence[str], tensors: Sequence[Tensor]) -> str:
    """Return the sha256 of named tensors; on the meta device of their names only."""
    digest = hashlib.sha256()
    for key, x in zip(keys, tensors, strict=True):
        digest.update(key.encode())
        if not x.is_meta:
            values = x.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(values.numpy().data)
    return digest.hexdigest()


def freeze(segmenter: Segmenter, *, in_train_mode: bool = False) -> None:
    """Freeze the encoder's parameters and keep the encoder in evaluation mode.

    Args:
        segmenter: Model whose encoder is frozen. Changed in place.
        in_train_mode: Let dropout, stochastic depth and moving statistics follow the mode of the
            whole model, as Cryo-Bench does; frozen features are then noisy in training.
    """
    segmenter.get_submodule("encoder").requires_grad_(requires_grad=False)
    segmenter.frozen = not in_train_mode
    segmenter.train(segmenter.training)
