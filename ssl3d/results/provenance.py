"""What a result says of its circumstances: data, versions, time."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.metadata import version

from ssl3d.recipe import Recipe
from ssl3d.registry import plugins, split_variant
from ssl3d.results.records import DataRecord
from ssl3d.run.work import Work

PACKAGES = ("ssl3d", "torch", "torchvision", "lightly", "timm", "pytorchvideo", "scikit-learn", "numpy", "pandas")


def data_record(work: Work) -> DataRecord:
    """Return what a cell was trained and judged on."""
    return DataRecord(
        name=work.store.name,
        synthetic=work.store.synthetic,
        fingerprint=work.store.fingerprint,
        task=str(work.recipe.data.task),
        plane=work.recipe.data.plane or "",
        n_train=len(work.judged.train),
        n_test=len(work.judged.test),
        classes=work.judged.classes,
    )


def versions(recipe: Recipe) -> dict[str, str]:
    """Versions of Python, of the packages that decide numbers, and of those that the plugins come from."""
    named = (
        plugins("methods").get(recipe.method),
        plugins("backbones").get(split_variant("backbones", recipe.backbone)[0]),
    )
    owners = {plugin.distribution for plugin in named if plugin is not None}
    return {"python": sys.version.split()[0], **{name: version(name) for name in (*PACKAGES, *sorted(owners))}}


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
