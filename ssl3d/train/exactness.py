"""How exact the accumulation of a method on its backbone is, measured before training.

A copy of the method computes small effective batches in float64, each whole and split into micro-batches, as in the
middle of the training, near its start and near its end. Accumulation is called exact only if the gradients, and the
rows and sums of the loss, agree. Near start and end, features and loss are compared, and the gradient is computed only
if these differ: a gradient does not depend on the split unless a volume's features do.

Random draws (dropout, stochastic depth, noise) differ between splits, so gradients agree in distribution only. The
measurement is then repeated with the same draws for each volume, and "exact up to random layers" means that it agrees
with them. A draw shared by a whole micro-batch, or whose first axis does not count its volumes, cannot be repeated in
this way: accumulation is then called not exact.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.compare_splits import Comparison, SplitError, Trial, compare_gradients, compare_outputs
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.keyed_draws import KeyedEncoder
from ssl3d.train.toy import RandomSource

Word = Literal["exact", "exact up to random layers", "not exact", "plain"]
Size = tuple[int, int, int]

MIDDLE = Trial(EffectiveBatch(range(3), 1, 0.5), 2)  # as two and one: several volumes, a single one, a short part
START = Trial(EffectiveBatch(range(5), 2, 0.02), 3)
END = Trial(EffectiveBatch(range(5), 3, 0.95), 4)  # in micro-batches of the run where these are smaller
UNKNOWN = 1.0  # error of a split gradient that is not finite, or cannot be computed


@dataclass(frozen=True)
class Measured:
    """The result of a measurement.

    Attributes:
        exactness: verdict in words.
        error: error of the accumulated gradient relative to the whole batch's; None if the batch is not split.
    """

    exactness: Word
    error: float | None


def measure(method: AnyMethod, recipe: EncoderRecipe, engine: Engine, batch_size: int) -> Measured:
    """Measure how exact the accumulation of a method is, on the smallest view that it accepts.

    Args:
        method: method to train, on its backbone; neither it nor the global generators are changed.
        recipe: recipe of the encoder.
        engine: how an effective batch is split.
        batch_size: number of volumes in an effective batch.

    Raises:
        PluginError: the method violates its contract.
    """
    if engine.processes == 1 and engine.micro_batch >= batch_size:
        return Measured("exact", None)
    plain = (recipe.pretrain or PretrainRecipe()).accumulation == "plain"
    end = replace(END, micro_batch=min(END.micro_batch, engine.micro_batch))
    for size in small_views(method, recipe.view_size):
        try:
            return _measured_on(lambda size=size: _rebuilt(method, size), size, plain, end)  # type: ignore[misc]
        except Exception:  # noqa: S112  # plugins raise anything on a view that is too small for them
            continue
    try:
        return _measured_on(lambda: copy.deepcopy(method), recipe.view_size, plain, end)
    except SplitError:
        return Measured("plain" if plain and method.coupled else "not exact", UNKNOWN)


def small_views(method: AnyMethod, view_size: Size) -> list[Size]:
    """Return sizes to try below ``view_size``, smallest first.

    Networks often accept less than they declare; a method may need more, such as several places of the coarsest map.
    """
    backbone = method.backbone
    sizes = []
    for factor in (0.5, 1, 2):
        least = [
            max(int(floor * factor), 2 * patch)
            for floor, patch in zip(backbone.min_size, backbone.patch_size, strict=True)
        ]
        depth, height, width = (min(pair) for pair in zip(view_size, least, strict=True))
        sizes.append((depth, height, width))
    return [size for size in dict.fromkeys(sizes) if size != view_size]


def _measured_on(build: Callable[[], AnyMethod], size: Size, plain: bool, end: Trial) -> Measured:
    """Measure on views of one size, with methods built for this purpose."""
    method = build().double().train()
    encoder = BatchEncoder(method, RandomSource(size, method.task), drew=False)
    if plain and method.coupled:
        return Measured("plain", _error(compare_gradients(encoder, MIDDLE, exact=False)))
    found = _compare(encoder, end)
    if not encoder.drew:
        return Measured("exact" if found.agree else "not exact", _error(found))
    method = build().double().train()
    found = _compare(KeyedEncoder(method, RandomSource(size, method.task)), end)
    return Measured("exact up to random layers" if found.agree else "not exact", _error(found))


def _compare(encoder: BatchEncoder, end: Trial) -> Comparison:
    """Compare in the middle, near the start and near the end; stop at the first that does not agree."""
    found = compare_gradients(encoder, MIDDLE, exact=True)
    for trial in (START, end):
        if not found.agree:
            break
        encoder.method.after_step(trial.batch.progress, found.kept)  # anything that depends on progress changes here
        outputs = compare_outputs(encoder, trial)
        if outputs.agree:
            found = replace(found, kept=outputs.kept)
        else:
            found = replace(compare_gradients(encoder, trial, exact=True), agree=False)
    return found


def _error(found: Comparison) -> float:
    return found.error if math.isfinite(found.error) else UNKNOWN


def _rebuilt(method: AnyMethod, size: Size) -> AnyMethod:
    """Return a method with the same settings around a copy of the backbone, with views of another size."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        rebuilt = type(method)(
            copy.deepcopy(method.backbone), method.config, method.augment.replace(size=size), method.task, method.budget
        )
    return rebuilt.to(next(method.parameters()).device)
