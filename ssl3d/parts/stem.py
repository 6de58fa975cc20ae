"""The first convolution of a network of colour images, reduced to one channel."""

from __future__ import annotations

import torch
from torch import nn


def one_channel(conv: nn.Conv3d) -> nn.Conv3d:
    """Return the same convolution for grey volumes: its kernels summed over RGB.

    On a grey volume it gives what ``conv`` gives on that volume repeated three times.

    Args:
        conv: convolution of three channels, without groups.
    """
    folded = nn.Conv3d(
        1, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,  # type: ignore[arg-type]
        bias=conv.bias is not None, device="meta",
    )  # fmt: skip  # torch types the sizes of a convolution as tuples of any length
    with torch.no_grad():
        folded.weight = nn.Parameter(conv.weight.sum(dim=1, keepdim=True))
    folded.bias = conv.bias
    return folded
