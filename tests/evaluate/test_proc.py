"""DeLong's variance, covariance, interval and paired test against R's pROC, on the data that pROC is published with.

``proc_asah.csv`` holds the 113 patients of aSAH (Turck et al. 2010, Intensive Care Medicine 36:107), cases before
controls, each marker as ranks: derived from the placement values that pROC's own tests expect, so the order of the
patients within every marker, ties included, is that of the data. AUCs and their variances depend on nothing else. The
expected figures are those of pROC's tests (``var``, ``cov``, ``ci.auc``, ``roc.test`` with method "delong").
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, ndtri
from sklearn.metrics import roc_auc_score

from ssl3d.evaluate.statistics.delong import components
from ssl3d.evaluate.statistics.inference import standard_error
from ssl3d.evaluate.statistics.limits import logit_limits, wald
from tests.evaluate.estimates import of_scores, paired_test

AUC = {"wfns": 0.823678861788618, "ndka": 0.611957994579946, "s100b": 0.731368563685637}
VARIANCE = {"wfns": 0.00146991470882363, "ndka": 0.0031908105493913, "s100b": 0.00266868245717244}
COVARIANCE = {
    ("wfns", "ndka"): -0.000532967856762438,
    ("ndka", "s100b"): -0.000756164938056579,
    ("s100b", "wfns"): 0.00119615567376754,
}
NDKA_LIMITS = (0.501244999271703, 0.722670989888189)  # symmetric about the AUC, as pROC has them
TESTS = {  # Z, p, limits of the difference
    ("wfns", "s100b"): (2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478),
    ("wfns", "ndka"): (2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566),
    ("ndka", "s100b"): (-1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094),
}
EXACT = 1e-12


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("proc_asah.csv"))


def labels(patients: pd.DataFrame) -> np.ndarray:
    return (patients["outcome"] == "Poor").to_numpy(int)


def placements(patients: pd.DataFrame, marker: str) -> tuple[list[Fraction], list[Fraction]]:
    """V10 of the cases and V01 of the controls, pair by pair in exact fractions (DeLong et al. 1988, eq. 3)."""
    x, y = (patients[marker][labels(patients) == one].tolist() for one in (1, 0))
    psi = [[Fraction((i > j) - (i < j) + 1, 2) for j in y] for i in x]
    return [sum(row, Fraction()) / len(y) for row in psi], [
        sum(column, Fraction()) / len(x) for column in zip(*psi, strict=True)
    ]


def exact_covariance(patients: pd.DataFrame, a: str, b: str) -> Fraction:
    total = Fraction()
    for of_a, of_b in zip(placements(patients, a), placements(patients, b), strict=True):
        mean_a, mean_b = sum(of_a, Fraction()) / len(of_a), sum(of_b, Fraction()) / len(of_b)
        products = ((u - mean_a) * (v - mean_b) for u, v in zip(of_a, of_b, strict=True))
        total += sum(products, Fraction()) / (len(of_a) - 1) / len(of_a)
    return total


@pytest.mark.parametrize("marker", sorted(AUC))
def test_auc_and_variance_are_those_of_proc(patients: pd.DataFrame, marker: str) -> None:
    found = components(labels(patients), patients[marker].to_numpy(float))
    assert found.auc[0] == pytest.approx(AUC[marker], abs=EXACT)
    assert found.auc[0] == pytest.approx(roc_auc_score(labels(patients), patients[marker]), abs=EXACT)
    variance = standard_error(of_scores(labels(patients), patients[marker].to_numpy(float)))[0] ** 2
    assert variance == pytest.approx(VARIANCE[marker], abs=EXACT)
    assert float(exact_covariance(patients, marker, marker)) == pytest.approx(VARIANCE[marker], abs=EXACT)


@pytest.mark.parametrize("pair", sorted(COVARIANCE))
def test_variance_of_a_difference_is_that_of_proc(patients: pd.DataFrame, pair: tuple[str, str]) -> None:
    a, b = pair
    found = [of_scores(labels(patients), patients[marker].to_numpy(float)) for marker in pair]
    assert standard_error(*found)[0] ** 2 == pytest.approx(VARIANCE[a] + VARIANCE[b] - 2 * COVARIANCE[pair], abs=EXACT)
    assert float(exact_covariance(patients, a, b)) == pytest.approx(COVARIANCE[pair], abs=EXACT)


@pytest.mark.parametrize("pair", sorted(TESTS))
def test_paired_test_is_that_of_proc(patients: pd.DataFrame, pair: tuple[str, str]) -> None:
    z, p, low, high = TESTS[pair]
    found = paired_test(labels(patients), *(patients[marker].to_numpy(float) for marker in pair))
    assert found.estimate / found.se == pytest.approx(z, abs=1e-10)
    normal = wald(found.estimate, found.se, 41)  # pROC's test is normal; ours is Student's
    assert (normal.p, normal.low, normal.high) == pytest.approx((p, low, high), abs=1e-10)
    assert 40 < found.df < 112
    assert p < found.p < p + 0.01


def test_a_marker_against_itself_has_no_difference(patients: pd.DataFrame) -> None:
    scores = patients["wfns"].to_numpy(float)
    found = paired_test(labels(patients), scores, scores)
    assert (found.estimate, found.p) == (0.0, 1.0)


def test_interval_is_that_of_proc_on_the_logit_scale(patients: pd.DataFrame) -> None:
    # Ours is symmetric on the logit scale: from the standard error behind pROC's limits, by the delta method.
    low, high = NDKA_LIMITS
    auc, se = (low + high) / 2, (high - low) / 2 / ndtri(0.975)
    half = ndtri(0.975) * se / (auc * (1 - auc))
    found = of_scores(labels(patients), patients["ndka"].to_numpy(float))
    own, df = standard_error(found)
    assert own == pytest.approx(se, abs=1e-10)
    normal = [float(one[0]) for one in logit_limits(found.scores, own, found.smallest)]
    assert normal == pytest.approx([expit(logit(auc) - half), expit(logit(auc) + half)], abs=1e-10)
    assert 40 < df < 112
