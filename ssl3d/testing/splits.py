"""The rule for splits into micro-batches, and what is to blame where they disagree."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d.method import AnyMethod, Features
from ssl3d.testing.blame import place_of, place_of_caller
from ssl3d.testing.kit import COUNT, MethodKit
from ssl3d.testing.runner import require
from ssl3d.train.keyed_draws import KeyedEncoder
from ssl3d.train.window import WindowResult

TOLERANCE = 1e-10  # float64 rounding over sums of a few thousand terms stays below 1e-12
ALONE = range(2, 5)  # volumes that are encoded without their neighbours
SPLITS = (4, 3, 1)  # volumes of a micro-batch; the last one of threes is shorter


def check_splits_agree(kit: MethodKit) -> None:
    """Gradient, loss, rows and sums of an effective batch do not depend on how it is split into micro-batches."""
    expected, grads = _split(kit, COUNT)
    for micro_batch in SPLITS:
        outcome, split = _split(kit, micro_batch)
        where = f"in micro-batches of {micro_batch}"
        require(split.keys() == grads.keys(), f"{where} other parameters get gradients than in one piece")
        error = _relative([split[name] for name in grads], list(grads.values()))
        if not error < TOLERANCE:
            require(False, f"the gradient {where} differs from that of the whole batch by {error:.1g}; {_cause(kit)}")
        for name, value in expected.scalars.items():
            close = math.isclose(value, outcome.scalars[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            sentence = f"{name!r} {where} is {outcome.scalars[name]}, and {value} for the whole batch; {_cause(kit)}"
            require(close, sentence)
        for word, ours, theirs in (
            ("rows", outcome.kept.rows, expected.kept.rows),
            ("sums", outcome.kept.sums, expected.kept.sums),
        ):
            for name, tensor in theirs.items():
                close = torch.allclose(ours[name].double(), tensor.double(), rtol=1e-9, atol=1e-9)
                require(close, f"the {word} {name!r} {where} differ from those of the whole batch; {_cause(kit)}")


def _split(kit: MethodKit, micro_batch: int) -> tuple[WindowResult, dict[str, Tensor]]:
    method = copy.deepcopy(kit.training.method)
    outcome = kit.backward(method, micro_batch, encoder=KeyedEncoder)
    return outcome, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def _relative(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    one, other = torch.cat([g.flatten() for g in ours]), torch.cat([g.flatten() for g in theirs])
    return float((one - other).norm() / other.norm())


def _cause(kit: MethodKit) -> str:
    """Say which function lets volumes touch each other, and what to do."""
    method = copy.deepcopy(kit.training.method)
    with torch.no_grad():
        with _batch_norms(kit, method) as norms:
            whole = kit.seen(method, encoder=KeyedEncoder)
        part = kit.seen(method, ALONE, encoder=KeyedEncoder)
    for function, ours, theirs in (
        ("online", whole.online_features, part.online_features),
        ("target", whole.target_features, part.target_features),
    ):
        if not all(_same_rows(*pair) for pair in zip(ours, theirs, strict=True)):
            named = f" (batch norm {norms[0][0]!r})" if norms else ""
            place = norms[0][1] if norms else place_of(kit.kind, function)
            return (
                f"in {function} a volume's features depend on the other volumes of its micro-batch{named}{place}: move "
                "what mixes volumes into loss, which sees the whole effective batch"
            )
    place = place_of(kit.kind, "loss")
    if not kit.kind.coupled:
        return (
            f"coupled = False promises a loss that is a mean over volumes, or over Loss.weight things{place}: leave it "
            "out if volumes touch each other in loss, or state the weight"
        )
    return f"make loss a function of the batch alone{place}"


def _same_rows(whole: Features, part: Features) -> bool:
    ours = {"": whole} if isinstance(whole, Tensor) else whole
    theirs = {"": part} if isinstance(part, Tensor) else part
    rows = slice(ALONE.start, ALONE.stop)
    return all(torch.allclose(ours[name][rows], row, rtol=1e-9, atol=1e-12) for name, row in theirs.items())


@contextmanager
def _batch_norms(kit: MethodKit, method: AnyMethod) -> Iterator[list[tuple[str, str]]]:
    """Yield a list that gets name and caller of each batch norm that mixes volumes inside the block."""
    found: list[tuple[str, str]] = []

    def hook(name: str, layer: nn.Module) -> None:
        if layer.training:
            found.append((name, place_of_caller(kit.kind)))

    layers = [(name, layer) for name, layer in method.named_modules() if isinstance(layer, _BatchNorm)]
    handles = [layer.register_forward_hook(lambda *_, n=name, m=layer: hook(n, m)) for name, layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
