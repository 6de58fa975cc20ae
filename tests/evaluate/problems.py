"""Small problems on features, for tests of protocols."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl3d.protocol import FeatureProblem
from ssl3d.task import Kind, Task


def task_of(K: int, kind: Kind | None = None) -> Task:
    """A task of K classes (labels, of a multi-label task)."""
    kind = kind or ("binary" if K == 2 else "multiclass")
    return Task(name="tear", kind=kind, classes=() if kind == "regression" else tuple(f"c{k}" for k in range(K)))


def singles(N: int) -> np.ndarray:
    """Patients (N,) of whom each has one case."""
    return np.array([f"p{i}" for i in range(N)])


def clouds(rng: np.random.Generator, labels: np.ndarray, F: int = 6, distance: float = 2.0) -> np.ndarray:
    """Features (N, F): a Gaussian cloud around a direction of its own for each class."""
    return np.asarray(rng.standard_normal((len(labels), F)) + distance * np.eye(F)[labels])


def problem(
    x: np.ndarray, y: np.ndarray, test_x: np.ndarray, K: int = 2, kind: Kind | None = None, **more: Any
) -> FeatureProblem:
    """A problem of K classes or labels, each case of a patient of its own where ``more`` names none."""
    values: dict[str, Any] = {"task": task_of(K, kind), "patients": singles(len(y)), "folds": 5, "seed": 0}
    return FeatureProblem(x, y, test_x, **(values | more))
