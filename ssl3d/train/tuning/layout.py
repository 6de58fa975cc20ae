"""How a method's weights lie in memory, and whether its backbones are compiled: changed in place, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d.backbone import Backbone
from ssl3d.method import Method

BACKEND: str | Callable[..., Any] = "inductor"
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def in_layout(tensor: Tensor, channels_last: bool) -> Tensor:
    """Return a tensor (B, C, H, W) or (B, C, D, H, W) with channels last in memory, or as it is."""
    if not channels_last or tensor.ndim not in FORMATS:
        return tensor
    return tensor.contiguous(memory_format=FORMATS[tensor.ndim])


def arrange(method: Method, channels_last: bool = False, compiled: bool = False) -> None:
    """Lay out and compile a method as asked, in place; by default, put it back to how it was built.

    Names and values of parameters stay. Every backbone inside is compiled, the momentum encoder's too; one with batch
    norm that moves is not: the hooks that gather its statistics would be compiled away.

    Args:
        method: on its device.
        channels_last: weights of convolutions lie with channels last.
        compiled: backbones are compiled when they are next called, once for each shape of their input.
    """
    for parameter in method.parameters():
        plain = parameter.data.contiguous()
        parameter.data = in_layout(plain, channels_last)
    backbones = [part for part in method.modules() if isinstance(part, Backbone)]
    if any(part._compiled_call_impl is not None for part in backbones):
        torch.compiler.reset()  # compiled code is kept by function, and shared by all modules: only so much is
    for part in backbones:
        part._compiled_call_impl = None
        if compiled and compilable(part):
            # The same random numbers as without; and no shape changes the code of another, so that a resumed run,
            # which meets them in another order, has the same.
            options: dict[str, Any] | None = {"fallback_random": True} if BACKEND == "inductor" else None
            part.compile(backend=BACKEND, dynamic=False, options=options)


def compilable(module: nn.Module) -> bool:
    """Whether a network may be compiled: it has no batch norm whose statistics move."""
    return not any(isinstance(layer, _BatchNorm) and layer.track_running_stats for layer in module.modules())


def compiler_failed(error: BaseException) -> bool:
    """Whether an error is torch.compile's."""
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415  # slow to import, and needed only here

    return isinstance(error, TorchDynamoException)


def first_line(error: BaseException) -> str:
    """Return what went wrong, in one line; of an error of the compiler, its cause."""
    cause = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
