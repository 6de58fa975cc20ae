"""Files that decide a cell's numbers beside its recipe: plugins that were named by path, and local weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ssl3d.errors import RunError
from ssl3d.recipe import Recipe

WEIGHTS = "weights"


def sources(references: Iterable[str], weights: Path | None) -> dict[str, str]:
    """Return hashes by name, for the recipe: an edited file is another cell.

    Args:
        references: of plugins; those of the form ``path/to/file.py:Class`` count.
        weights: local file that the cell starts from; one that is not there is told elsewhere.
    """
    found = {reference: _hash(_path(reference)) for reference in references if ".py:" in reference}
    return found | ({WEIGHTS: _hash(weights)} if weights is not None and weights.is_file() else {})


def check_sources(recipe: Recipe) -> None:
    """Check, before it is imported, that a plugin's file is the one that a recorded cell was made from.

    Raises:
        RunError: it is gone, or was edited since.
    """
    for reference, expected in recipe.sources.items():
        if reference == WEIGHTS:
            continue
        path = _path(reference)
        if not path.is_file():
            raise RunError(f"{path} is not there, and the cell was made from it; put it back")
        if _hash(path) != expected:
            raise RunError(f"{path} was edited since the cell was made from it; put the old one back, or run it again")


def _path(reference: str) -> Path:
    return Path(reference.rpartition(":")[0]).expanduser()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
