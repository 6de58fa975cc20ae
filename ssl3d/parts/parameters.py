"""Parameters in groups that share optimiser settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share optimiser settings.

    Attributes:
        parameters: trainable parameters; each belongs to exactly one group.
        lr: factor of the learning rate.
        weight_decay: factor of the weight decay; 0 turns it off, and under LARS also the adaptation.
        frozen_until: fraction of the training during which the parameters stay fixed.
    """

    parameters: Sequence[nn.Parameter]
    lr: float = 1.0
    weight_decay: float = 1.0
    frozen_until: float = 0.0


def split_by_decay(
    module: nn.Module, keep: Callable[[str], bool] = lambda _: True
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split trainable parameters into those with and without weight decay.

    Biases and norm weights are recognised by having one dimension, class tokens, mask tokens and position embeddings by
    their names.

    Args:
        module: module whose parameters are split.
        keep: returns for a parameter's name whether to include it.
    """
    decay: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and keep(name):
            small = parameter.ndim <= 1 or any(word in name for word in ("pos_embed", "cls_token", "mask_token"))
            (exempt if small else decay).append(parameter)
    return decay, exempt
