"""The processes that share one effective batch: how volumes are divided among them, and how results are combined.

Built on ``torch.distributed``; with a single process every operation is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssl3d.train.tuning.memory import out_of_memory

PATIENCE = timedelta(days=7)  # processes wait while the first one packs or evaluates; gloo detects a dead one


class PeerError(Exception):
    """Another process of the group failed; the message says which, and why."""


def leave() -> None:
    """Leave the process group."""
    _beside_gpus.cache_clear()
    dist.destroy_process_group()


@dataclass(frozen=True)
class Group:
    """A set of processes, as seen from one of them."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Group:
        """Return the default process group, or a group of one if there is none."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def shares(self, count: int) -> list[range]:
        """Return the contiguous positions of 0..count-1 that each process holds, split as evenly as possible."""
        edges = [count * rank // self.size for rank in range(self.size + 1)]
        return [range(start, stop) for start, stop in pairwise(edges)]

    def gather(self, local: Tensor, count: int) -> Tensor:
        """Concatenate each process's rows (n, ...) to all rows (count, ...), in the order of the positions."""
        if self.size == 1:
            return local
        shares = [len(share) for share in self.shares(count)]
        padded = local.new_zeros((max(shares), *local.shape[1:], 1))
        padded[: len(local)] = local.unsqueeze(-1)
        raw = padded.view(torch.uint8)  # bytes, so that every dtype can be exchanged
        received = [torch.empty_like(raw) for _ in shares]
        dist.all_gather(received, raw)
        rows = [row.view(local.dtype).squeeze(-1) for row in received]
        return torch.cat([row[:length] for row, length in zip(rows, shares, strict=True)])  # (count, ...)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; a gradient that is None on all of them stays None."""
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

    @property
    def leads(self) -> bool:
        """Whether this is the process that reads, writes and reports."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, group=_control())
        return bool(flags)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Fail in every process if one fails inside, so that none waits for it in the next exchange.

        There must be no exchange inside. If another process runs out of memory, this one raises the same error, so that
        all of them can continue with a smaller split.

        Raises:
            PeerError: another process failed, for another reason.
        """
        mine: Exception | None = None
        try:
            yield
        except Exception as error:
            mine = error
        if self.any(mine is not None):
            raise _agreed(mine, self._reasons(mine))

    def _reasons(self, mine: Exception | None) -> list[_Reason | None]:
        """Return the failure of each process, or None."""
        told = None if mine is None else _Reason(self.rank, out_of_memory(mine), _one_line(mine))
        reasons: list[_Reason | None] = [told] * self.size
        if self.size > 1:
            dist.all_gather_object(reasons, told, group=_control())
        return reasons

    def tell(self, message: Any) -> None:
        """Send a plain value to the other processes, which receive it in :meth:`told`."""
        if self.size > 1:
            dist.broadcast_object_list([message], src=0, group=_control())

    def told(self) -> Any:
        """Wait for the message of the first process, and return it."""
        box = [None]
        dist.broadcast_object_list(box, src=0, group=_control())
        return box[0]


def _control() -> dist.ProcessGroup | None:
    """Return the group for flags and messages: on CPUs, so that no GPU waits for them."""
    return dist.group.WORLD if dist.get_backend() == "gloo" else _beside_gpus()


@cache
def _beside_gpus() -> dist.ProcessGroup | None:
    made = dist.new_group(backend="gloo", timeout=PATIENCE)
    return made if isinstance(made, dist.ProcessGroup) else None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _agreed(mine: Exception | None, reasons: list[_Reason | None]) -> Exception:
    """Return the error to raise here, of the same kind in every process, so that all continue or all stop."""
    failed = [reason for reason in reasons if reason is not None]
    if all(reason.out_of_memory for reason in failed):
        return mine or torch.OutOfMemoryError(failed[0].told(len(reasons)))
    if mine is not None and not out_of_memory(mine):
        return mine
    return PeerError(next(reason for reason in failed if not reason.out_of_memory).told(len(reasons)))


@dataclass(frozen=True)
class _Reason:
    """Why a process failed."""

    rank: int
    out_of_memory: bool
    text: str

    def told(self, size: int) -> str:
        return f"process {self.rank} of {size}: {self.text}"
