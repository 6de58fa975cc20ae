"""A queue of rows from earlier effective batches (MoCo, He et al. 2020, arXiv 1911.05722, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
