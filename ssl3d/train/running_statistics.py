"""Running statistics of batch norm that move once per effective batch, whatever its split.

Each forward pass of a batch norm layer is recorded; at the end of the window the mean and variance over all recorded
passes (micro-batches, views and processes) are combined and update the running statistics once. Passes that encode
the same volumes again are not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d.train.processes import Group


@dataclass
class _Record:
    """The inputs of one layer: the running values before, and sums over elements of count, x, and x squared."""

    mean: Tensor
    var: Tensor
    batches: Tensor | None
    momentum: float | None
    sums: Tensor  # (3, C) float64, of this process's share of the inputs
    whole: Tensor  # (3, C) float64, of inputs that every process sees whole


class RunningStatistics:
    """Collector of batch statistics during a window, which applies them once or not at all.

    Args:
        module: all its batch norm layers that are in training mode and track statistics take part.
        group: the processes that share the effective batch.
    """

    def __init__(self, module: nn.Module, group: Group) -> None:
        self._module = module
        self._group = group
        self._records: dict[_BatchNorm, _Record] = {}
        self._recording = True
        self._whole = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Record the forward passes inside; afterwards the running values are restored."""
        layers = [m for m in self._module.modules() if isinstance(m, _BatchNorm) and _tracks(m)]
        self._records = {layer: _snapshot(layer) for layer in layers}
        handles = [layer.register_forward_hook(self._hook) for layer in layers]
        for layer in layers:
            layer.momentum = 1.0  # a forward pass then leaves the batch's own statistics in the running values
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for layer, record in self._records.items():
                _restore(layer, record)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend recording inside: these volumes were recorded before."""
        self._recording = False
        try:
            yield
        finally:
            self._recording = True

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Record the passes inside as identical on every process, not to be summed over them."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False

    def _hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        if not (self._recording and isinstance(layer, _BatchNorm)):
            return
        assert layer.running_mean is not None
        assert layer.running_var is not None
        count = inputs[0].numel() / inputs[0].shape[1]
        mean, var = layer.running_mean.double(), layer.running_var.double() * (count - 1) / count
        record = self._records[layer]
        sums = record.whole if self._whole else record.sums
        sums += torch.stack([torch.full_like(mean, count), mean * count, (var + mean**2) * count])

    @torch.no_grad()
    def commit(self) -> None:
        """Update the running statistics once from the recorded passes."""
        for layer, record in self._records.items():
            count, total, squares = self._group.sum(record.sums) + record.whole
            if not count.any() or layer.running_mean is None or layer.running_var is None:
                continue
            mean = total / count
            var = (squares / count - mean**2).clamp_min(0) * count / (count - 1).clamp_min(1)
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked += 1
            weight = layer.momentum if layer.momentum is not None else 1.0 / float(layer.num_batches_tracked or 1)
            layer.running_mean.lerp_(mean.to(layer.running_mean), weight)
            layer.running_var.lerp_(var.to(layer.running_var), weight)


def _tracks(layer: _BatchNorm) -> bool:
    return layer.training and layer.running_mean is not None and layer.running_var is not None


def _snapshot(layer: _BatchNorm) -> _Record:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    batches = None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone()
    sums = torch.zeros((3, layer.num_features), dtype=torch.float64, device=layer.running_mean.device)
    return _Record(layer.running_mean.clone(), layer.running_var.clone(), batches, layer.momentum, sums, sums.clone())


@torch.no_grad()
def _restore(layer: _BatchNorm, record: _Record) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.momentum = record.momentum
    layer.running_mean.copy_(record.mean)
    layer.running_var.copy_(record.var)
    if record.batches is not None and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.copy_(record.batches)
