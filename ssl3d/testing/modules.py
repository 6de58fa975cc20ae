"""Demands that hold for any network, method or backbone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssl3d.testing.runner import require

ROUNDING = 1e-13  # of the largest gradient; what is left in float64 where mathematics says zero


class RoundedConvolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes bf16 convolutions inside in float32 and rounds, as hardware for bf16 does; backward passes included.

    A CPU without such hardware takes tens of times longer, and oneDNN's kernels (in torch 2.15) give NaN as the weight
    gradient of a bf16 convolution (3, 1, 1) over two slices, which is not a plugin's fault.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what an operation returns."""
        convolution = func in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
        if not convolution or args[0].dtype != torch.bfloat16:
            return func(*args, **(kwargs or {}))
        with torch.no_grad():
            found = func(*(_as(torch.float32, value) for value in args), **(kwargs or {}))
        if isinstance(found, tuple):
            return tuple(_as(torch.bfloat16, value) for value in found)
        return _as(torch.bfloat16, found)


def _as(dtype: torch.dtype, value: Any) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) else value


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute inside on one thread: on tiny tensors more are slower, and much slower where other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def bfloat16() -> torch.autocast:
    """Autocast to bf16 on the CPU."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


def demand_same_state(first: nn.Module, second: nn.Module) -> None:
    """Demand equal state dicts."""
    other = second.state_dict()
    differ = [name for name, value in first.state_dict().items() if not torch.equal(value, other[name])]
    require(
        not differ,
        f"built twice from one seed, {', '.join(differ[:3])} differ; draw initial weights from torch's generator",
    )


def demand_single_registration(module: nn.Module) -> None:
    """Demand that no parameter has two names: state dicts would hold it twice, and load it twice."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    for several in names.values():
        require(len(several) == 1, f"one parameter is registered as {' and as '.join(several)}; keep one")


def demand_finite_gradients(module: nn.Module, where: str) -> None:
    """Demand that every gradient that there is is finite."""
    for name, parameter in module.named_parameters():
        finite = parameter.grad is None or parameter.grad.isfinite().all()
        require(finite, f"{where} the gradient of {name} is not finite; look for a division by zero or an overflow")


def note_gradients(module: nn.Module, gradients: dict[str, float]) -> None:
    """Raise the noted size of each parameter's gradient to that of the present one, where there is one."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            gradients[name] = max(gradients.get(name, 0.0), float(parameter.grad.abs().max()))


def demand_gradients(trainable: Collection[str], gradients: Mapping[str, float]) -> None:
    """Demand a gradient for each trainable parameter.

    A bias that feeds a batch norm shifts what the norm then centres: its gradient is zero in mathematics and rounding
    in arithmetic, 1e-20 rather than 0. It passes: it is reached, and published networks have such biases. A
    parameter that is not reached has no gradient at all, or one that is zero to the last bit.

    Args:
        trainable: names.
        gradients: largest size of an element of each gradient, in float64, over several steps.
    """
    for name in sorted(trainable):
        require(name in gradients, f"{name} requires a gradient and never gets one; use it in the loss or leave it out")
        size = gradients[name]
        require(math.isfinite(size), f"{name} gets gradients that are not finite")
        require(size > 0, f"{name} gets gradients that are zero in every step; look for a detach() or a factor of 0")
        reached = size > ROUNDING * max(gradients.values()) or name.endswith("bias")
        require(reached, f"{name} gets gradients of {size:.1g}, mere rounding; look for a detach() or what cancels it")
