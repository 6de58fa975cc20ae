"""Protection from code named in someone else's record: plugins named by file or module need permission."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ssl3d.errors import RunError, quoted
from ssl3d.recipe import EncoderRecipe, EvaluationRecipe
from ssl3d.registry import WORDS, Kind, plugins, split_variant
from ssl3d.results.model import PlanRecord

Named = tuple[Kind, str]  # a plugin, as a record names it


def named_by_encoder(recipe: EncoderRecipe) -> list[Named]:
    """Return the plugins that an encoder's recipe names."""
    corpora: list[Named] = [("datasets", part.data) for part in recipe.corpus]
    return [("methods", recipe.method), ("backbones", recipe.backbone), *corpora]


def named_by_evaluation(recipe: EvaluationRecipe) -> list[Named]:
    """Return the plugins that an evaluation's recipe names."""
    return [("datasets", recipe.data), ("protocols", recipe.protocol)]


def named_by_run(plan: PlanRecord) -> list[Named]:
    """Return the plugins that the recipes of a run name."""
    encoders = (*plan.encoders.values(), *(trial for rate in plan.rates.values() for trial in rate.trials))
    found = [one for encoder in encoders for one in named_by_encoder(encoder.recipe)]
    return list(
        dict.fromkeys([*found, *(one for e in plan.evaluations.values() for one in named_by_evaluation(e.recipe))])
    )


def unregistered(named: Iterable[Named]) -> list[Named]:
    """Return the plugins that are not entry points of an installed package: their names could refer to any code."""
    return [one for one in dict.fromkeys(named) if split_variant(*one)[0] not in plugins(one[0])]


def require_trusted(named: Iterable[Named], allow_code: bool, how: str) -> None:
    """Refuse to import plugins that a record names by file or module, unless the user allows it.

    Args:
        named: the plugins that would be imported.
        allow_code: whether the user allows it.
        how: how the user can allow it: an option or an argument.

    Raises:
        RunError: a plugin is not registered; the message shows what would run.
    """
    found = [] if allow_code else unregistered(named)
    if found:
        shown = ", ".join(_shown(*one) for one in found)
        raise RunError(
            f"a record names code that no installed package registers: {shown}; read it, and allow it with {how} if "
            "you would run it yourself"
        )


def _shown(kind: Kind, reference: str) -> str:
    """Return a plugin in words, with a file's path and hash."""
    file, found, name = reference.rpartition(":")
    if not found or not file.endswith(".py"):
        return f"{WORDS[kind]} {quoted(reference)}"
    path = Path(file).expanduser()
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return f"{WORDS[kind]} {quoted(reference)} (no such file here)"
    # The full path: the user has to open and read this file.
    return f"{WORDS[kind]} {quoted(name)} of {str(path.resolve())!r} (SHA-256 {digest[:16]})"
