"""ssl3d: which self-supervised method to pretrain with on 3D medical volumes, and whether the difference is real.

The entries from Python are :func:`bench`, which runs what the command ``ssl3d bench`` runs and returns the
leaderboard as a pandas DataFrame, :func:`load_encoder`, which returns a pretrained encoder of a run, and
:func:`portable_state`, its tensors for plain torchvision or timm.
Importing this package imports neither torch nor any plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl3d.api import bench, load_encoder, portable_state

__version__ = "0.1.0"
__all__ = ["__version__", "bench", "load_encoder", "portable_state"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name in {"bench", "load_encoder", "portable_state"}:
        return getattr(importlib.import_module("ssl3d.api"), name)
    raise AttributeError(f"module 'ssl3d' has no attribute {name!r}")
