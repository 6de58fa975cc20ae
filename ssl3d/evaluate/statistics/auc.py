"""AUCs from DeLong's structural components, macro for several classes. Loads neither torch nor scikit-learn."""

from __future__ import annotations

import numpy as np

from ssl3d.evaluate.statistics.delong import components
from ssl3d.evaluate.statistics.estimate import Estimate, by_patient
from ssl3d.evaluate.statistics.limits import AUC


def estimate_auc(targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Return the AUCs of one method: for class 1 if K = 2, macro (one against the rest) if more.

    Args:
        targets: (N,) integers below K, every class present.
        probabilities: (S, N, K), one layer per seed.
        patients: (N,) patient of each case; None: each case has its own patient.

    Raises:
        ValueError: a class has no case.
    """
    K = probabilities.shape[2]
    classes = (1,) if K == 2 else tuple(range(K))
    scores, cases = np.zeros(len(probabilities)), np.zeros((len(targets), len(probabilities)))
    for k in classes:
        positive = targets == k
        found = components(positive.astype(int), probabilities[:, :, k])
        scores += found.auc / len(classes)
        for members, values in ((positive, found.positive), (~positive, found.negative)):
            cases[members] += (values - found.auc[:, None]).T / members.sum() / len(classes)
    return Estimate(scores, (by_patient(cases, patients, targets, len(classes)),), AUC)
