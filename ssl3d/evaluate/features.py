"""Features of a frozen encoder, extracted once for all read-outs in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ssl3d.backbone import Backbone
from ssl3d.data.augment import whole
from ssl3d.data.volumes import Volumes


class Source(Protocol):
    """A source of volumes: a packed store."""

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        """Return the volumes with these indices, on the device."""


def extract(
    encoder: Backbone,
    source: Source,
    indices: Sequence[int],
    *,
    size: tuple[int, int, int],
    batch_size: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return features (N, F_r), float32, of whole volumes by read-out; the encoder is not changed.

    Args:
        encoder: on ``device``.
        source: source of the volumes.
        indices: indices of N volumes.
        size: (D, H, W) that volumes are resampled to.
        batch_size: volumes encoded at once; it affects rounding.
        device: where to compute.
        autocast: lower precision of the encoder; None for its own.
        progress: called with (volumes done, N) after every batch.
    """
    features: dict[str, list[np.ndarray]] = {}
    with evaluating(encoder), torch.inference_mode(), torch.autocast(device.type, autocast, autocast is not None):
        weight = next(encoder.parameters())
        for start in range(0, len(indices), batch_size):
            part = list(indices[start : start + batch_size])
            x = whole(source.volumes(part, device), size).to(weight.dtype)  # (B, C, D, H, W)
            for name, found in encoder.readouts(x).items():
                features.setdefault(name, []).append(found.float().cpu().numpy())  # (B, F_r)
            if progress is not None:
                progress(start + len(part), len(indices))
    return {name: np.concatenate(parts) for name, parts in features.items()}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and its submodules into evaluation mode, and restore each one's mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
