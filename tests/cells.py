"""Finished cells made by hand, for tests of results and tables. No test is in here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ssl3d.protocol import Prediction
from ssl3d.recipe import DataRecipe, Recipe
from ssl3d.results.records import CellResult, DataRecord, Price, predictions_frame
from ssl3d.run.plan import merge
from ssl3d.tables.scoring import protocol_score

Cell = tuple[CellResult, pd.DataFrame | None]
LABELS = np.array([0, 1] * 60)


def cell(
    method: str = "byol",
    seed: int = 0,
    strength: float = 1.0,
    *,
    labels: np.ndarray = LABELS,
    noise: int = 0,
    order: np.ndarray | None = None,
    ids: list[str] | None = None,
    recipe: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    K: int = 2,
    **fields: Any,
) -> Cell:
    """Return a finished cell and its predictions: a score of ``strength`` times the label plus noise.

    Args:
        method: its name.
        seed: of the recipe.
        strength: how far apart the classes are.
        labels: of the test cases.
        noise: seed of the noise; equal for methods whose predictions are correlated.
        order: in which the predictions stand in the file.
        ids: of the cases.
        recipe: further fields of the recipe.
        data: further fields of the data record.
        K: number of classes.
        fields: of the result.
    """
    where = {"task": "acl", "plane": "sagittal"} | {k: v for k, v in (data or {}).items() if k in ("task", "plane")}
    made = Recipe.model_validate(merge({"method": method, "seed": seed, "data": where}, recipe or {}))
    rng = np.random.default_rng([noise, seed])
    logits = rng.standard_normal((len(labels), K)) + strength * np.eye(K)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    order = np.arange(len(labels)) if order is None else order
    ids = ids or [f"{i:04d}" for i in range(len(labels))]
    protocols = made.evaluate.protocols
    score = protocol_score(Prediction(p, 0.5 if K == 2 else None, {"C": 1.0}), labels, 1.5)
    record = {
        "name": "demo",
        "synthetic": True,
        "fingerprint": "f00d",
        "task": "acl",
        "plane": "sagittal",
        "n_train": 300,
        "n_test": len(labels),
        "classes": K,
    }
    result = CellResult(
        **{
            "cell": f"{method}-tiny-s{seed}",
            "status": "done",
            "recipe": made,
            "data": DataRecord(**record | (data or {})),
            "exactness": "exact",
            "scores": dict.fromkeys(protocols, score),
            "price": Price(pretrain_seconds=10.0 + seed, volumes_per_second=99.5, device="cpu"),
            "versions": {"ssl3d": "0.1.0"},
            "finished_at": "2026-01-01T00:00:00Z",
        }
        | fields
    )
    table = predictions_frame([ids[i] for i in order], labels[order], dict.fromkeys(protocols, p[order]))
    return result, table


def failed(method: str, seed: int = 0, reason: str = "out of memory", folds: int | None = None, fold: int = 0) -> Cell:
    """Return a failed cell."""
    recipe = Recipe(method=method, seed=seed, data=DataRecipe(task="acl", plane="sagittal", folds=folds, fold=fold))
    return CellResult(
        cell=f"{method}-tiny-s{seed}",
        status="failed",
        reason=reason,
        recipe=recipe,
        finished_at="2026-01-01T00:00:00Z",
    ), None
