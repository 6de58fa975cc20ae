"""Opening a device with its precision through Lightning Fabric."""

from __future__ import annotations

import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from lightning_fabric import Fabric

from ssl3d.data.corpus import Corpus
from ssl3d.data.store import Store
from ssl3d.errors import RecipeError

S = TypeVar("S", Store, Corpus)


def open_device(device: str, precision: str) -> Fabric:
    """Return a Fabric on one device.

    Args:
        device: "auto" (a GPU if available), "cpu", "cuda" or "cuda:1".
        precision: "32-true", "bf16-mixed", "16-mixed" or "64-true"; "auto" is "32-true" until a trial decides.

    Raises:
        RecipeError: this machine has no such device, or the device does not support the precision.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", device)
    if not match or (match[2] and match[1] != "cuda"):
        raise RecipeError(f"unknown device {device!r}; known: auto, cpu, cuda, cuda:N")
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if match[1] == "auto" else match[1]
    if kind == "cuda" and torch.cuda.device_count() <= int(match[2] or 0):
        raise RecipeError(f"device {device!r} does not exist: torch sees {torch.cuda.device_count()} CUDA devices")
    if precision == "16-mixed" and kind == "cpu":
        raise RecipeError("precision '16-mixed' needs a GPU; on a CPU use 'bf16-mixed' or '32-true'")
    with expected_warnings():
        return Fabric(
            accelerator=kind,
            devices=[int(match[2])] if match[2] else 1,
            precision="32-true" if precision == "auto" else precision,  # type: ignore[arg-type]  # a string that the recipe has checked
        )


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Ignore what Fabric warns of, and is intended: GPUs that are not used, and Slurm where the run is not under it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The .*GPU available but not used", UserWarning)
        warnings.filterwarnings("ignore", "The `srun` command is available", UserWarning)
        yield


def placed(source: S, device: torch.device) -> S:
    """Return volumes held on the device if they take at most a quarter of its memory, or unchanged otherwise.

    Both give the same batches; volumes that are not held are copied to the device batch by batch.
    """
    stores = source.stores if isinstance(source, Corpus) else (source,)
    size = sum({store.folder: store.manifest.size for store in stores}.values())
    if device.type != "cuda" or size > torch.cuda.get_device_properties(device).total_memory / 4:
        return source
    return source.resident(device)


def device_name(device: torch.device) -> str:
    """Return the hardware's name, for the price column."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model} ({torch.get_num_threads()} threads)"
