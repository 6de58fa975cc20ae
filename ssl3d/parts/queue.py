"""A queue of rows from earlier effective batches (MoCo, He et al. 2020, arXiv 1911.05722, section 3.2)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl3d.budget import Budget, Rule

QueueSize = Annotated[int, Field(ge=1)] | Literal["auto"]
# MoCo's 65,536 keys are a twentieth of ImageNet, which here would be fewer than a batch; on COCO (118,287 images),
# MoCo's and DenseCL's same 65,536 are half of it, the largest share with published results.
SHARE = 0.5  # of the corpus
OFTEN = 2  # a queue that holds a volume more often contrasts it mainly with itself
AUTO_QUEUE = (
    "On a corpus too small for the paper's queue, it holds half as many rows as there are volumes, in whole effective "
    "batches and at least one (auto)."
)


class Queue(nn.Module):
    """The newest ``size`` rows that were pushed, initially none; part of the method's state.

    >>> self.queue = Queue(65536, 128)
    >>> negatives = self.queue.held                # in ``loss``: keys of earlier effective batches
    >>> self.queue.push(kept.rows["keys"])         # in ``after_step``: once per optimiser step

    Args:
        size: maximum number of rows.
        width: width of a row.
    """

    rows: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    @property
    def held(self) -> Tensor:
        """The rows (K, width) pushed and not yet overwritten, in no particular order."""
        return self.rows[: int(self.filled)]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Add rows (N, width) in order, wrapping round at the end; the oldest are overwritten."""
        size = len(self.rows)
        rows = rows[-size:]
        places = (self.cursor + torch.arange(len(rows), device=rows.device)) % size
        self.rows[places] = rows.to(self.rows)
        self.cursor.copy_((self.cursor + len(rows)) % size)
        self.filled.copy_(torch.clamp(self.filled + len(rows), max=size))


class AutoQueue(Rule):
    """The paper's size, or half as many rows as the corpus has volumes, rounded down to whole effective batches."""

    def auto(self, budget: Budget) -> int:
        """Return the number of rows, at least one effective batch; see :meth:`Rule.auto`."""
        batches = int(SHARE * budget.volumes) // budget.batch_size
        return min(int(self.paper), max(1, batches) * budget.batch_size)

    def misfit(self, value: float, budget: Budget) -> str:
        """Return how often a full queue holds each volume; see :meth:`Rule.misfit`."""
        held = min(value, budget.steps * budget.batch_size) / budget.volumes
        if held <= OFTEN:
            return ""
        return f"holds each of the {budget.volumes} volumes about {held:.0f} times"
