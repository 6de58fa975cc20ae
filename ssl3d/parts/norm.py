"""Batch norm in a backbone: kept, frozen, or replaced. This decides whether gradient accumulation is exact.

``group``: group norm (Wu & He 2018, arXiv 1803.08494) with weight standardisation (Qiao et al. 2019, arXiv 1903.10520),
the pair that lets BYOL train without batch statistics (Richemond et al. 2020, arXiv 2010.10241). A volume's features
then do not depend on its neighbours. ``frozen``: batch norm that always uses the running statistics of pretrained
weights. Parameter names do not change, so published weights still load.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d.backbone import Norm

MAX_GROUPS, MIN_GROUP_CHANNELS = 32, 4
REPLACED_NORM = (  # a departure, for the card of a backbone that calls convert_norm
    "Where it is trained from scratch, batch norm is replaced by group norm, and convolutions have weight "
    "standardisation (norm = 'group'); with pretrained weights, batch norm keeps their statistics (norm = 'frozen')."
)
Module = TypeVar("Module", bound=nn.Module)


def resolve_norm(norm: Norm, pretrained: bool) -> Norm:
    """Resolve ``auto`` to ``frozen`` with pretrained weights and ``group`` from scratch; return others unchanged."""
    if norm != "auto":
        return norm
    return "frozen" if pretrained else "group"


def convert_norm(module: Module, norm: Norm) -> Module:
    """Replace the batch norm layers in a network; a network without any is returned unchanged.

    Args:
        module: a network whose submodules are changed in place; must not itself be a batch norm.
        norm: ``group`` (and ``auto``), ``batch`` (nothing changes), or ``frozen``.

    Returns:
        The same network.
    """
    if norm == "batch" or not any(isinstance(part, _BatchNorm) for part in module.modules()):
        return module
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, FrozenBatchNorm(child) if norm == "frozen" else GroupNorm(child))
            elif norm != "frozen" and (standardised := _standardised(child)) is not None:
                setattr(parent, name, standardised)
    return module


def groups(channels: int) -> int:
    """Return the largest number of groups, at most 32, that divides the channels into 4 or more each."""
    fits = [g for g in range(1, MAX_GROUPS + 1) if channels % g == 0 and channels // g >= MIN_GROUP_CHANNELS]
    return max(fits, default=1)


def _after(norm: _BatchNorm) -> nn.Sequential:
    """Return what a batch norm layer applies afterwards: timm's hold their dropout and activation as children."""
    return nn.Sequential(*norm.children())


class GroupNorm(nn.GroupNorm):
    """Group norm in place of a batch norm, with its affine parameters. Input (B, C, ...)."""

    def __init__(self, source: _BatchNorm) -> None:
        super().__init__(groups(source.num_features), source.num_features, source.eps, source.affine)
        if source.affine:
            self.weight, self.bias = source.weight, source.bias
        self.after = _after(source)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input, of the same shape."""
        return self.after(super().forward(input))  # type: ignore[no-any-return]  # torch types a call as Any


class FrozenBatchNorm(nn.Module):
    """Batch norm that always uses its stored running statistics, even in training mode; weight and bias still train.

    Input (B, C, ...), of any number of dimensions.
    """

    def __init__(self, source: _BatchNorm) -> None:
        super().__init__()
        self.eps = source.eps
        self.weight, self.bias = source.weight, source.bias
        self.register_buffer("running_mean", source.running_mean)
        self.register_buffer("running_var", source.running_var)
        self.after = _after(source)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised input, of the same shape."""
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        x = F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)
        return self.after(x)  # type: ignore[no-any-return]  # torch types a call as Any


class _Standardised(nn.Module):
    """A convolution whose kernels are standardised to zero mean and unit norm."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Layer norm over a kernel is weight standardisation; the factor keeps the output's scale free of the fan-in,
        # which the normalisation that follows removes in any case, so that nothing overflows in half precision.
        weight = F.layer_norm(weight, weight.shape[1:], eps=1e-10) * weight[0].numel() ** -0.5
        return super()._conv_forward(input, weight, bias)  # type: ignore[misc, no-any-return]  # of the convolution


def is_standardised(module: nn.Module) -> bool:
    """Return whether a module is a convolution with weight standardisation."""
    return isinstance(module, _Standardised)


class StandardisedConv1d(_Standardised, nn.Conv1d):
    """1D convolution with weight standardisation."""


class StandardisedConv2d(_Standardised, nn.Conv2d):
    """2D convolution with weight standardisation."""


class StandardisedConv3d(_Standardised, nn.Conv3d):
    """3D convolution with weight standardisation."""


_STANDARDISED: dict[type[nn.Module], Any] = {
    nn.Conv1d: StandardisedConv1d,
    nn.Conv2d: StandardisedConv2d,
    nn.Conv3d: StandardisedConv3d,
}


def _standardised(module: nn.Module) -> nn.Module | None:
    """Return the convolution with weight standardisation, or None if it does not apply.

    Not replaced: kernels with one input channel (depthwise, the stem on a grey volume), which with zero mean could not
    see brightness; convolutions with a bias, which no norm follows; and those with a custom forward pass.
    """
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or module.bias is not None:
        return None
    plain = next(kind for kind in _STANDARDISED if isinstance(module, kind))
    if type(module).forward is not plain.forward or module.in_channels == module.groups:
        return None
    replacement: nn.Conv1d | nn.Conv2d | nn.Conv3d = _STANDARDISED[plain](
        module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding, module.dilation,
        module.groups, bias=False, padding_mode=module.padding_mode, device="meta",
    )  # fmt: skip
    replacement.weight = module.weight
    return replacement
