"""Files of weights: found or downloaded, checked against their hash, and read as tensors by name, never as code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ssl3d.backbone import Weights
from ssl3d.errors import WeightsError, quoted

WRAPPERS = ("model_state", "state_dict", "network_weights", "model", "net")  # of a state dict in a checkpoint
FORMS = "a .pth, .pt, .pyth or .safetensors file"


def weights_folder() -> Path:
    """Return the folder of downloaded weights: SSL3D_WEIGHTS, or else torch.hub's."""
    chosen = os.environ.get("SSL3D_WEIGHTS")
    return Path(chosen).expanduser() if chosen else Path(torch.hub.get_dir()) / "checkpoints"


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, unwrapped from ``model_state``, ``state_dict``, ``model`` and the like.

    Raises:
        WeightsError: the file is missing, a folder or damaged, contains no tensors, or would run code.
    """
    require_file(path)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as error:  # on a damaged file the readers raise almost anything
        raise WeightsError(_fault(path, error)) from error
    while isinstance(state, Mapping) and (inner := [state[key] for key in WRAPPERS if _is_mapping(state, key)]):
        state = inner[0]
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name; give a file with a network's state dict")
    return tensors


def local(name: str) -> Path:
    """Return the path of a local file as a user typed it, with ``~`` replaced.

    Raises:
        WeightsError: it begins with ``~`` and a name that no user has.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise WeightsError(f"{quoted(name)}: there is no such user on this machine; write the path in full") from None


def require_file(path: Path) -> None:
    """Raise WeightsError if a path is not a file."""
    # os.path has an answer for any text, whereas pathlib raises if a name is too long.
    if os.path.isdir(path):  # noqa: PTH112
        own = path / "encoder.safetensors"
        raise WeightsError(f"{path} is a folder, not {FORMS}; name {own if own.is_file() else 'a file in it'}")
    if not os.path.isfile(path):  # noqa: PTH113
        raise WeightsError(f"no such weights file: {path}; give the path of {FORMS}")


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed: int) -> str:  # noqa: ARG001  # the last two say whether it is the same file
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file; one that did not change is read once.

    Raises:
        WeightsError: it is missing, a folder, or cannot be read.
    """
    require_file(path)
    try:
        stat = path.stat()
        return _hashed(path.resolve(), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); remove it and fetch it again") from error


def recipe_of(path: Path) -> dict[str, Any]:
    """Return the recipe in plain values that an encoder of ssl3d was made from; {} for any other file."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get("recipe", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def published_file(weights: Weights, variant: str | None) -> Path:
    """Return the file of published weights, downloading it if necessary; its hash is checked.

    Args:
        weights: their address and file name; ``{variant}`` in them is filled in.
        variant: variant of the backbone.

    Raises:
        WeightsError: it cannot be downloaded, or its SHA-256 is not the published one.
    """
    url, path = weights.url.format(variant=variant), published_path(weights, variant)
    if path.is_file():
        check_published(weights, variant, path)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written under another name and moved when complete, so that a broken download leaves nothing behind.
        torch.hub.download_url_to_file(url, str(path), _digits(weights, path.name), progress=False)
    except (OSError, RuntimeError, HTTPException) as error:
        raise WeightsError(f"cannot download {url} ({error}); fetch it by other means and put it at {path}") from error
    return path


def published_path(weights: Weights, variant: str | None) -> Path:
    """Return the path of published weights in the weights folder, where they may not be yet."""
    return weights_folder() / weights.file.format(variant=variant)


def check_published(weights: Weights, variant: str | None, path: Path) -> None:
    """Raise WeightsError if a file is not the published one, as far as its SHA-256 is known."""
    expected = _digits(weights, weights.file.format(variant=variant))
    if expected is None:
        return
    found = file_hash(path)
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 begins with {found[: len(expected)]}, not with {expected}; "
            "remove it and fetch it again, or name a file of your own: --init FILE, or --methods pretrained:FILE"
        )


def _unpickled(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on pickles of an uncommon protocol
        return torch.load(path, "cpu", weights_only=True)


def _is_mapping(state: Mapping[str, Any], key: str) -> bool:
    return isinstance(state.get(key), Mapping)


def _fault(path: Path, error: Exception) -> str:
    """Return what is wrong with a file. The reader's own message would explain how to run the code in it anyway."""
    if isinstance(error, OSError):
        return f"{path} cannot be read ({error.strerror or error}); check its permissions, or fetch it again"
    with path.open("rb") as file:
        pickled = file.read(2).startswith((b"PK", b"\x80"))  # a zip archive, as torch writes them, or a bare pickle
    if isinstance(error, pickle.UnpicklingError) and pickled:
        return (
            f"{path} holds Python objects, and reading them would run code: only tensors are read; save the network's "
            "state_dict() alone, where you trust the file"
        )
    reason = type(error).__name__
    return f"{path} is damaged or holds no weights ({reason}); give {FORMS}, or fetch it again"


def _digits(weights: Weights, name: str) -> str | None:
    """Return the SHA-256 of published weights, or its first digits: torchvision appends those to its file names."""
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return weights.sha256 or (found.group(1) if found else None)
