"""Convolutional networks that see only part of a volume, by masks (Tian et al. 2023, https://arxiv.org/abs/2301.03580).

Zeros in place of hidden voxels would not do: convolutions spread visible features over them, from layer to layer, and
norms count them. Here a mask on the grid of the coarsest map is applied after every layer, and group norm uses visible
voxels alone. The result at visible places is that of a sparse convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.errors import PluginError
from ssl3d.parts import norm

MASKED = (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d, norm.FrozenBatchNorm)  # after these the mask is applied again
ZERO_TO_ZERO = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Hardswish, nn.Identity)
UNCHANGED = (*ZERO_TO_ZERO, nn.Dropout, nn.Dropout3d, nn.Sequential)


@contextmanager
def sparse(network: nn.Module, visible: Tensor) -> Iterator[None]:
    """Make a network compute on visible voxels only, inside.

    >>> with sparse(self.backbone, visible):
    ...     maps = self.backbone.forward_features(view * mask_at(visible, view.shape[2:]))

    Args:
        network: its leaf modules must be 3D convolutions and pooling, group norm or frozen batch norm, activations that
            map 0 to 0, and dropout.
        visible: (B, d, h, w) booleans, true where the coarsest map sees the volume; at least one per volume.

    Raises:
        PluginError: inside, when the network runs a module that cannot be masked.
    """
    masks: dict[torch.Size, Tensor] = {}

    def mask_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if type(module) in UNCHANGED:
            return output
        _check(network, module, output, visible)
        size = output.shape[2:]
        if size not in masks:
            masks[size] = mask_at(visible, size).to(output.dtype)
        if isinstance(module, nn.GroupNorm):
            return sparse_group_norm(module, inputs[0], masks[size])
        return output * masks[size].to(output.dtype)

    leaves = [part for part in network.modules() if _is_leaf(part)]
    handles = [leaf.register_forward_hook(mask_output) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_sparse(backbone: Backbone, size: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
    """Raise PluginError if a backbone runs a module that cannot be masked.

    Args:
        backbone: not changed; run on meta tensors. One that cannot is checked when it is first used.
        size: (D, H, W) of the view.
        grid: (d, h, w) of the mask.
    """
    twin = copy.deepcopy(backbone).to("meta").eval()
    view = next(twin.parameters()).new_zeros(1, 1, *size)
    visible = torch.ones(1, *grid, dtype=torch.bool, device="meta")
    with suppress(NotImplementedError, RuntimeError), torch.no_grad(), sparse(twin, visible):
        twin.forward_features(view)


def mask_at(visible: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Return a mask (B, d, h, w) at another size, as float32 (B, 1, D, H, W): 1 where visible.

    Each cell becomes a block of voxels; if the sizes are not multiples of each other, blocks differ by a voxel.
    """
    return F.interpolate(visible[:, None].float(), size=tuple(size))


def sparse_group_norm(layer: nn.GroupNorm, x: Tensor, mask: Tensor) -> Tensor:
    """Return group norm with the statistics of visible voxels, and zero elsewhere.

    Args:
        layer: gives the number of groups, weight, bias and epsilon.
        x: (B, F, D, H, W).
        mask: (B, 1, D, H, W), 1 where visible and 0 elsewhere.
    """
    values = x if x.dtype == torch.float64 else x.float()
    grouped = values.reshape(len(x), layer.num_groups, -1, *x.shape[2:])  # (B, G, F / G, D, H, W)
    shown = mask.to(values.dtype)[:, None]
    count = shown.sum(dim=(2, 3, 4, 5), keepdim=True) * grouped.shape[2]
    mean = (grouped * shown).sum(dim=(2, 3, 4, 5), keepdim=True) / count  # (B, G, 1, 1, 1, 1)
    centred = (grouped - mean) * shown
    variance = centred.square().sum(dim=(2, 3, 4, 5), keepdim=True) / count
    normed = (centred * (variance + layer.eps).rsqrt()).flatten(1, 2)
    if layer.affine:
        normed = normed * layer.weight.view(-1, 1, 1, 1) + layer.bias.view(-1, 1, 1, 1) * mask.to(normed.dtype)
    after = layer.after if isinstance(layer, norm.GroupNorm) else nn.Identity()
    return after(normed)  # type: ignore[no-any-return]  # torch types a call as Any


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) or isinstance(module, (*MASKED, nn.GroupNorm))


def _check(network: nn.Module, module: nn.Module, output: Any, visible: Tensor) -> None:
    """Refuse a module whose output cannot be masked."""
    layer = type(module).__name__
    start = f"{type(network).__name__} cannot convolve over visible voxels alone: its {layer}"
    advice = "choose a convolutional backbone with group norm, such as tiny with norm = 'group'"
    known = isinstance(module, MASKED) or type(module) in (nn.GroupNorm, norm.GroupNorm)
    if not known or not isinstance(output, Tensor):
        raise PluginError(f"{start} cannot be masked; {advice}")
    grid, size = tuple(visible.shape[1:]), tuple(output.shape[2:])
    if any(of_map < of_grid for of_map, of_grid in zip(size, grid, strict=True)):
        raise PluginError(f"{start} gives a map {size}, smaller than the mask {grid}; {advice}")
