"""The difference between an effective batch computed whole and split into micro-batches.

Everything is computed in float64 on random volumes, by a copy of the method that may be changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl3d.data.rng import Stream
from ssl3d.method import AnyMethod, Batch, Kept
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Part
from ssl3d.train.join import join_batches, tensors
from ssl3d.train.losses import Losses
from ssl3d.train.processes import Group
from ssl3d.train.returned import checked_loss
from ssl3d.train.window import Window

TOLERANCE = 1e-9  # relative, in float64: a gradient that is split exactly agrees to about 1e-14
LEAST_NORM = 1e-12  # smaller norms are compared absolutely


class SplitError(Exception):
    """The batch can be computed whole, but not in micro-batches: for example, batch norm rejects a single value."""


@dataclass(frozen=True)
class Trial:
    """An effective batch, and the number of volumes per micro-batch when it is split."""

    batch: EffectiveBatch
    micro_batch: int


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a split batch with the whole one.

    Attributes:
        error: relative error of the gradient; may be infinite or NaN.
        agree: whether everything compared agrees.
        kept: rows and sums that the loss of the whole batch returned.
    """

    error: float
    agree: bool
    kept: Kept


def compare_gradients(encoder: BatchEncoder, trial: Trial, exact: bool) -> Comparison:
    """Compare the gradient, the loss with its rows and sums, and the buffers afterwards.

    Args:
        encoder: encoder of the method, whose state may be changed.
        trial: the batch to compute.
        exact: whether the split uses the loss of the effective batch; False sums the losses of micro-batches.

    Raises:
        SplitError: the split cannot be computed.
    """
    method, buffers = encoder.method, _buffers(encoder.method)
    whole, kept = _gradient(encoder, trial.batch, len(trial.batch), exact)
    _restore(method, buffers)
    if not whole[0].any():  # an empty queue has no negatives: fill it
        method.after_step(trial.batch.progress, kept)
        buffers = _buffers(method)
        whole, kept = _gradient(encoder, trial.batch, len(trial.batch), exact)
        _restore(method, buffers)
    try:
        split, _ = _gradient(encoder, trial.batch, trial.micro_batch, exact)
    except Exception as error:
        raise SplitError from error
    _restore(method, buffers)
    errors = _errors(split, whole)
    return Comparison(errors[0], all(error <= TOLERANCE for error in errors), kept)


def compare_outputs(encoder: BatchEncoder, trial: Trial) -> Comparison:
    """Compare features, loss, rows and sums without gradients: much cheaper, and the error is 0 or infinite.

    Raises:
        SplitError: the split cannot be computed.
    """
    method, buffers = encoder.method, _buffers(encoder.method)
    whole, kept = _outputs(encoder, trial.batch, len(trial.batch))
    _restore(method, buffers)
    try:
        split, _ = _outputs(encoder, trial.batch, trial.micro_batch)
    except Exception as error:
        raise SplitError from error
    _restore(method, buffers)
    agree = all(error <= TOLERANCE for error in _errors(split, whole))
    return Comparison(0.0 if agree else float("inf"), agree, kept)


def _gradient(encoder: BatchEncoder, batch: EffectiveBatch, micro_batch: int, exact: bool) -> tuple[list[Tensor], Kept]:
    """Return one vector of all gradients, the loss, its rows and sums, and the buffers afterwards; and the Kept."""
    method = encoder.method
    outcome = Window(encoder, micro_batch, exact, Group()).backward(batch)
    gradients = [
        (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
        for parameter in method.parameters()
        if parameter.requires_grad
    ]
    method.zero_grad(set_to_none=True)
    found = [torch.cat(gradients), torch.tensor(outcome.scalars["loss"]), *_kept(outcome.kept), *_buffers(method)]
    return found, outcome.kept


def _outputs(encoder: BatchEncoder, batch: EffectiveBatch, micro_batch: int) -> tuple[list[Tensor], Kept]:
    """Return the features of all volumes, the loss, its rows and sums; and the Kept."""
    parts = [Part(len(batch))[start : start + micro_batch] for start in range(0, len(batch), micro_batch)]
    with torch.no_grad():
        seen = [encoder.features(batch, part) for part in parts]
    encoder.forget()
    joined = join_batches(seen, lambda *several: torch.cat(several))
    losses = Losses(len(batch), len(parts))
    pairs: Sequence[tuple[Part, Batch]] = list(zip(parts, seen, strict=True))
    for part, one in [(Part(len(batch)), joined)] if encoder.method.coupled else pairs:
        with encoder.seeded(Stream.LOSS, batch.step, part):
            losses.add(checked_loss(encoder.method, encoder.method.loss(one), len(part)), len(part))
    features = [one for view in (*joined.online_features, *joined.target_features) for one in tensors(view)]
    kept = losses.kept()
    return [*features, torch.tensor(losses.means()["loss"]), *_kept(kept)], kept


def _kept(kept: Kept) -> list[Tensor]:
    return [*kept.rows.values(), *kept.sums.values()]


def _errors(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    return [_relative(*pair) for pair in zip(found, expected, strict=True)]


def _relative(found: Tensor, expected: Tensor) -> float:
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(LEAST_NORM))


def _buffers(method: AnyMethod) -> list[Tensor]:
    return [buffer.clone() for buffer in method.buffers()]


@torch.no_grad()
def _restore(method: AnyMethod, buffers: Sequence[Tensor]) -> None:
    for buffer, value in zip(method.buffers(), buffers, strict=True):
        buffer.copy_(value)
