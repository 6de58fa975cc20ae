"""The memory available to a pretraining, and detection of out-of-memory errors."""

from __future__ import annotations

from pathlib import Path

import torch

CUDA_SHARE = 0.9  # of a GPU's free memory: the rest is for fragmentation and for libraries
CPU_SHARE = 0.5  # of a machine's free memory: it is shared, and a process that uses too much is killed


def budget(device: torch.device) -> int:
    """Return the bytes that a pretraining may use on a device, in addition to its current memory."""
    if device.type != "cuda":
        return int(CPU_SHARE * available())
    torch.cuda.empty_cache()
    return int(CUDA_SHARE * torch.cuda.mem_get_info(device)[0])


def available(root: Path = Path("/")) -> int:
    """Return the machine's free memory in bytes, or what this process's cgroup limit leaves if that is less.

    Args:
        root: root of the file system; overridden in tests.
    """
    fields = _numbers(root / "proc/meminfo", unit=1024)
    return min([fields.get("MemAvailable:", fields.get("MemFree:", 0)), *_left_in_cgroups(root)])


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error is an out-of-memory error; for host memory, torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def release_memory(device: torch.device) -> None:
    """Free the GPU memory that torch has cached."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _left_in_cgroups(root: Path) -> list[int]:
    """Return the bytes left below each limit; memory that only caches files counts as free."""
    left = []
    for folder, limit, usage, cached in _cgroups(root):
        most = _number(folder / limit)
        if most is not None:
            used = (_number(folder / usage) or 0) - _numbers(folder / "memory.stat").get(cached, 0)
            left.append(max(0, most - used))
    return left


def _cgroups(root: Path) -> list[tuple[Path, str, str, str]]:
    """Return the folders of this process's memory cgroups, version 2 or 1, and their file names."""
    listing = root / "proc/self/cgroup"
    found = []
    for line in listing.read_text().splitlines() if listing.is_file() else []:
        _, controllers, path = line.split(":", 2)
        below = path.lstrip("/")
        if not controllers:
            files = ("memory.max", "memory.current", "inactive_file")
            found += [(root / "sys/fs/cgroup" / place, *files) for place in dict.fromkeys((below, ""))]
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += [(root / "sys/fs/cgroup/memory" / place, *files) for place in dict.fromkeys((below, ""))]
    return found


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is no such file, or it says ``max``."""
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None


def _numbers(file: Path, unit: int = 1) -> dict[str, int]:
    """Return the numbers in a file by the word before them, one per line."""
    lines = [line.split() for line in file.read_text().splitlines()] if file.is_file() else []
    return {words[0]: int(words[1]) * unit for words in lines if len(words) > 1 and words[1].isdecimal()}
