"""Losses of micro-batches, combined into the loss of the effective batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssl3d.method import Kept, Loss
from ssl3d.train.processes import Group


@dataclass
class Losses:
    """The results of ``loss`` on the micro-batches of an effective batch.

    Attributes:
        volumes: number in the effective batch.
        parts: number of micro-batches of this process.
        weight: total of the losses' weights, over all processes after :meth:`gather`.
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
            loss: loss of the micro-batch.
            count: number of its volumes; 0 adds names and shapes only.

        Returns:
            The factor of the loss before it is differentiated. The total of the weights is not known yet, so this is an
            estimate of the loss's share, which the result of :meth:`gather` corrects.
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
        """Combine the results of all processes; return the factor of their gradients before these are summed."""
        if group.size > 1:
            device = self._scalars["loss"].device
            self.weight = float(group.sum(torch.tensor(self.weight, dtype=torch.float64, device=device)))
        self._scalars = {name: group.sum(value) for name, value in self._scalars.items()}
        self._sums = {name: group.sum(value) for name, value in self._sums.items()}
        self._rows = {name: [group.gather(torch.cat(rows), self.volumes)] for name, rows in self._rows.items()}
        return self._reference / self.weight if self.weight else 1.0

    def means(self) -> dict[str, float]:
        """Return the scalars, and "loss", over the effective batch; 0 if the total weight is zero."""
        return {name: float(value / (self.weight or 1.0)) for name, value in self._scalars.items()}

    def kept(self) -> Kept:
        """Return the rows and sums over the effective batch."""
        return Kept({name: torch.cat(rows) for name, rows in self._rows.items()}, dict(self._sums))
