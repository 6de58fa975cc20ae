"""A state dict copied into a network, as far as names and shapes agree, and the account of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Match(tuple[int, int]):
    """(matched, expected) tensors of a network, and the names that differ.

    Attributes:
        missing: tensors of the network that were not found; where only the shape differs, with both shapes.
        unexpected: tensors of the file that have no place in the network, such as a classifier's.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


@torch.no_grad()
def load_matching(network: nn.Module, state: Mapping[str, Tensor]) -> Match:
    """Copy every tensor whose name and shape match; stem kernels with three channels are summed to one.

    On a grey volume, the summed kernel gives what the original gives on that volume repeated three times. Batch
    counters are ignored and not counted.
    """
    own = {key: tensor for key, tensor in network.state_dict().items() if tensor.is_floating_point()}
    missing = []
    for key, tensor in own.items():
        given = state.get(key)
        if given is None:
            missing.append(key)
            continue
        if given.ndim > 2 and given.shape[1] == 3 and tensor.shape[1] == 1:
            given = given.sum(dim=1, keepdim=True)
        if given.shape == tensor.shape:
            tensor.copy_(given)
        else:
            missing.append(f"{key} ({_shape(given)} in the file, {_shape(tensor)} here)")
    found = Match((len(own) - len(missing), len(own)))
    found.missing = tuple(missing)
    found.unexpected = tuple(key for key, tensor in state.items() if key not in own and tensor.is_floating_point())
    return found


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
