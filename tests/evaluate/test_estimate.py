"""The error of AUCs over patients and seeds: against Obuchowski's formulas, by hand, and on how simulated AUCs vary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.estimate import Block, Estimate, mean_of
from ssl3d.evaluate.statistics.inference import interval, paired, standard_error
from ssl3d.evaluate.statistics.limits import logit_limits, wald
from tests.evaluate.estimates import of_scores


def variance(a: Estimate, b: Estimate | None = None) -> float:
    return float(standard_error(a, b)[0] ** 2)


def obuchowski(labels: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> float:
    """Covariance of the AUCs of a and b, as the paper writes it: from sums over the cases of each patient."""
    sums = []  # for a and b: (sum of V10 - m_i theta, sum of V01 - n_i theta) of each patient i
    for scores in (a, b):
        x, y = scores[labels == 1], scores[labels == 0]
        psi = np.array([[1.0 if i > j else 0.5 if i == j else 0.0 for j in y] for i in x])
        theta = psi.mean()
        sums.append(
            [
                (
                    (psi[patients[labels == 1] == i].mean(axis=1) - theta).sum(),
                    (psi[:, patients[labels == 0] == i].mean(axis=0) - theta).sum(),
                )
                for i in np.unique(patients)
            ]
        )
    (x10, x01), (y10, y01) = (np.transpose(one) for one in sums)
    M, N, all_ = (labels == 1).sum(), (labels == 0).sum(), len(np.unique(patients))
    i10, i01 = (len(np.unique(patients[labels == k])) for k in (1, 0))
    s10 = i10 / ((i10 - 1) * M) * (x10 @ y10)
    s01 = i01 / ((i01 - 1) * N) * (x01 @ y01)
    s11 = all_ / (all_ - 1) * (x10 @ y01 + x01 @ y10) / 2
    return float(s10 / M + s01 / N + 2 * s11 / (M * N))


@st.composite
def clustered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), two score vectors (2, N) with ties, and patients (N,), two or more of each class."""
    size = draw(st.integers(4, 20))
    labels = np.array([0, 1, 0, 1, *draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))])
    people = st.integers(0, 6)
    patients = np.array([0, 1, 2, 3, *draw(st.lists(people, min_size=size, max_size=size))])
    rows = [draw(st.lists(st.integers(0, 4), min_size=size + 4, max_size=size + 4)) for _ in range(2)]
    return labels, np.array(rows, float), patients


@given(clustered())
@settings(deadline=None)
def test_variances_of_clustered_cases_are_obuchowskis(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, (a, b), patients = data
    found = [of_scores(labels, scores, patients) for scores in (a, b)]
    of_a, of_b = (obuchowski(labels, scores, scores, patients) for scores in (a, b))
    assert variance(found[0]) == pytest.approx(of_a, abs=1e-12)
    both = of_a + of_b - 2 * obuchowski(labels, a, b, patients)
    assert variance(*found) == pytest.approx(both, abs=1e-12)


@given(clustered())
@settings(deadline=None)
def test_patients_with_one_case_each_change_nothing(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, scores, _ = data
    alone = np.array([f"p{i}" for i in range(len(labels))])[::-1]
    assert standard_error(of_scores(labels, scores, alone)) == pytest.approx(standard_error(of_scores(labels, scores)))


def test_every_case_twice_is_no_more_information() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [20, 30])
    scores = rng.standard_normal((2, 50)) + labels
    once = of_scores(labels, scores)
    twice = of_scores(np.tile(labels, 2), np.tile(scores, 2), np.tile(np.arange(50), 2))
    assert twice.smallest == once.smallest == 20
    assert standard_error(twice) == pytest.approx(standard_error(once))
    assert interval(twice) == interval(once)
    doubled = of_scores(np.tile(labels, 2), np.tile(scores, 2))
    assert variance(doubled) < 0.6 * variance(once)


def test_degrees_of_freedom_are_those_of_each_class() -> None:
    # Satterthwaite's for the sum of two variances, from m and n cases.
    rng = np.random.default_rng(1)
    m, n = 6, 200
    labels = np.repeat([1, 0], [m, n])
    found = of_scores(labels, rng.standard_normal(m + n) + labels)
    (block,) = found.blocks
    parts = [block.parts[1, :m, 0], block.parts[0, m:, 0]]
    of_class = [size * part.var(ddof=1) for size, part in zip((m, n), parts, strict=True)]
    se, df = standard_error(found)
    assert se**2 == pytest.approx(sum(of_class))
    assert df == pytest.approx(sum(of_class) ** 2 / (of_class[0] ** 2 / (m - 1) + of_class[1] ** 2 / (n - 1)))
    assert m - 1 < df < 2 * m


def test_patients_with_cases_of_both_classes_count_once() -> None:
    labels, patients = np.tile([0, 1], 10), np.repeat(np.arange(10), 2)
    scores = np.random.default_rng(2).standard_normal(20) + labels
    ((of_patients, free),) = of_scores(labels, scores, patients).terms()
    assert free == pytest.approx(9)
    assert of_patients > 0


def crossed(aucs: np.ndarray, own: np.ndarray, shared: float) -> Estimate:
    """AUCs (S,) on 400 patients whose contributions have a variance of their own (S,) and one shared by seeds."""
    rng, P = np.random.default_rng(3), 400
    values = np.sqrt(shared) * rng.standard_normal((P, 1)) + np.sqrt(own) * rng.standard_normal((P, len(own)))
    values -= values.mean(axis=0)
    return Estimate(aucs, (Block(values[None] / P, np.ones((1, P), bool)),))


@pytest.mark.parametrize("S", [2, 3, 5])
def test_seeds_add_the_unbiased_variance_of_their_mean(S: int) -> None:
    # Seeds that differ by a constant on every sample of patients: no interaction, their variance over S is all of it.
    aucs = np.random.default_rng(4).normal(0.8, 0.02, S)
    found = crossed(aucs, np.zeros(S), 0.36)
    ((of_patients, free),) = found.terms()
    of_seeds = aucs.var(ddof=1) / S
    se, df = standard_error(found)
    assert se**2 == pytest.approx(of_patients + of_seeds)
    assert df == pytest.approx((of_patients + of_seeds) ** 2 / (of_patients**2 / free + of_seeds**2 / (S - 1)))
    other = crossed(aucs[:1], np.zeros(1), 0.36)
    assert standard_error(found, other)[0] ** 2 == pytest.approx(of_seeds)  # the patients are shared
    assert standard_error(found, other)[1] == pytest.approx(S - 1)


def test_seeds_that_happen_to_agree_leave_their_mean_square_in_the_degrees_of_freedom() -> None:
    # The variance of seeds is estimated as 0, from two of them: it is not known to be 0.
    found = crossed(np.array([0.8, 0.8]), np.full(2, 0.5), 0.1)
    se, df = standard_error(found)
    ((of_patients, _),) = found.terms()
    assert se**2 == pytest.approx(of_patients)
    of_sample = 0.5 / 400 / 2
    assert df == pytest.approx(se**4 / of_sample**2, rel=0.25)
    assert df < 3


@pytest.mark.parametrize("K", [2, 3])
def test_one_patient_of_a_class_leaves_everything_open(K: int) -> None:
    rng = np.random.default_rng(9)
    labels = np.repeat(np.arange(K), 5)[: 5 * (K - 1) + 2]  # two cases of the last class, of one patient
    patients = np.arange(len(labels))
    patients[-1] = patients[-2]
    found = estimate_auc(labels, rng.random((2, len(labels), K)), patients)
    assert standard_error(estimate_auc(labels, rng.random((2, len(labels), K))))[0] > 0
    for se, df in (standard_error(found), standard_error(found, found), standard_error(mean_of([[found], [found]]))):
        assert np.isnan(se)
        assert wald(0.2, float(se), 1, df=float(df)).p == 1.0
        low, high = logit_limits(np.array([0.7]), se, 1, df=df)
        assert (low[0], high[0]) == (0.0, 1.0)


def test_the_mean_over_the_draws_of_each_seed_holds_the_variance_of_encoders_and_draws() -> None:
    # Draws of one seed share its encoder: taken for repetitions of their own, they hide most of its variance.
    rng, S, D, encoder, draw = np.random.default_rng(10), 3, 4, 0.03, 0.02
    block = Block(np.zeros((1, 2, 4000, S * D)), np.ones((1, 2), bool))
    aucs = (rng.normal(0.8, encoder, (4000, S, 1)) + rng.normal(0, draw, (4000, S, D))).reshape(4000, -1)
    found = Estimate(aucs, (block,))
    together, apart = (standard_error(one)[0] ** 2 for one in (found.grouped(S), found))
    true = (encoder**2 + draw**2 / D) / S
    assert np.mean(together) == pytest.approx(true, rel=0.06)
    assert np.mean(apart) < 0.5 * true


def test_the_variance_of_a_mean_over_tasks_holds_their_correlation() -> None:
    rng = np.random.default_rng(2)
    labels = [rng.integers(2, size=80) for _ in range(3)]
    shared = rng.standard_normal(80)
    found = [of_scores(y, y + shared + 0.5 * rng.standard_normal(80)) for y in labels]
    mean = mean_of([found])
    assert mean.scores[0] == pytest.approx(np.mean([one.scores[0] for one in found]))
    of_cases = sum(one.blocks[0].parts.sum(axis=0)[:, 0] for one in found) / 3
    assert variance(mean) == pytest.approx((of_cases**2).sum(), rel=0.05)
    independent = sum(variance(one) for one in found) / 9
    assert variance(mean) > 1.1 * independent
    same = mean_of([[found[0]] * 3])
    assert standard_error(same) == pytest.approx(standard_error(found[0]))


def test_folds_are_independent() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([1, 0], [20, 30])
    folds = [of_scores(labels, rng.standard_normal(50) + labels) for _ in range(3)]
    mean = mean_of([[one] for one in folds])
    assert variance(mean) == pytest.approx(sum(variance(one) for one in folds) / 9)
    assert mean.smallest == 60
    assert standard_error(mean)[1] > standard_error(folds[0])[1]


def test_leading_axes_are_repetitions() -> None:
    rng = np.random.default_rng(6)
    labels = np.repeat([1, 0], [8, 12])
    single = [[of_scores(labels, rng.standard_normal((3, 20)) + labels) for _ in range(4)] for _ in range(2)]
    stacked = []
    for of_method in single:
        parts = np.stack([one.blocks[0].parts for one in of_method], axis=2)
        block = Block(parts, of_method[0].blocks[0].present)
        stacked.append(Estimate(np.stack([one.scores for one in of_method]), (block,)))
    se, df = standard_error(*stacked)
    for index in range(4):
        a, b = single[0][index], single[1][index]
        assert (se[index], df[index]) == pytest.approx(standard_error(a, b))
        assert paired(a, b).se == pytest.approx(se[index])


def test_a_class_without_cases_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        of_scores(np.ones(4, int), np.arange(4.0))
