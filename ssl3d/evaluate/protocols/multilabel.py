"""Multi-label tasks as one binary task per label ("binary relevance"), each with its own selection of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ssl3d.protocol import FeatureProblem, Prediction
from ssl3d.task import Task


def predict_each(problem: FeatureProblem, predict: Callable[[FeatureProblem], Prediction]) -> Prediction:
    """Predict each label of a multi-label task as a binary task.

    A label that all or none of the training cases have is predicted as constant.

    Args:
        problem: problem with ``train_y`` (N, L).
        predict: prediction of a binary problem.

    Returns:
        probabilities (N_test, L), no threshold, and the selected settings by label. Out-of-fold probabilities (N, L) if
        every label has some.
    """
    columns: list[np.ndarray] = []
    out_of_fold: list[np.ndarray | None] = []
    chosen: dict[str, Any] = {}
    notes: dict[str, None] = {}
    for name, y in zip(problem.task.classes, problem.train_y.T, strict=True):
        if (y == y[0]).all():
            columns.append(np.full(len(problem.test_x), float(y[0])))
            out_of_fold.append(y.astype(np.float64))
            chosen[name] = {"note": f"all {len(y)} training cases have {name!r} = {int(y[0])}, which is predicted"}
            continue
        found = predict(replace(problem, train_y=y, task=Task(name=name, kind="binary")))
        columns.append(found.probabilities[:, 1])
        out_of_fold.append(None if found.out_of_fold is None else found.out_of_fold[:, 1])
        chosen[name] = found.chosen
        notes |= dict.fromkeys(f"{name}: {note}" for note in found.notes)
    known = [column for column in out_of_fold if column is not None]
    pooled = np.stack(known, axis=1) if len(known) == len(out_of_fold) else None
    return Prediction(np.stack(columns, axis=1), None, {"labels": chosen}, pooled, tuple(notes))
