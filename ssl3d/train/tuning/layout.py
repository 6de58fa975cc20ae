"""Memory layout of a method's weights and compilation of its backbones, in place and reversible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d.backbone import Backbone
from ssl3d.method import AnyMethod

BACKEND: str | Callable[..., Any] = "inductor"
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def in_layout(tensor: Tensor, channels_last: bool) -> Tensor:
    """Return a tensor (B, C, H, W) or (B, C, D, H, W) with channels last in memory, or unchanged."""
    if not channels_last or tensor.ndim not in FORMATS:
        return tensor
    return tensor.contiguous(memory_format=FORMATS[tensor.ndim])


def arrange(method: AnyMethod, channels_last: bool = False, compiled: bool = False) -> None:
    """Lay out and compile a method in place; the default restores its original state.

    Names and values of parameters do not change. All backbones inside are compiled, including a momentum encoder's,
    except one whose batch norm statistics move: the hooks that collect them would be compiled away.

    Args:
        method: method on its device.
        channels_last: store convolution weights with channels last.
        compiled: compile backbones at their next call, once per input shape.
    """
    for parameter in method.parameters():
        plain = parameter.data.contiguous()
        parameter.data = in_layout(plain, channels_last)
    backbones = [part for part in method.modules() if isinstance(part, Backbone)]
    if any(part._compiled_call_impl is not None for part in backbones):
        torch.compiler.reset()  # compiled code is kept per function, shared by all modules, and limited in number
    for part in backbones:
        part._compiled_call_impl = None
        if compiled and compilable(part):
            # The same random numbers as without; and code for each shape, so that a resumed run, which meets the shapes
            # in another order, computes the same.
            options: dict[str, Any] | None = {"fallback_random": True} if BACKEND == "inductor" else None
            part.compile(backend=BACKEND, dynamic=False, options=options)


def compilable(module: nn.Module) -> bool:
    """Return whether a network may be compiled: it has no batch norm whose statistics move."""
    return not any(isinstance(layer, _BatchNorm) and layer.track_running_stats for layer in module.modules())


def compiler_failed(error: BaseException) -> bool:
    """Return whether an error comes from torch.compile."""
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415  # slow to import, and needed only here

    return isinstance(error, TorchDynamoException)


def first_line(error: BaseException) -> str:
    """Return an error message as one line; for a compiler error, its cause."""
    cause = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
