"""Encoders for other software: the tensors of the published network, so that plain torchvision or timm load them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ssl3d.backbone import Backbone
from ssl3d.errors import WeightsError
from ssl3d.parts.norm import GroupNorm, is_standardised


def portable_state(encoder: Backbone, channels: Literal[1, 3] = 3) -> dict[str, Tensor]:
    """Return an encoder's tensors under the names of the network that torchvision, timm or pytorchvideo publish.

    The plain network then computes the same features: with three channels, of the grey volume repeated three times.
    Its classifier is not among the tensors.

    >>> network = torchvision.models.video.r3d_18()
    >>> network.fc = torch.nn.Identity()
    >>> network.load_state_dict(portable_state(ssl3d.load_encoder("runs/NAME/encoders/ENCODER")))

    Args:
        encoder: an encoder with batch norm (norm = batch or frozen) or without any.
        channels: input channels of the plain network; with 3, the kernels of the stem are repeated and divided by 3.

    Returns:
        Copies on the CPU, by name.

    Raises:
        WeightsError: the encoder has group norm in place of batch norm, which no plain network has, or its tensors
            cannot be given their published names.
    """
    if any(isinstance(part, GroupNorm) or is_standardised(part) for part in encoder.modules()):
        raise WeightsError(
            f"this {encoder.card.name} has group norm and weight standardisation in place of batch norm, so the plain "
            "network would compute something else; pretrain with --set backbone.NAME.norm=batch (or frozen, from "
            "weights), or load it with ssl3d.load_encoder"
        )
    kind = type(encoder)
    if kind.load_pretrained is not Backbone.load_pretrained and kind.published_state is Backbone.published_state:
        raise WeightsError(
            f"{encoder.card.name} names and arranges its tensors differently from the published network, and does not "
            "say how to undo that; load it with ssl3d.load_encoder"
        )
    stem = _stem(encoder) if channels == 3 else None
    state = {}
    for name, tensor in encoder.published_state().items():
        copied = tensor.detach().cpu()
        if stem is not None and tensor.data_ptr() == stem.data_ptr() and tensor.shape == stem.shape:
            copied = copied.expand(-1, 3, *copied.shape[2:]) / 3
        state[name] = copied.clone().contiguous()
    return state


def _stem(encoder: Backbone) -> Tensor | None:
    """Return the kernels of the convolution that sees the volume, the first with one input channel; None if none."""
    for part in encoder.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)) and part.in_channels == 1:
            return part.weight
    return None
