"""Selection of the features shown to a protocol: on the training cases, by one rule for all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssl3d.errors import PluginError
from ssl3d.evaluate.protocols.inner import criterion_score, splits
from ssl3d.protocol import FeatureProblem, FeatureProtocol, Prediction


def predict_best(
    protocol: FeatureProtocol[Any], problems: Mapping[str, FeatureProblem], names: Sequence[str]
) -> tuple[str, Prediction]:
    """Predict with each read-out, and return the best one with its prediction.

    The best read-out has the highest mean over the inner folds of the protocol's selection criterion, on the
    out-of-fold predictions of the training cases. The first wins if they are tied, if nothing can be held out, or if
    the protocol has no out-of-fold predictions. Test cases play no part.

    Args:
        protocol: protocol that predicts.
        problems: the same cases by read-out, differing only in their features.
        names: read-outs to choose from; those that the encoder lacks are skipped.

    Raises:
        PluginError: the encoder has none of them.
    """
    wanted, names = names, [name for name in names if name in problems]
    if not names:
        raise PluginError(f"the encoder has no read-out {wanted[0]!r}, only {', '.join(problems)}; choose one of these")
    if len(names) == 1:
        return names[0], protocol.predict(problems[names[0]])
    predictions = {name: protocol.predict(problems[name]) for name in names}
    scores = {name: _score(problems[name], predictions[name]) for name in names}
    known = {name: score for name, score in scores.items() if score is not None}
    best = max(known, key=known.__getitem__, default=names[0])  # the first if tied
    prediction = predictions[best]
    return best, replace(prediction, chosen={**prediction.chosen, "readouts": scores})


def _score(problem: FeatureProblem, prediction: Prediction) -> float | None:
    """Return the mean criterion over the inner folds; None if nothing was held out."""
    y, predicted = problem.train_y, prediction.out_of_fold
    parts = splits(y, problem.patients, problem.task, problem.folds, problem.seed)
    if predicted is None or not parts:
        return None
    return float(np.mean([criterion_score(y[held], predicted[held], problem.task) for _, held in parts]))
