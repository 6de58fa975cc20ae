"""A trial: the timed and measured forward and backward pass of a method over some volumes with one engine.

A trial runs on random volumes and on a copy of the method, which it does not change.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod, Batch
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.join import map_batch, tensors
from ssl3d.train.toy import RandomSource
from ssl3d.train.tuning.layout import arrange
from ssl3d.train.tuning.memory import release_memory

ENOUGH_SECONDS, FEWEST, MOST_SECONDS = 0.5, 3, 10.0  # of timed passes: fewer if one takes long
BACKWARD_FACTOR = 2  # peak memory of a pass on a CPU, where it cannot be measured, as a multiple of its activations


@dataclass(frozen=True)
class Measured:
    """The measurements of a trial.

    Attributes:
        seconds: per volume, of the fastest pass.
        peak: maximum bytes besides weights: activations, gradients, work space.
        held: bytes of activations kept for the backward pass.
        gradient: gradient of the backbone's parameters, flat, float32.
    """

    seconds: float
    peak: int
    held: int
    gradient: Tensor


@dataclass
class Trial:
    """Trials of one method on one device.

    Attributes:
        method: copied for each trial, on its device.
        size: of a view, (D, H, W).
    """

    method: AnyMethod
    size: tuple[int, int, int]
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        """Store the device."""
        self.device = next(self.method.parameters()).device

    def of(self, engine: Engine) -> Measured:
        """Encode and differentiate one micro-batch as an engine says.

        Raises:
            RuntimeError: memory ran out (torch.OutOfMemoryError), or torch.compile failed.
        """
        with self._twin(engine) as twin:
            run = _Pass(self._encoder(twin, engine), engine.micro_batch)
            # Measuring hooks would also be compiled; the split is chosen uncompiled.
            held, peak = (0, 0) if engine.compile else self._memory(run)
            if engine.compile:
                run()
                run()  # once more, for lazy initialisation
            seconds = self._seconds(run) / engine.micro_batch
            return Measured(seconds, peak, held, _gradient(twin.backbone))

    def heads(self, engine: Engine, count: int) -> int:
        """Return the bytes that a coupled loss on ``count`` volumes needs, forward and backward."""
        with self._twin(engine) as twin:
            with torch.no_grad():
                one = _Pass(self._encoder(twin, engine), 1).features()
            drawn = torch.Generator().manual_seed(0)
            many = map_batch(lambda row: _repeated(row, count, drawn), one)
            for leaf in _online(many):
                leaf.requires_grad_(leaf.is_floating_point())
            before = self._allocated()
            with (saved := _Saved(twin)):
                loss = twin.loss(many).value
            loss.backward()  # type: ignore[no-untyped-call]
            return self._peak(before, saved.bytes)

    def _encoder(self, twin: AnyMethod, engine: Engine) -> BatchEncoder:
        source = RandomSource(self.size, twin.task)
        return BatchEncoder(twin, source, 0, autocast(self.device, engine.precision), engine.channels_last)

    @contextmanager
    def _twin(self, engine: Engine) -> Iterator[AnyMethod]:
        """Provide a copy of the method, laid out as the engine says; free its memory at the end."""
        twin = copy.deepcopy(self.method).train()
        try:
            twin.zero_grad(set_to_none=True)
            if engine.precision == "64-true":
                twin.double()
            arrange(twin, engine.channels_last, engine.compile)
            yield twin
        finally:
            arrange(twin)
            release_memory(self.device)

    def _memory(self, run: _Pass) -> tuple[int, int]:
        """Run a first pass; return the bytes kept for its backward pass, and the peak bytes."""
        before = self._allocated()
        with (saved := _Saved(run.encoder.method)):
            seen = run.features()
        run.backward(seen)
        gradients = sum(p.numel() * p.element_size() for p in run.encoder.method.parameters() if p.grad is not None)
        return saved.bytes, self._peak(before, saved.bytes) + (0 if self.device.type == "cuda" else gradients)

    def _allocated(self) -> int:
        if self.device.type != "cuda":
            return 0
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def _peak(self, before: int, held: int) -> int:
        if self.device.type != "cuda":
            return BACKWARD_FACTOR * held
        return torch.cuda.max_memory_allocated(self.device) - before

    def _seconds(self, run: Callable[[], None]) -> float:
        """Return the time of the fastest of a few passes."""
        times: list[float] = []
        while sum(times) < ENOUGH_SECONDS or (len(times) < FEWEST and sum(times) < MOST_SECONDS):
            self._wait()
            started = time.perf_counter()
            run()
            self._wait()
            times.append(time.perf_counter() - started)
        return min(times)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Saved(torch.autograd.graph.saved_tensors_hooks):
    """A counter of the bytes that forward passes inside save for their backward passes, except weights."""

    def __init__(self, method: AnyMethod) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in method.parameters()}
        self._sizes: dict[int, int] = {}

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._weights:
            self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        """Bytes saved so far."""
        return sum(self._sizes.values())


class _Pass:
    """A repeatable forward and backward pass of a method over the same volumes."""

    def __init__(self, encoder: BatchEncoder, count: int) -> None:
        self.encoder = encoder
        self.part = range(count)
        self.batch = EffectiveBatch(self.part, 0)
        self.views = encoder.views(self.batch, self.part)

    def __call__(self) -> None:
        self.encoder.method.zero_grad(set_to_none=True)
        self.backward(self.features())

    def features(self) -> Batch:
        return self.encoder.features_of(self.batch, self.part, self.views)

    def backward(self, seen: Batch) -> None:
        """Differentiate the loss; for a coupled loss, computed elsewhere, pull the features in random directions."""
        if not self.encoder.method.coupled:
            self.encoder.method.loss(seen).value.backward()  # type: ignore[no-untyped-call]
            return
        drawn = torch.Generator().manual_seed(0)
        features = [one for one in _online(seen) if one.requires_grad]
        if features:  # none of a frozen backbone
            torch.autograd.backward(features, [_noise(tuple(one.shape), one, drawn) for one in features])


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    """Return the autocast context of a precision."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in kinds:
        return nullcontext
    return partial(torch.autocast, device.type, kinds[precision])


def _online(seen: Batch) -> list[Tensor]:
    return [tensor for features in seen.online_features for tensor in tensors(features)]


def _repeated(row: Tensor, count: int, drawn: torch.Generator) -> Tensor:
    """Return ``count`` rows like the first: noise for numbers, the same indices, labels and masks."""
    shape = (count, *row.shape[1:])
    return _noise(shape, row, drawn) if row.is_floating_point() else row[:1].expand(shape).clone()


def _noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).to(like)


def _gradient(module: nn.Module) -> Tensor:
    gradients = [p.grad.float().flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat(gradients) if gradients else torch.zeros(0)
