"""Protocols: how an encoder is judged. Names and the shape they share; each protocol is a file of its own.

``linear`` and ``knn`` take features: ``(train_x, train_y, test_x, folds, seed, classes) -> Prediction``. ``finetune``
takes the encoder and the volumes. What a protocol chooses (strength, neighbours, epochs, threshold), it chooses inside
the training data; the test volumes are scored once. Importing this module imports neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssl3d.errors import DataError, RecipeError, nearest

PROTOCOLS: Mapping[str, str] = {
    "linear": "ssl3d.evaluate.protocols.linear:linear",
    "knn": "ssl3d.evaluate.protocols.knn:knn",
    "finetune": "ssl3d.evaluate.protocols.finetune:finetune",
}
ON_FEATURES = frozenset({"linear", "knn"})  # these need features only, extracted once


@dataclass(frozen=True)
class Prediction:
    """What a protocol says of the test volumes.

    Attributes:
        probabilities: (N_test, K), rows sum to 1.
        threshold: of the probability of class 1, from training data: positive at or above it; None if K > 2.
        chosen: what was chosen inside the training data, and what had to give way ("folds": 3). Plain JSON values.
        out_of_fold: (N, K) of the training volumes, each predicted by a fit that had not seen it; None where the
            protocol has none for all of them.
    """

    probabilities: np.ndarray
    threshold: float | None
    chosen: dict[str, Any] = field(default_factory=dict)
    out_of_fold: np.ndarray | None = None


def protocol(name: str) -> Callable[..., Prediction]:
    """Import and return the protocol of that name.

    Raises:
        RecipeError: there is none; the nearest is suggested.
    """
    if name not in PROTOCOLS:
        raise RecipeError(f"unknown protocol {name!r}{nearest(name, PROTOCOLS)}")
    module, _, function = PROTOCOLS[name].partition(":")
    found: Callable[..., Prediction] = getattr(importlib.import_module(module), function)
    return found


def class_count(train_y: np.ndarray, classes: int | None = None) -> int:
    """Return K, after checking that the training labels can be learnt from.

    Args:
        train_y: (N,) integer labels.
        classes: K where it is known; the largest label + 1 (at least 2) if None.

    Raises:
        DataError: no training case, labels outside 0..K-1, or one class only.
    """
    if len(train_y) == 0:
        raise DataError("no labelled training case to judge the encoder with; give the training split labels")
    found = [int(label) for label in np.unique(train_y)]
    K = max(found[-1] + 1, 2) if classes is None else classes
    if found[0] < 0 or found[-1] >= K:
        raise DataError(f"training labels {found} do not fit {K} classes; labels are 0..{K - 1}")
    if len(found) == 1:
        raise DataError(
            f"all {len(train_y)} training cases are of class {found[0]}; a protocol needs at least two classes"
        )
    return K


def check_features(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray) -> None:
    """Check features (N, F), labels (N,) and test features (N_test, F).

    Raises:
        DataError: the shapes disagree, or an encoder gave values that are not finite.
    """
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1] != test_x.shape[1] or len(train_x) != len(train_y):
        raise DataError(
            f"features {train_x.shape} with labels {train_y.shape} and test features {test_x.shape} do not go "
            "together; expected (N, F), (N,) and (N_test, F)"
        )
    for split, x in (("training", train_x), ("test", test_x)):
        bad = int((~np.isfinite(x).all(axis=1)).sum())
        if bad:
            raise DataError(
                f"the encoder gives values that are not finite for {bad} of {len(x)} {split} volumes; "
                "its pretraining has diverged: lower pretrain.lr"
            )


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold that maximises balanced accuracy (Youden's J) on out-of-fold training scores.

    It lies halfway between neighbouring scores; of equally good ones, the nearest to 0.5 is taken.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) probabilities of class 1, of cases that the model had not seen.
    """
    values = np.unique(scores)  # (U,), ascending
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]])
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sensitivity = 1 - np.searchsorted(positives, cuts) / len(positives)  # (U + 1,), share at or above the cut
    specificity = np.searchsorted(negatives, cuts) / len(negatives)
    youden = sensitivity + specificity
    best = cuts[youden >= youden.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])
