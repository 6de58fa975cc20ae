"""Exact gradients of one effective batch.

A loss that couples its volumes (negatives, batch statistics in heads, a cross-correlation) is not a mean over
micro-batches, so summing micro-batch gradients gives the gradient of a different loss. Instead:

1. every micro-batch is encoded without gradients, and only its features and rows are kept;
2. the method's loss is computed once, on all N volumes of all processes, and differentiated down to the features;
3. every micro-batch is encoded again, with gradients, and its slice of the features' gradient is propagated through
   the backbone.

This is gradient caching (Gao et al. 2021, arXiv 2101.06983), split at the features that ``online`` returns, so that
heads also see the whole effective batch. It costs one extra forward pass, except for the last micro-batches, whose
activations are still in memory. An uncoupled loss is computed for each micro-batch, and weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ssl3d.data.rng import Stream
from ssl3d.errors import PluginError
from ssl3d.method import Batch, Features, Kept, Loss
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Part
from ssl3d.train.join import join_batches, map_batch, tensors
from ssl3d.train.losses import Losses
from ssl3d.train.processes import Group
from ssl3d.train.returned import checked_loss
from ssl3d.train.running_statistics import RunningStatistics

MEASURED_VIEWS = 2  # number of views on which collapse is measured


@dataclass
class WindowResult:
    """The results of a window besides gradients.

    Attributes:
        scalars: scalars of the loss, and "loss", over the whole effective batch.
        kept: rows and sums of the loss, over the whole effective batch.
        features: ``embedding`` of the first one or two views that ``online`` encodes, (N, F), detached.
        statistics: running statistics to apply at the optimiser step.
    """

    scalars: dict[str, float]
    kept: Kept
    features: list[Tensor]
    statistics: RunningStatistics


@dataclass
class Window:
    """The computation of a method's gradients on effective batches.

    Attributes:
        encoder: makes views and features; its method is in training mode.
        micro_batch: number of volumes whose activations are on the device at once.
        exact: compute the gradient of the effective batch's loss; False sums the gradients of micro-batch losses.
        group: processes that share each effective batch.
        scale: applied to the loss before differentiation (a gradient scaler's).
        keep: number of micro-batches whose activations are kept for the second pass; one costs no memory.
    """

    encoder: BatchEncoder
    micro_batch: int
    exact: bool = True
    group: Group = field(default_factory=Group.current)
    scale: Callable[[Tensor], Tensor] = lambda loss: loss
    keep: int = 1

    def backward(self, batch: EffectiveBatch) -> WindowResult:
        """Compute the gradients of the method's parameters for an effective batch; earlier gradients are cleared.

        Raises:
            PluginError: the method returned something invalid, or its loss depends on no trainable parameter.
        """
        parts, method = self._parts(batch), self.encoder.method
        method.zero_grad(set_to_none=True)
        run = self._two_passes if self._passes(parts) == 2 else self._one_pass
        statistics = RunningStatistics(method, self.group)
        try:
            with statistics.watch():
                losses, features = run(batch, parts, statistics)
        finally:
            self.encoder.forget()
        return WindowResult(losses.means(), losses.kept(), features, statistics)

    def requests(self, batch: EffectiveBatch) -> Iterator[tuple[EffectiveBatch, Part]]:
        """Yield the parts whose views :meth:`backward` will request, in its order."""
        parts = self._parts(batch)
        yield from ((batch, part) for part in parts)
        if self._passes(parts) == 2:
            for part in parts[: max(0, len(parts) - self.keep)]:
                if not self.encoder.keeps:
                    yield batch, part

    def _parts(self, batch: EffectiveBatch) -> list[Part]:
        share = self.group.shares(len(batch))[self.group.rank]
        return [share[start : start + self.micro_batch] for start in range(0, len(share), self.micro_batch)]

    def _passes(self, parts: Sequence[Part]) -> int:
        whole = self.group.size == 1 and len(parts) == 1
        return 1 if whole or not (self.exact and self.encoder.method.coupled) else 2

    def _one_pass(
        self, batch: EffectiveBatch, parts: Sequence[Part], statistics: RunningStatistics
    ) -> tuple[Losses, list[Tensor]]:
        """Compute a loss for each micro-batch, weighted by its share of the effective batch."""
        losses, embedded = Losses(len(batch), len(parts)), []
        with self.group.together():
            for part in parts:
                seen = self.encoder.features(batch, part, len(parts))
                loss = self._loss(seen, batch.step, part)
                factor = losses.add(loss, len(part))
                if factor:
                    self._differentiate(loss.value * factor)
                with statistics.paused():
                    embedded.append(self._embed(seen, len(part)))
            if not parts:  # fewer volumes than processes: this one only computes the output shapes
                with torch.no_grad(), statistics.paused():
                    seen = self.encoder.features(batch, Part(1))
                    losses.add(self._loss(seen, batch.step, Part(1)), 0)
                    embedded.append(self._embed(seen, 0))
        correction = losses.gather(self.group)
        if correction != 1.0:
            for parameter in self.encoder.method.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(correction)
        self.group.sum_gradients(self.encoder.method.parameters())
        return losses, [self._gather(len(batch))(*views) for views in zip(*embedded, strict=True)]

    def _two_passes(
        self, batch: EffectiveBatch, parts: Sequence[Part], statistics: RunningStatistics
    ) -> tuple[Losses, list[Tensor]]:
        """Compute features first, then one loss on all of them, then push their gradient through the backbone."""
        with self.group.together():
            local, graphs = self._features(batch, parts, statistics)
        whole = join_batches(local, self._gather(len(batch)))
        leaves = [tensor for features in whole.online_features for tensor in tensors(features)]
        for leaf in leaves:
            leaf.requires_grad_(leaf.is_floating_point())
        losses = Losses(len(batch))
        with self.group.together():
            with statistics.whole():
                loss = self._loss(whole, batch.step, Part(len(batch)))
            losses.add(loss, len(batch))
            self._differentiate(loss.value)
            heads = _take_gradients(self.encoder.method)  # whole and identical on every process: not to be summed
            with statistics.paused():
                embedded = self._embed(whole, len(batch))
                self._push(batch, parts, graphs, whole)
        self.group.sum_gradients(self.encoder.method.parameters())
        _add_gradients(heads)
        return losses, embedded

    def _features(
        self, batch: EffectiveBatch, parts: Sequence[Part], statistics: RunningStatistics
    ) -> tuple[list[Batch], dict[Part, Batch]]:
        """Encode this process's share: without gradients, except the last ``keep`` micro-batches."""
        local, graphs = [], {}
        for number, part in enumerate(parts):
            keep = number >= len(parts) - self.keep
            with torch.set_grad_enabled(keep):
                seen = self.encoder.features(batch, part, len(parts))
            local.append(map_batch(torch.Tensor.detach, seen))
            if keep:
                graphs[part] = seen
        if not parts:  # fewer volumes than processes: this one only computes the features' shapes
            with torch.no_grad(), statistics.paused():
                local.append(map_batch(lambda tensor: tensor[:0], self.encoder.features(batch, Part(1))))
        return local, graphs

    def _push(self, batch: EffectiveBatch, parts: Sequence[Part], graphs: dict[Part, Batch], whole: Batch) -> None:
        """Propagate the features' gradients through the backbone, kept graphs first: this frees their activations."""
        for part in sorted(parts, key=lambda part: part not in graphs):
            if part in graphs:
                _send_kept(graphs.pop(part), whole, part)
                continue
            views = self.encoder.views(batch, part, len(parts))
            for place, leaves in enumerate(whole.online_features):
                if any(leaf.grad is not None for leaf in tensors(leaves)):
                    _send(self.encoder.online(batch, part, views, place), leaves, part)

    def _loss(self, seen: Batch, step: int, part: Part) -> Loss:
        """Compute the method's loss; its draws depend on (seed, step, part), identically on every process."""
        with self.encoder.seeded(Stream.LOSS, step, part):
            return checked_loss(self.encoder.method, self.encoder.method.loss(seen), len(part))

    def _differentiate(self, loss: Tensor) -> None:
        if not loss.requires_grad:
            raise PluginError(
                f"the loss of {type(self.encoder.method).__name__} depends on nothing that is trained; return one "
                "that carries gradients from the features of ``online`` or from a head that is not frozen"
            )
        self.scale(loss).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _embed(self, seen: Batch, rows: int) -> list[Tensor]:
        """Return the vectors on which collapse is measured, for the first ``rows`` volumes."""
        return [
            self.encoder.method.embedding(features).detach()[:rows]
            for features in seen.online_features[:MEASURED_VIEWS]
        ]

    def _gather(self, count: int) -> Callable[..., Tensor]:
        """Return the function that joins tensors of this process's micro-batches with those of all processes."""
        return lambda *parts: self.group.gather(torch.cat(parts), count)


def _send_kept(seen: Batch, whole: Batch, part: Part) -> None:
    for features, leaves in zip(seen.online_features, whole.online_features, strict=True):
        _send(features, leaves, part)


def _send(features: Features, leaves: Features, part: Part) -> None:
    """Backpropagate the features' slice of the gradient from the loss; features without a graph are skipped."""
    roots, gradients = [], []
    for feature, leaf in zip(tensors(features), tensors(leaves), strict=True):
        if leaf.grad is not None and feature.requires_grad:
            roots.append(feature)
            gradients.append(leaf.grad[part.start : part.stop])
    if roots:
        torch.autograd.backward(roots, gradients)


def _take_gradients(module: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    taken = [(parameter, parameter.grad) for parameter in module.parameters() if parameter.grad is not None]
    for parameter, _ in taken:
        parameter.grad = None
    return taken


def _add_gradients(taken: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, gradient in taken:
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
