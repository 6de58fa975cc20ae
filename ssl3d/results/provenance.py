"""The provenance of an artifact: sources, versions, time. Loads no torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ssl3d.results.keys import NUMERICS
from ssl3d.results.model import Provenance

PACKAGES = ("ssl3d", "torch", "torchvision", "lightly", "timm", "pytorchvideo", "scikit-learn", "numpy", "pandas")


def made_by(sources: Mapping[str, str], distributions: Iterable[str] = ()) -> Provenance:
    """Return the provenance of an artifact that is completed now.

    Args:
        sources: hashes of the plugins' sources, by role ("method", "backbone", "protocol").
        distributions: packages that the plugins come from.
    """
    return Provenance(numerics=NUMERICS, sources=dict(sources), versions=versions(distributions), finished_at=now())


def versions(distributions: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of the packages that affect results, and of further distributions."""
    names = dict.fromkeys((*PACKAGES, *sorted(distributions)))
    found = {name: _version(name) for name in names}
    return {"python": sys.version.split()[0], **{name: text for name, text in found.items() if text}}


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
