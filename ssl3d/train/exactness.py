"""How exact the accumulation of a method on its backbone is: measured before training, not inferred from its modules.

A toy effective batch of three volumes is computed whole, and split into micro-batches of two and one, in float64, by a
copy of the method. Only where the gradients agree, and what the loss hands on, is the accumulation called exact.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod, Kept
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.processes import Group
from ssl3d.train.toy import RandomSource
from ssl3d.train.window import Window

Word = Literal["exact", "exact up to random layers", "not exact", "plain"]
Size = tuple[int, int, int]

VOLUMES, MICRO_BATCH = 3, 2  # as two and one: several volumes, a single one, and a short part
TOLERANCE = 1e-9  # relative, in float64: a gradient that is split exactly agrees to about 1e-14
UNKNOWN = 1.0  # error of a split gradient that is not finite, or cannot be computed
LEAST_NORM = 1e-12  # what is smaller is compared absolutely
STEP, PROGRESS = 1, 0.5  # of the toy batch: past a warm-up, and before nothing moves any more


@dataclass(frozen=True)
class Measured:
    """The result of a measurement.

    Attributes:
        exactness: in words.
        error: of the accumulated gradient, relative to that of the whole batch; None if the batch is not split.
    """

    exactness: Word
    error: float | None


def measure(method: AnyMethod, recipe: EncoderRecipe, engine: Engine, batch_size: int) -> Measured:
    """Measure how exact the accumulation of a method is, on the smallest view that it takes.

    Layers that draw at random give other draws to other micro-batches, so that gradients agree in distribution only:
    then the measurement is repeated with dropout and stochastic depth switched off.

    Args:
        method: to be trained, on its backbone; left as it is, and so are the global generators.
        recipe: of the encoder.
        engine: how an effective batch is split.
        batch_size: volumes of an effective batch.

    Raises:
        PluginError: the method does not keep to its contract.
    """
    if engine.processes == 1 and engine.micro_batch >= batch_size:
        return Measured("exact", None)
    plain = (recipe.pretrain or PretrainRecipe()).accumulation == "plain"
    for size in small_views(method, recipe.view_size):
        try:
            return _measured_on(method, size, plain, last=False)
        except Exception:  # noqa: S112  # plugins raise anything on a view that is too small for them
            continue
    return _measured_on(method, recipe.view_size, plain, last=True)


def small_views(method: AnyMethod, view_size: Size) -> list[Size]:
    """Return sizes to try, smallest first, below ``view_size``; networks often take less than they ask for."""
    backbone = method.backbone
    sizes = []
    for share in (2, 1):
        least = [
            max(floor // share, 2 * patch) for floor, patch in zip(backbone.min_size, backbone.patch_size, strict=True)
        ]
        depth, height, width = (min(pair) for pair in zip(view_size, least, strict=True))
        sizes.append((depth, height, width))
    return [size for size in dict.fromkeys(sizes) if size != view_size]


def _measured_on(method: AnyMethod, size: Size, plain: bool, last: bool) -> Measured:
    found = _compare(method, size, not plain, nullcontext, last)
    if plain and method.coupled:
        return Measured("plain", found.error)
    if not found.drew:
        return Measured("exact" if found.agree else "not exact", found.error)
    still = _compare(method, size, not plain, _WithoutDropout, last)
    return Measured("exact up to random layers", still.error) if still.agree else Measured("not exact", found.error)


@dataclass(frozen=True)
class _Comparison:
    """Split against whole: relative error of the gradient, whether everything agrees, whether numbers were drawn."""

    gradient: float
    agree: bool
    drew: bool

    @property
    def error(self) -> float:
        return self.gradient if math.isfinite(self.gradient) else UNKNOWN


def _compare(
    method: AnyMethod, size: Size, exact: bool, inside: Callable[[], AbstractContextManager[object]], last: bool
) -> _Comparison:
    """Compute one toy batch whole and split, inside a context; a split that cannot be computed does not agree."""
    twin = (copy.deepcopy(method) if last else _rebuilt(method, size)).double().train()
    encoder = BatchEncoder(twin, RandomSource(size, method.task), drew=False)
    windows = [Window(encoder, micro_batch, exact, Group()) for micro_batch in (VOLUMES, MICRO_BATCH)]
    with inside():
        buffers = [buffer.clone() for buffer in twin.buffers()]
        whole, kept = _computed(windows[0])
        _restore(twin, buffers)
        if not whole[0].any():  # an empty queue has no negatives: fill it
            twin.after_step(PROGRESS, kept)
            buffers = [buffer.clone() for buffer in twin.buffers()]
            whole, _ = _computed(windows[0])
            _restore(twin, buffers)
        try:
            split, _ = _computed(windows[1])
        except Exception:
            if not last:
                raise
            return _Comparison(math.inf, False, bool(encoder.drew))  # batch norm refuses a single value, say
    errors = [_relative(*pair) for pair in zip(split, whole, strict=True)]
    return _Comparison(errors[0], all(error <= TOLERANCE for error in errors), bool(encoder.drew))


@torch.no_grad()
def _restore(method: AnyMethod, buffers: Sequence[Tensor]) -> None:
    for buffer, value in zip(method.buffers(), buffers, strict=True):
        buffer.copy_(value)


def _rebuilt(method: AnyMethod, size: Size) -> AnyMethod:
    """Return a method of the same settings around a copy of the backbone, whose views have another size."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        rebuilt = type(method)(
            copy.deepcopy(method.backbone), method.config, method.augment.replace(size=size), method.task
        )
    return rebuilt.to(next(method.parameters()).device)


def _computed(window: Window) -> tuple[list[Tensor], Kept]:
    """Return all gradients as one vector, the loss, what it hands on, and the buffers afterwards; and what it kept."""
    method = window.encoder.method
    outcome = window.backward(EffectiveBatch(range(VOLUMES), STEP, PROGRESS))
    gradients = [
        (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
        for parameter in method.parameters()
        if parameter.requires_grad
    ]
    method.zero_grad(set_to_none=True)
    kept = [*outcome.kept.rows.values(), *outcome.kept.sums.values()]
    buffers = [buffer.clone() for buffer in method.buffers()]
    return [torch.cat(gradients), torch.tensor([outcome.scalars["loss"]]), *kept, *buffers], outcome.kept


def _relative(found: Tensor, expected: Tensor) -> float:
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(LEAST_NORM))


class _WithoutDropout(TorchFunctionMode):
    """Turns dropout and stochastic depth off inside, in layers and in functions: what they would drop stays."""

    _DROPOUT = frozenset(
        {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
    )

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the input of dropout, ones in place of draws that decide what is dropped, and all else as it is."""
        named = dict(kwargs or {})
        if func in self._DROPOUT:
            return args[0] if args else named["input"]
        if func is Tensor.bernoulli_:
            return args[0].fill_(1.0)
        if func is F.scaled_dot_product_attention:
            args, named = (*args[:4], *([0.0] if len(args) > 4 else []), *args[5:]), {**named}
            named.update({"dropout_p": 0.0} if "dropout_p" in named else {})
        return func(*args, **named)
