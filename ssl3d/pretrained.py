"""Loading of published weights into a backbone: found, checked, reduced to one channel, and counted."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl3d import registry
from ssl3d.backbone import Backbone, Weights
from ssl3d.errors import PluginError, WeightsError

SHARE_NEEDED = 0.95


def load_weights(backbone: Backbone, name: str, file: Path | None = None) -> str:
    """Load pretrained weights by name, from ``file``, the weights folder, or the internet, in this order.

    Args:
        backbone: network to load them into.
        name: one of ``backbone.weights``, "kinetics400".
        file: a local file (.pth, .pyth, .pt, .safetensors) to use instead of the published one.

    Returns:
        One line on what was loaded: "kinetics400: matched 102 of 102 tensors (100%) of r3d_18-b3b3357e.pth".

    Raises:
        WeightsError: the name is unknown; the file is missing, cannot be downloaded or read, holds less than 95% of the
            network's tensors, or holds batch norm statistics that the network has no place for.
    """
    if name not in backbone.weights:
        raise WeightsError(f"{backbone.card.name} has no weights {name!r}; these exist: {_offers()}")
    path = published_file(backbone.weights[name], backbone.variant) if file is None else file.expanduser()
    state = read_state(path)
    norm = backbone.config.norm
    if norm in {"auto", "group"} and any(key.endswith("running_mean") for key in state):
        raise WeightsError(
            f"the weights in {path} were trained with batch norm, and norm = {norm} would drop its statistics; "
            "set the backbone's norm to frozen or batch"
        )
    matched, expected = backbone.load_pretrained(state)
    share = f"matched {matched} of {expected} tensors ({matched / expected:.0%})"
    if matched < SHARE_NEEDED * expected:
        raise WeightsError(
            f"{share} of {backbone.card.name} in {path}, and {SHARE_NEEDED:.0%} are needed: this file is of another "
            "network; give the one published for this backbone"
        )
    return f"{name}: {share} of {path.name}"


def weights_folder() -> Path:
    """Return the folder of downloaded weights: SSL3D_WEIGHTS, or else torch.hub's."""
    chosen = os.environ.get("SSL3D_WEIGHTS")
    return Path(chosen).expanduser() if chosen else Path(torch.hub.get_dir()) / "checkpoints"


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, unwrapped from ``model_state``, ``state_dict`` or ``model``.

    Raises:
        WeightsError: the file is missing or damaged, or contains no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"no such weights file: {path}; give the path of a .pth, .pyth or .safetensors file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # on a damaged file the readers raise almost anything
        # The reader's message is left out: for a pickled object it explains how to load it anyway.
        reason = type(error).__name__
        raise WeightsError(f"{path} is damaged or holds no weights ({reason}); remove it and fetch it again") from error
    for wrapper in ("model_state", "state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {key: value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name; give a file with a network's state dict")
    return tensors


@torch.no_grad()
def load_matching(network: nn.Module, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Copy every tensor whose name and shape match; stem kernels with three channels are summed to one.

    On a grey volume, the summed kernel gives what the original gives on that volume repeated three times. Batch
    counters are ignored and not counted.

    Returns:
        (matched, expected) tensors of the network.
    """
    own = {key: tensor for key, tensor in network.state_dict().items() if tensor.is_floating_point()}
    matched = 0
    for key, tensor in own.items():
        given = state.get(key)
        if given is not None and given.ndim > 2 and given.shape[1] == 3 and tensor.shape[1] == 1:
            given = given.sum(dim=1, keepdim=True)
        if given is not None and given.shape == tensor.shape:
            tensor.copy_(given)
            matched += 1
    return matched, len(own)


def published_file(weights: Weights, variant: str | None) -> Path:
    """Return the file of published weights, downloading it if necessary; its hash is checked.

    Args:
        weights: their address and file name; ``{variant}`` in them is filled in.
        variant: variant of the backbone.

    Raises:
        WeightsError: it cannot be downloaded, or its SHA-256 is not the published one.
    """
    url, name = (text.format(variant=variant) for text in (weights.url, weights.file))
    path = weights_folder() / name
    expected = _digits(weights, name)
    if path.is_file():
        check_published(weights, variant, path)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written under another name and moved when complete, so that a broken download leaves nothing behind.
        torch.hub.download_url_to_file(url, str(path), expected, progress=False)
    except (OSError, RuntimeError, HTTPException) as error:
        raise WeightsError(f"cannot download {url} ({error}); fetch it by other means and put it at {path}") from error
    return path


def check_published(weights: Weights, variant: str | None, path: Path) -> None:
    """Raise WeightsError if a file is not the published one, as far as its SHA-256 is known."""
    expected = _digits(weights, weights.file.format(variant=variant))
    if expected is None:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); remove it and fetch it again") from error
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 begins with {found[: len(expected)]}, not with {expected}; "
            "remove it and fetch it again, or name a file of your own with --weights"
        )


def _digits(weights: Weights, name: str) -> str | None:
    """Return the SHA-256 of published weights, or its first digits: torchvision appends those to its file names."""
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return weights.sha256 or (found.group(1) if found else None)


def _offers() -> str:
    """Return every registered backbone that has weights, with their names; skip those that fail to import."""
    found = []
    for name in registry.plugins("backbones"):
        with suppress(PluginError):
            weights = getattr(registry.load("backbones", name), "weights", {})
            if weights:
                found.append(f"{name} ({', '.join(weights)})")
    return ", ".join(found) or "none"
