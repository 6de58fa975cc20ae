"""One effective batch into gradients, exactly.

A loss that couples its volumes (negatives, batch statistics in heads, a cross-correlation) is not a mean over
micro-batches, so adding up micro-batch gradients gives the gradient of another loss. Here, instead:

1. every micro-batch is encoded without gradients, and only its features are kept, N x F numbers a view;
2. the method's loss is computed once, on all N volumes of all processes, and differentiated down to the features;
3. every micro-batch is encoded again, with gradients, and its slice of the features' gradient goes on through the
   backbone.

This is gradient caching (Gao et al. 2021, arXiv 2101.06983) with the cut at the backbone's features, so that heads see
the whole effective batch too. One extra forward pass, less the last micro-batches, whose activations are still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ssl3d.train.encode import Batch, Encoder
from ssl3d.train.processes import Group
from ssl3d.train.running_statistics import RunningStatistics


@dataclass
class Outcome:
    """What a window left, gradients aside.

    Attributes:
        scalars: what the loss returned as scalars, over the whole effective batch.
        kept: what it returned with one row a volume, (N, ...).
        features: N rows a view the online network encodes, (N, F), detached.
        statistics: running statistics that wait for the optimiser step.
    """

    scalars: dict[str, float]
    kept: dict[str, Tensor]
    features: list[Tensor]
    statistics: RunningStatistics


@dataclass
class _Loss:
    """Outputs of the method's loss, added up over micro-batches."""

    scalars: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, outputs: dict[str, Tensor], weight: float, rows: int) -> None:
        for name, value in outputs.items():
            if value.dim() == 0:
                self.scalars[name] = self.scalars.get(name, torch.zeros_like(value)) + weight * value.detach()
            else:
                self.rows.setdefault(name, []).append(value.detach()[:rows])


@dataclass
class Window:
    """Turns effective batches into gradients of a method.

    Attributes:
        encoder: makes views and features; its method is in training mode.
        micro_batch: volumes on the device with activations at one time.
        exact: the gradient of the effective batch's loss; False sums the gradients of the micro-batches' losses.
        group: processes that share each effective batch.
        scale: applied to the loss before it is differentiated (a gradient scaler's).
        keep: micro-batches whose activations stay from the first pass to the second; one costs no memory.
    """

    encoder: Encoder
    micro_batch: int
    exact: bool = True
    group: Group = field(default_factory=Group.current)
    scale: Callable[[Tensor], Tensor] = lambda loss: loss
    keep: int = 1

    def backward(self, batch: Batch) -> Outcome:
        """Add this effective batch's gradients to those of the method's parameters (None before the first)."""
        parts, method = self._parts(batch), self.encoder.method
        run = self._two_passes if self._passes(parts) == 2 else self._one_pass
        statistics = RunningStatistics(method, self.group)
        try:
            with statistics.watch():
                scalars, kept, features = run(batch, parts, statistics)
        finally:
            self.encoder.forget()
        return Outcome({name: float(value) for name, value in scalars.items()}, kept, features, statistics)

    def requests(self, batch: Batch) -> Iterator[tuple[Batch, range]]:
        """Yield the parts whose views :meth:`backward` will ask for, in its order."""
        parts = self._parts(batch)
        yield from ((batch, part) for part in parts)
        if self._passes(parts) == 2:
            for part in parts[: -self.keep]:
                if not self.encoder.keeps:
                    yield batch, part

    def _parts(self, batch: Batch) -> list[range]:
        share = self.group.shares(len(batch))[self.group.rank]
        return [share[start : start + self.micro_batch] for start in range(0, len(share), self.micro_batch)]

    def _passes(self, parts: Sequence[range]) -> int:
        whole = self.group.size == 1 and len(parts) == 1
        return 1 if whole or not (self.exact and self.encoder.method.coupled) else 2

    def _one_pass(
        self, batch: Batch, parts: Sequence[range], statistics: RunningStatistics
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
        """A loss for each micro-batch, weighted by its true share of the volumes."""
        losses, columns = _Loss(), _Columns()
        with self.group.together():
            for part in parts:
                online, target = self._encode(batch, part, parts, keep=True)
                outputs = self.encoder.method.loss(online, target)
                weight = len(part) / len(batch)
                self.scale(outputs["loss"] * weight).backward()  # type: ignore[no-untyped-call]
                losses.add(outputs, weight, len(part))
                columns.add(online, len(part))
            if not parts:  # fewer volumes than processes: this one computes the shape of the answer, and adds nothing
                with torch.no_grad(), statistics.paused():
                    online, target = self._encode(batch, range(1), parts, keep=False)
                    losses.add(self.encoder.method.loss(online, target), 0.0, 0)
                columns.add(online, 0)
        self.group.sum_gradients(self.encoder.method.parameters())
        scalars = {name: self.group.sum(value) for name, value in losses.scalars.items()}
        kept = {name: self.group.gather(torch.cat(rows), len(batch)) for name, rows in losses.rows.items()}
        return scalars, kept, columns.gathered(self.group, len(batch))

    def _two_passes(
        self, batch: Batch, parts: Sequence[range], statistics: RunningStatistics
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
        """Features first, then one loss on all of them, then their gradient through the backbone."""
        with self.group.together():
            online, target, graphs = self._features(batch, parts, statistics)
        leaves = [column.requires_grad_() for column in online.gathered(self.group, len(batch))]  # V of (N, F)
        targets = target.gathered(self.group, len(batch))
        with self.group.together():
            with statistics.whole():
                outputs = self.encoder.method.loss(leaves, targets)
            self.scale(outputs["loss"]).backward()  # type: ignore[no-untyped-call]
            heads = _take_gradients(self.encoder.method)  # whole, and the same on every process: not to be summed
            with statistics.paused():
                self._push(batch, parts, graphs, leaves)
        self.group.sum_gradients(self.encoder.method.parameters())
        _give_gradients(heads)
        losses = _Loss()
        losses.add(outputs, 1.0, len(batch))
        return losses.scalars, {k: v[0] for k, v in losses.rows.items()}, [leaf.detach() for leaf in leaves]

    def _features(
        self, batch: Batch, parts: Sequence[range], statistics: RunningStatistics
    ) -> tuple[_Columns, _Columns, dict[range, list[Tensor]]]:
        """Encode this process's share; the last ``keep`` micro-batches with gradients, and their graphs returned."""
        online, target, graphs = _Columns(), _Columns(), {}
        for number, part in enumerate(parts):
            keep = number >= len(parts) - self.keep
            features, targets = self._encode(batch, part, parts, keep)
            online.add(features, len(part))
            target.add(targets, len(part))
            if keep:
                graphs[part] = features
        if not parts:  # fewer volumes than processes: this one learns the shape of the features, and adds no row
            with statistics.paused():
                features, targets = self._encode(batch, range(1), parts, keep=False)
            online.add(features, 0)
            target.add(targets, 0)
        return online, target, graphs

    def _encode(
        self, batch: Batch, part: range, parts: Sequence[range], keep: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return a part's features, one tensor a view, of the online network and of the momentum encoder."""
        views = self.encoder.views(batch, part, len(parts))
        with torch.set_grad_enabled(keep):
            wanted = self.encoder.online_views(len(views))
            online = [self.encoder.online(views[index], batch, part, index) for index in wanted]
        return online, self.encoder.targets(views, batch, part)

    def _push(
        self,
        batch: Batch,
        parts: Sequence[range],
        graphs: dict[range, list[Tensor]],
        leaves: Sequence[Tensor],
    ) -> None:
        """Send the features' gradients through the backbone, kept graphs first: that frees their activations."""
        for part in sorted(parts, key=lambda part: part not in graphs):
            views = self.encoder.views(batch, part, len(parts)) if part not in graphs else ()
            for place, leaf in enumerate(leaves):
                gradient = leaf.grad
                if gradient is None:
                    continue
                if part in graphs:
                    features = graphs[part][place]
                else:
                    index = self.encoder.online_views(len(views))[place]
                    features = self.encoder.online(views[index], batch, part, index)
                features.backward(gradient[part.start : part.stop])  # type: ignore[no-untyped-call]
            graphs.pop(part, None)


@dataclass
class _Columns:
    """Features of this process's share, view by view, as its micro-batches come."""

    views: list[list[Tensor]] = field(default_factory=list)

    def add(self, features: Sequence[Tensor], rows: int) -> None:
        if not self.views:
            self.views = [[] for _ in features]
        for column, feature in zip(self.views, features, strict=True):
            column.append(feature.detach()[:rows])

    def gathered(self, group: Group, count: int) -> list[Tensor]:
        """Return V tensors (N, F) over all processes."""
        return [group.gather(torch.cat(column), count) for column in self.views]


def _take_gradients(module: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    taken = [(parameter, parameter.grad) for parameter in module.parameters() if parameter.grad is not None]
    for parameter, _ in taken:
        parameter.grad = None
    return taken


def _give_gradients(taken: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, gradient in taken:
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
