"""Checks of a protocol's input, each with one sentence on what to do. Loads neither torch nor scikit-learn."""

from __future__ import annotations

import numpy as np

from ssl3d.errors import DataError
from ssl3d.task import Task


def check_targets(targets: np.ndarray, task: Task) -> None:
    """Check that the training cases have targets from which a task can be learnt.

    Args:
        targets: (N,) class indices in 0..K-1, or regression values; (N, L) of 0 and 1 for a multi-label task.
        task: task of the targets.

    Raises:
        DataError: there are no training cases, targets are not valid for the task, or all targets are equal.
    """
    if len(targets) == 0:
        raise DataError(f"no training case has a target for {task.name!r}; give cases of the training split one")
    shape = (len(targets), task.outputs) if task.kind == "multilabel" else (len(targets),)
    if targets.shape != shape:
        raise DataError(f"targets of {task.name!r} have the shape {targets.shape}; expected {shape}")
    if not np.isfinite(targets).all():
        bad = int((~np.isfinite(targets.reshape(len(targets), -1)).all(axis=1)).sum())
        raise DataError(f"{bad} of {len(targets)} training targets of {task.name!r} are not finite; leave them empty")
    if task.kind != "regression":
        _check_classes(targets, task)
    if (targets == targets[0]).all():
        same = f"of class {task.classes[int(targets[0])]!r}" if task.categorical else "alike"
        raise DataError(
            f"all {len(targets)} training cases of {task.name!r} are {same}; a protocol needs at least two classes or "
            "values: label more cases, or choose another task"
        )


def check_features(train_x: np.ndarray, targets: np.ndarray, test_x: np.ndarray) -> None:
    """Check features (N, F) and targets (N, ...) of the training cases, and features (N_test, F) of the test cases.

    Raises:
        DataError: the shapes disagree, or an encoder returned values that are not finite.
    """
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1] != test_x.shape[1] or len(train_x) != len(targets):
        raise DataError(
            f"features {train_x.shape} with targets {targets.shape} and test features {test_x.shape} do not go "
            "together; expected (N, F), (N, ...) and (N_test, F)"
        )
    for split, x in (("training", train_x), ("test", test_x)):
        bad = int((~np.isfinite(x).all(axis=1)).sum())
        if bad:
            raise DataError(
                f"the encoder gives values that are not finite for {bad} of {len(x)} {split} volumes; "
                "its pretraining has diverged: lower pretrain.lr"
            )


def _check_classes(targets: np.ndarray, task: Task) -> None:
    K = 2 if task.kind == "multilabel" else task.outputs
    found = [int(value) for value in np.unique(targets)]
    if found[0] < 0 or found[-1] >= K:
        raise DataError(f"training targets {found} do not fit {task.name!r}, whose classes are 0..{K - 1}")
