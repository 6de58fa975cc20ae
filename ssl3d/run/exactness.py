"""How exact a cell's accumulation is, in the words that every result carries."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ssl3d.engine import Engine
from ssl3d.method import Method
from ssl3d.results.records import Exactness


def exactness(method: Method, accumulation: str, engine: Engine, batch_size: int) -> Exactness:
    """Return the word for a method that trains.

    Args:
        method: that was trained.
        accumulation: "exact" or "plain".
        engine: how its effective batch was split.
        batch_size: volumes of an effective batch.
    """
    split = engine.processes > 1 or engine.micro_batch < batch_size
    if split and accumulation == "plain" and method.coupled:
        return "plain"
    if split and any(True for _ in _batch_norms(method.backbone)):
        return "exact but for backbone batch norm"
    return "exact"


def random_layers(method: Method) -> list[str]:
    """Return the kinds of layers in the backbone that draw at random.

    Their draws agree between the two passes of a window, and across different splits in distribution only.
    """
    layers = [layer for layer in method.backbone.modules() if _draws(layer)]
    return sorted({type(layer).__name__ for layer in layers})


def _batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Batch norms that normalise by the batch in training (a frozen one stays in evaluation mode)."""
    was = module.training
    module.train()
    yield from [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    module.train(was)


def _draws(layer: nn.Module) -> bool:
    chance = getattr(layer, "p", None) or getattr(layer, "drop_prob", None) or 0.0
    return bool(chance) and (isinstance(layer, _DropoutNd) or "Drop" in type(layer).__name__)
