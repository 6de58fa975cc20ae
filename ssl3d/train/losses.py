"""Losses of micro-batches, put together into what the loss of the effective batch returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssl3d.method import Kept, Loss
from ssl3d.train.processes import Group


@dataclass
class Losses:
    """What the losses of an effective batch's micro-batches returned.

    Attributes:
        volumes: in the effective batch.
        parts: micro-batches of this process.
        weight: total of the losses' weights, over all processes once :meth:`gather` was called.
    """

    volumes: int
    parts: int = 1
    weight: float = 0.0
    _reference: float = 0.0
    _scalars: dict[str, Tensor] = field(default_factory=dict)
    _rows: dict[str, list[Tensor]] = field(default_factory=dict)
    _sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, loss: Loss, count: int) -> float:
        """Add the loss of a micro-batch.

        Args:
            loss: of it.
            count: of its volumes; 0 adds the names and shapes alone.

        Returns:
            What the loss is multiplied by before it is differentiated. The total of the weights is not known yet, so
            it is a guess of the loss's share of the total, to be corrected by what :meth:`gather` returns.
        """
        weight = float(count if loss.weight is None or not count else loss.weight)
        if not self._reference and weight:
            self._reference = self.volumes if loss.weight is None else weight * self.parts
        self.weight += weight
        for name, value in {"loss": loss.value, **loss.scalars}.items():
            share = weight * value.detach() if weight else torch.zeros_like(value)  # 0 * NaN is not 0
            self._scalars[name] = self._scalars[name] + share if name in self._scalars else share
        for name, row in loss.rows.items():
            self._rows.setdefault(name, []).append(row.detach()[:count])
        for name, value in loss.sums.items():
            share = value.detach() if count else torch.zeros_like(value)
            self._sums[name] = self._sums[name] + share if name in self._sums else share
        return weight / self._reference if weight else 0.0

    def gather(self, group: Group) -> float:
        """Put together what the processes have; return what their gradients are multiplied by before they are added."""
        if group.size > 1:
            device = self._scalars["loss"].device
            self.weight = float(group.sum(torch.tensor(self.weight, dtype=torch.float64, device=device)))
        self._scalars = {name: group.sum(value) for name, value in self._scalars.items()}
        self._sums = {name: group.sum(value) for name, value in self._sums.items()}
        self._rows = {name: [group.gather(torch.cat(rows), self.volumes)] for name, rows in self._rows.items()}
        return self._reference / self.weight if self.weight else 1.0

    def means(self) -> dict[str, float]:
        """Return the scalars, and "loss", over the effective batch; 0 where nothing had any weight."""
        return {name: float(value / (self.weight or 1.0)) for name, value in self._scalars.items()}

    def kept(self) -> Kept:
        """Return the rows and sums over the effective batch."""
        return Kept({name: torch.cat(rows) for name, rows in self._rows.items()}, dict(self._sums))
