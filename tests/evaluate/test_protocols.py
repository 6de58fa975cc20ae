"""Linear probe and nearest neighbours: what they predict, what they choose, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from ssl3d.config import Config
from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.metrics import measure
from ssl3d.evaluate.protocols.finetune import Finetune, FinetuneConfig
from ssl3d.evaluate.protocols.knn import KNN, KNNConfig, vote
from ssl3d.evaluate.protocols.linear import Linear, LinearConfig
from ssl3d.protocol import FeatureProblem, FeatureProtocol, Prediction, Protocol
from tests.evaluate.problems import clouds, problem, singles, task_of

ON_FEATURES: list[Callable[[], FeatureProtocol[Config]]] = [Linear, KNN]  # type: ignore[list-item]
each = pytest.mark.parametrize("protocol", ON_FEATURES)


@each
@pytest.mark.parametrize("K", [2, 3])
def test_clouds_are_separated_and_probabilities_returned(protocol: type[FeatureProtocol[Config]], K: int) -> None:
    rng = np.random.default_rng(0)
    train_y, test_y = rng.integers(K, size=90), rng.integers(K, size=60)
    found = protocol().predict(problem(clouds(rng, train_y), train_y, clouds(rng, test_y), K))
    assert found.probabilities.shape == (60, K)
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    assert (found.threshold is None) == (K > 2)
    auc = measure(test_y, found.probabilities, task_of(K), found.threshold).values["auc"]
    assert auc is not None
    assert auc > 0.9


@each
def test_numbers_reproduce_and_the_global_state_stays(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(2, size=50)
    one = problem(clouds(rng, y), y, rng.standard_normal((9, 6)), seed=3)
    state = str(np.random.get_state())
    first, second = (protocol().predict(one) for _ in range(2))
    assert (first.probabilities == second.probabilities).all()
    assert (first.threshold, first.chosen) == (second.threshold, second.chosen)
    assert str(np.random.get_state()) == state


@each
def test_what_is_chosen_does_not_depend_on_the_test_set(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(2, size=50)
    x = clouds(rng, y, distance=1.0)
    near, far = rng.standard_normal((7, 6)), 100 * rng.standard_normal((40, 6))
    a, b = (protocol().predict(problem(x, y, test)) for test in (near, far))
    assert (a.threshold, a.chosen) == (b.threshold, b.chosen)
    # A test case is predicted alike whatever other test cases there are.
    alone = protocol().predict(problem(x, y, near[:1]))
    assert alone.probabilities[0] == pytest.approx(a.probabilities[0], abs=1e-12)


@each
def test_fewer_folds_than_asked_for_are_reported(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(3)
    y = np.array([0, 0, 0, 1, 1])
    found = protocol().predict(problem(clouds(rng, y), y, rng.standard_normal((3, 6))))
    assert found.chosen["folds"] == 2
    assert "2 folds instead of 5" in found.chosen["note"]
    assert found.chosen.get("k", 1) <= 5


@each
def test_a_class_of_one_case_leaves_nothing_to_choose_by(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(3)
    y = np.array([0, 0, 0, 0, 1])
    found = protocol().predict(problem(clouds(rng, y), y, rng.standard_normal((3, 6))))
    assert found.chosen["folds"] == 0
    assert "nothing could be held out" in found.chosen["note"]
    assert found.threshold == 0.5
    assert found.chosen.get("C", 1.0) == 1.0


@each
def test_training_data_that_cannot_be_learnt_from_are_refused(protocol: type[FeatureProtocol[Config]]) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    two = np.array([0, 1] * 3)
    with pytest.raises(DataError, match="all 6 training cases of 'tear' are of class 'c1'"):
        protocol().predict(problem(x, np.ones(6, int), x))
    with pytest.raises(DataError, match="no training case has a target for 'tear'"):
        protocol().predict(problem(x[:0], np.zeros(0, int), x))
    with pytest.raises(DataError, match=r"training targets \[0, 3\] do not fit 'tear', whose classes are 0..1"):
        protocol().predict(problem(x, 3 * two, x))
    with pytest.raises(DataError, match="not finite for 1 of 6 training volumes"):
        protocol().predict(problem(np.where(np.arange(6)[:, None] == 2, np.nan, x), two, x))
    with pytest.raises(DataError, match="do not go together"):
        protocol().predict(problem(x, two, x[:, :2]))
    with pytest.raises(DataError, match="1 of 6 training targets of 'tear' are not finite"):
        protocol().predict(problem(x, np.array([1.0, 2, 3, 4, 5, np.nan]), x, 1, "regression"))


@each
def test_a_class_absent_from_training_has_a_column_of_zeros(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(5)
    y = np.array([0, 2] * 12)
    found = protocol().predict(problem(clouds(rng, y), y, rng.standard_normal((5, 6)), 4, folds=3))
    assert found.probabilities.shape == (5, 4)
    assert (found.probabilities[:, [1, 3]] == 0).all()


@each
def test_a_collapsed_encoder_scores_one_half(protocol: type[FeatureProtocol[Config]]) -> None:
    y = np.array([0, 1] * 15)
    found = protocol().predict(problem(np.ones((30, 4)), y, np.ones((20, 4))))
    assert measure(y[:20], found.probabilities, task_of(2), found.threshold).values["auc"] == 0.5


@each
def test_out_of_fold_predictions_are_of_fits_without_the_patient(protocol: type[FeatureProtocol[Config]]) -> None:
    # Every patient has two cases with the same features and a label of chance: who saw the patient knows the label.
    rng = np.random.default_rng(12)
    y = np.repeat(rng.permutation([0, 1] * 30), 2)
    x = np.repeat(rng.standard_normal((60, 40)), 2, axis=0)
    known = protocol().predict(problem(x, y, x, patients=np.repeat(singles(60), 2)))
    unknown = protocol().predict(problem(x, y, x))
    assert known.out_of_fold is not None
    assert unknown.out_of_fold is not None
    assert roc_auc_score(y, known.out_of_fold[:, 1]) == pytest.approx(0.5, abs=0.15)
    assert roc_auc_score(y, unknown.out_of_fold[:, 1]) > 0.85  # the leak that keeping patients together prevents
    assert known.chosen["score"] < 0.65 < unknown.chosen["score"]


def test_linear_is_scikit_learns_regression_at_the_chosen_strength() -> None:
    rng = np.random.default_rng(6)
    y = rng.integers(2, size=80)
    x, other = clouds(rng, y, distance=1.0) * 7 + 3, rng.standard_normal((11, 6))
    found = Linear().predict(problem(x, y, other))
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=found.chosen["C"], max_iter=1000).fit(scaler.transform(x), y)
    assert found.probabilities == pytest.approx(model.predict_proba(scaler.transform(other)), abs=1e-3)


def test_linear_takes_a_strong_penalty_where_features_are_noise_and_many() -> None:
    rng = np.random.default_rng(7)
    y = rng.integers(2, size=60)
    x = rng.standard_normal((60, 200))
    x[:, :1] += 3 * y[:, None]
    separable = np.concatenate([x[:, :1]] * 3, axis=1)
    assert Linear().predict(problem(x, y, x)).chosen["C"] < 10
    assert Linear().predict(problem(separable, y, separable)).chosen["score"] > 0.95


def test_linear_on_an_mrnet_sized_table_takes_seconds() -> None:
    rng = np.random.default_rng(8)
    y = (rng.random(1188) < 0.2).astype(int)
    x = rng.standard_normal((1188, 512)) @ rng.standard_normal((512, 512)) / 20 + 0.1 * y[:, None]
    began = time.perf_counter()
    Linear().predict(problem(x, y, x[:300]))
    assert time.perf_counter() - began < 60  # measured: about 1 s on one core; this only finds a mistake


def test_votes_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(9)
    x, queries = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rng.random((9, 3)), rng.random((4, 3))))
    y = np.array([0, 1, 2] * 3)
    for k, found in zip((9, 4, 1), vote(x, np.eye(3)[y], queries, [9, 4, 1], 0.07), strict=True):
        for q, row in zip(queries, found, strict=True):
            near = sorted(range(9), key=lambda i: -float(x[i] @ q))[:k]
            weights = [sum(np.exp(float(x[i] @ q) / 0.07) for i in near if y[i] == c) for c in range(3)]
            assert row / row.sum() == pytest.approx(np.array(weights) / sum(weights))


# Settings


def test_settings_limit_the_grids() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(2, size=60)
    one = problem(clouds(rng, y, distance=1.0), y, rng.standard_normal((8, 6)))
    assert Linear(LinearConfig(strengths=(0.3,))).predict(one).chosen["C"] == 0.3
    assert KNN(KNNConfig(neighbours=(7,), temperature=0.5)).predict(one).chosen["k"] == 7
    cold, warm = (KNN(KNNConfig(neighbours=(7,), temperature=t)).predict(one) for t in (0.05, 5.0))
    assert cold.probabilities.std() > warm.probabilities.std()
    # The order in which a grid is written does not matter: the most regular of equally good settings wins.
    up, down = (Linear(LinearConfig(strengths=grid)).predict(one) for grid in ((0.1, 1.0, 10.0), (10.0, 1.0, 0.1)))
    assert up.chosen == down.chosen
    stopped = Linear(LinearConfig(strengths=(1e3,), iterations=1)).predict(one)
    assert stopped.chosen["converged"] == "no, stopped after 1 iterations"


def test_settings_are_typed_and_bounded() -> None:
    assert FinetuneConfig.checked({"lr": 0.5}).lr == (0.5,)
    assert LinearConfig.checked({"strengths": 1.0}).strengths == (1.0,)
    with pytest.raises(RecipeError, match=r"unknown field 'finetune\.epoch'; did you mean 'epochs'"):
        FinetuneConfig.checked({"epoch": 3}, "finetune")
    with pytest.raises(RecipeError, match=r"lr names 0\.5 twice"):
        FinetuneConfig.checked({"lr": [0.5, 0.5]})
    for cls, values in (
        (KNNConfig, {"temperature": 0}),
        (KNNConfig, {"neighbours": []}),
        (LinearConfig, {"strengths": -1.0}),
    ):
        with pytest.raises(RecipeError, match=next(iter(values))):
            cls.checked(values)


@pytest.mark.parametrize("protocol", [Linear, KNN, Finetune])
def test_plugins_have_a_card_and_described_settings_of_their_own(protocol: type[Protocol[Config]]) -> None:
    assert protocol.card.name
    assert protocol.Config is not Config
    assert protocol().config == protocol.Config()
    assert all(field.description for field in protocol.Config.model_fields.values())
    assert protocol.kinds >= {"binary", "multiclass", "ordinal"}


# Multi-label tasks and regressions


@each
def test_labels_are_predicted_as_binary_tasks_of_their_own(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(13)
    y = rng.integers(2, size=(80, 3))
    x = rng.standard_normal((80, 6)) + 2 * y @ np.eye(6)[:3]
    one = problem(x, y, x[:20], 3, "multilabel")
    found = protocol().predict(one)
    assert found.probabilities.shape == (20, 3)
    assert found.threshold is None
    assert found.out_of_fold is not None
    assert found.out_of_fold.shape == (80, 3)
    for label in range(3):
        alone = protocol().predict(problem(x, y[:, label], x[:20]))
        assert np.array_equal(found.probabilities[:, label], alone.probabilities[:, 1])
        assert found.chosen["labels"][f"c{label}"] == alone.chosen


@each
def test_a_label_that_all_training_cases_have_is_predicted_as_it_is(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(14)
    y = np.stack([np.ones(30, int), rng.permutation([0, 1] * 15)], axis=1)
    found = protocol().predict(problem(rng.standard_normal((30, 4)), y, np.zeros((5, 4)), 2, "multilabel"))
    assert (found.probabilities[:, 0] == 1).all()
    assert "all 30 training cases have 'c0' = 1" in found.chosen["labels"]["c0"]["note"]


@each
def test_values_are_predicted_in_their_order(protocol: type[FeatureProtocol[Config]]) -> None:
    rng = np.random.default_rng(15)
    x, other = rng.standard_normal((90, 5)), rng.standard_normal((40, 5))
    y, truth = (20 + 8 * v[:, 0] + 0.5 * rng.standard_normal(len(v)) for v in (x, other))
    found = protocol().predict(problem(x, y, other, 1, "regression"))
    assert found.probabilities.shape == (40, 1)
    assert found.threshold is None
    assert found.chosen["criterion"] == "negative squared error"
    assert spearmanr(truth, found.probabilities[:, 0]).statistic > 0.7
    assert found.out_of_fold is not None
    assert spearmanr(y, found.out_of_fold[:, 0]).statistic > 0.7


def test_linear_regression_is_scikit_learns_ridge_and_neighbours_stay_within_the_values() -> None:
    rng = np.random.default_rng(16)
    x, other = 3 * rng.standard_normal((50, 4)) + 1, rng.standard_normal((7, 4))
    y = x @ np.arange(4.0) + rng.standard_normal(50)
    one = problem(x, y, other, 1, "regression")
    found = Linear().predict(one)
    scaler = StandardScaler().fit(x)
    model = Ridge(alpha=1 / found.chosen["C"]).fit(scaler.transform(x), y)
    assert found.probabilities[:, 0] == pytest.approx(model.predict(scaler.transform(other)))
    near = KNN(KNNConfig(neighbours=(3,))).predict(one).probabilities
    assert y.min() <= near.min() <= near.max() <= y.max()


# The contract


def test_the_contract_and_the_statistics_load_neither_torch_nor_sklearn() -> None:
    code = (
        "import sys, ssl3d.protocol, ssl3d.evaluate.subsets, ssl3d.evaluate.checks, ssl3d.evaluate.threshold;"
        "import ssl3d.evaluate.statistics.inference, ssl3d.evaluate.statistics.bootstrap;"
        "import ssl3d.evaluate.statistics.compare;"
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scoring_and_protocols_on_features_load_no_torch() -> None:
    code = (
        "import sys, ssl3d.results.scoring, ssl3d.evaluate.protocols.linear, ssl3d.evaluate.protocols.knn;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_prediction_needs_no_choice() -> None:
    assert Prediction(np.zeros((0, 2)), None).chosen == {}


def test_a_protocol_of_ones_own_is_two_classes() -> None:
    class Settings(Config):
        bias: float = 0.25

    class Constant(FeatureProtocol[Settings]):
        def predict(self, problem: FeatureProblem) -> Prediction:
            p = np.full(len(problem.test_x), self.config.bias)
            return Prediction(np.stack([1 - p, p], axis=1), 0.5)

    y = np.array([0, 1])
    assert Constant.Config is Settings
    assert (Constant().predict(problem(np.eye(2), y, np.eye(2))).probabilities[:, 1] == 0.25).all()
