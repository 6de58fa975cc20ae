"""Loading of pretrained weights into a backbone: names adapted, tensors counted, and less than all of them refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from ssl3d import registry
from ssl3d.backbone import Backbone
from ssl3d.errors import PluginError, WeightsError
from ssl3d.matching import Match, load_matching
from ssl3d.weights.files import published_file, read_state, recipe_of, weights_folder

__all__ = ["load_matching", "load_weights", "read_state", "weights_folder"]

# Modules around a network in published checkpoints. Where names begin with some of them, these are left out.
AROUND = frozenset({"module", "model", "backbone", "encoder", "net", "network", "base_encoder"})
OTHER_NETWORK = 0.5  # with a smaller share, a file is said to be of another network
LISTED = 3
PARTIAL = ", partial: without"  # in the line on a load that left tensors out


def load_weights(
    backbone: Backbone,
    name: str | None,
    file: Path | None = None,
    *,
    allow_partial: bool = False,
    prefix: str | None = None,
) -> str:
    """Load pretrained weights by name, from ``file``, the weights folder, or the internet, in this order.

    Args:
        backbone: network to load them into.
        name: one of ``backbone.weights``, "kinetics400"; None for a file of one's own.
        file: a local file (.pth, .pyth, .pt, .safetensors) to use instead of the published one.
        allow_partial: load what the file holds of the network even if that is not everything.
        prefix: beginning of the network's names in the file, "module.encoder_q."; None tries those of ``AROUND``.

    Returns:
        One line on what was loaded: "kinetics400: matched 102 of 102 tensors (100%) of r3d_18-b3b3357e.pth".

    Raises:
        WeightsError: the name is unknown; the file is missing, cannot be downloaded or read, lacks some of the
            network's tensors, or holds batch norm statistics that the network has no place for.
    """
    if name is not None and name not in backbone.weights:
        raise WeightsError(f"{backbone.card.name} has no weights {name!r}; these exist: {_offers()}")
    if file is not None:
        path = file.expanduser()
    elif name is not None:
        path = published_file(backbone.weights[name], backbone.variant)
    else:
        raise WeightsError(f"no weights are named to load into {backbone.card.name}; give a name or a file")
    state = read_state(path)
    _check_norm(backbone, state, path)
    if name is not None and prefix is None:
        state = _renamed(state, backbone.weights[name].key_map)
    found, stripped = _load(backbone, state, path, prefix)
    said = f"{_share(found)} of {path.name}" + (f", without {stripped!r} before their names" if stripped else "")
    if found[0] < found[1]:
        if not (allow_partial and found[0]):
            raise WeightsError(_refusal(backbone, found, path))
        said += f"{PARTIAL} {_some(found.missing)}"
    return f"{name}: {said}" if name is not None else said


def has_statistics(state: Iterable[str]) -> bool:
    """Return whether names of tensors include running statistics of batch norm."""
    return any(key.endswith("running_mean") for key in state)


def _check_norm(backbone: Backbone, state: Mapping[str, Tensor], path: Path) -> None:
    norm = backbone.config.norm
    if norm in {"auto", "group"} and has_statistics(state):
        raise WeightsError(
            f"the weights in {path} were trained with batch norm, and norm = {norm} would drop its statistics; "
            "set the backbone's norm to frozen or batch"
        )


def _load(backbone: Backbone, state: dict[str, Tensor], path: Path, prefix: str | None) -> tuple[Match, str]:
    """Load a state dict under the prefix with which most tensors match; return the match and that prefix.

    Raises:
        WeightsError: two prefixes match equally well, as in a checkpoint with a momentum encoder.
    """
    own = {key for key, tensor in backbone.state_dict().items() if tensor.is_floating_point()}
    if prefix is not None:
        return _match(backbone, _without(state, prefix)), prefix
    start = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    found = load_matching(backbone, state) if own <= state.keys() else _match(backbone, state)
    if found[0] == found[1]:  # an encoder of ssl3d under its own names, or a published file
        return found, ""
    counts = {one: _match(backbone, _without(state, one))[0] for one in ["", *_prefixes(state)]}
    best = max(counts, key=lambda one: (counts[one], -len(one)))
    rivals = [one for one, count in counts.items() if count == counts[best] and not (one in best or best in one)]
    if rivals and counts[best] >= OTHER_NETWORK * len(own):
        raise WeightsError(
            f"{path} holds {backbone.card.name} twice, below {best!r} and {rivals[0]!r}; choose one with "
            f"--set init.prefix={best}"
        )
    backbone.load_state_dict(start)  # trials must leave nothing behind where the best match is partial
    return _match(backbone, _without(state, best)), best


def _match(backbone: Backbone, state: Mapping[str, Tensor]) -> Match:
    """Let the backbone load a state dict, and return the account of it; nothing matches if it cannot."""
    try:
        found = backbone.load_pretrained(state)
    except (LookupError, RuntimeError, ValueError):  # of a plugin that looks for names which another network lacks
        return load_matching(backbone, {})
    return found if isinstance(found, Match) else Match(found)


def _prefixes(state: Iterable[str]) -> Iterator[str]:
    """Yield what names begin with, as far as that is in ``AROUND``: "module.", "module.encoder."."""
    found: dict[str, None] = {}
    for key in state:
        parts = key.split(".")
        for count, part in enumerate(parts[:-1], start=1):
            if part not in AROUND:
                break
            found[".".join(parts[:count]) + "."] = None
    yield from found


def _without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _renamed(state: Mapping[str, Tensor], key_map: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Return the tensors under the names of a declared map; names that it does not mention stay."""
    pairs = tuple(key_map)

    def name(key: str) -> str:
        return next((new + key.removeprefix(old) for old, new in pairs if key.startswith(old)), key)

    return {name(key): tensor for key, tensor in state.items()}


def _share(found: Match) -> str:
    matched, expected = found
    percent = 100 if matched == expected else min(99, round(100 * matched / max(expected, 1)))
    return f"matched {matched} of {expected} tensors ({percent}%)"


def _refusal(backbone: Backbone, found: Match, path: Path) -> str:
    share = f"{_share(found)} of {backbone.card.name} in {path}"
    if found[0] < OTHER_NETWORK * found[1]:
        made_of = recipe_of(path).get("backbone")
        what = f"an encoder of backbone {made_of!r}" if made_of else "of another network"
        return f"{share}, and all are needed: this file is {what}; give one of this backbone. {_differences(found)}"
    return (
        f"{share}, and all are needed: {_differences(found)}; give the file for exactly this network, or allow it with "
        "--set init.allow_partial=true"
    )


def _differences(found: Match) -> str:
    more = f"; it holds {_some(found.unexpected)} besides" if found.unexpected else ""
    return f"The first that it lacks: {_some(found.missing) or 'not stated by the backbone'}{more}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _offers() -> str:
    """Return every registered backbone that has weights, with their names; skip those that fail to import."""
    found = []
    for name in registry.plugins("backbones"):
        with suppress(PluginError):
            weights = getattr(registry.load("backbones", name), "weights", {})
            if weights:
                found.append(f"{name} ({', '.join(weights)})")
    return ", ".join(found) or "none"
