"""The processes that share one effective batch: who holds which volumes, and how what they computed is put together.

Built on ``torch.distributed``; on one process every operation is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """A set of processes, as seen from one of them."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Group:
        """Return the default process group, or a group of one where none was made."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def shares(self, count: int) -> list[range]:
        """Return the contiguous positions of 0..count-1 that each process holds, as even as can be."""
        edges = [count * rank // self.size for rank in range(self.size + 1)]
        return [range(start, stop) for start, stop in pairwise(edges)]

    def gather(self, local: Tensor, count: int) -> Tensor:
        """Concatenate each process's rows (n, ...) to all rows (count, ...), in the order of the positions."""
        if self.size == 1:
            return local
        shares = [len(share) for share in self.shares(count)]
        padded = local.new_zeros((max(shares), *local.shape[1:]))
        padded[: len(local)] = local
        rows = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(rows, padded)
        return torch.cat([row[:length] for row, length in zip(rows, shares, strict=True)])  # (count, ...)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that is None on all of them stays None."""
        if self.size == 1:
            return
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
        if parameters:
            present = self.sum(present.to(parameters[0].device)).cpu()
        for parameter, count in zip(parameters, present.tolist(), strict=True):
            if count:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
