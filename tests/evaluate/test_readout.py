"""The choice of a read-out: by the training cases alone, under one rule for every protocol and kind of task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ssl3d.errors import PluginError
from ssl3d.evaluate.protocols.knn import KNN
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.evaluate.readout import predict_best
from ssl3d.protocol import FeatureProblem, FeatureProtocol, Prediction
from ssl3d.task import Kind
from tests.evaluate.problems import clouds, problem

TRAIN, TEST = np.tile([0, 1], 30), np.tile([0, 1], 20)
PROTOCOLS: list[Callable[[], FeatureProtocol[Any]]] = [Linear, KNN]


def both(train_quality: float, test_quality: float, kind: Kind | None = None) -> dict[str, FeatureProblem]:
    """Problems of two read-outs: of noise ("last"), and of clouds that are that far apart ("multi")."""
    rng = np.random.default_rng(0)
    y: np.ndarray = TRAIN
    if kind == "regression":
        y = TRAIN + 0.1 * rng.standard_normal(len(TRAIN))
    elif kind == "multilabel":
        y = np.stack([TRAIN, 1 - TRAIN], axis=1)
    noise = problem(rng.standard_normal((60, 4)), y, rng.standard_normal((40, 4)), kind=kind)
    apart = replace(
        noise, train_x=clouds(rng, TRAIN, distance=train_quality), test_x=clouds(rng, TEST, distance=test_quality)
    )
    return {"last": noise, "multi": apart}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["binary", "regression", "multilabel"])
def test_the_better_read_out_is_chosen(protocol: Callable[[], FeatureProtocol[Any]], kind: Kind) -> None:
    problems = both(3.0, 3.0, kind)
    for names in (("last", "multi"), ("multi", "last")):
        name, prediction = predict_best(protocol(), problems, names)
        assert name == "multi"
        scores = prediction.chosen["readouts"]
        assert scores["multi"] > scores["last"]
        alone = protocol().predict(problems["multi"])
        np.testing.assert_array_equal(prediction.probabilities, alone.probabilities)
        assert prediction.threshold == alone.threshold


def test_test_cases_decide_nothing() -> None:
    problems = both(3.0, 0.0)  # useless on the test cases
    worse = {name: replace(one, test_x=one.test_x[:1] * 1e3) for name, one in problems.items()}
    assert predict_best(Linear(), problems, ("last", "multi"))[0] == "multi"
    assert predict_best(Linear(), worse, ("last", "multi"))[0] == "multi"


def test_a_read_out_that_is_named_is_not_chosen() -> None:
    name, prediction = predict_best(Linear(), both(3.0, 3.0), ("last",))
    assert name == "last"
    assert "readouts" not in prediction.chosen
    with pytest.raises(PluginError, match="no read-out 'attention', only last, multi; choose one of these"):
        predict_best(Linear(), both(3.0, 3.0), ("attention",))
    assert predict_best(Linear(), both(3.0, 3.0), ("attention", "last"))[0] == "last"


class Silent(FeatureProtocol[Any]):
    """Predicts no training case."""

    def predict(self, problem: FeatureProblem) -> Prediction:
        return Prediction(np.full((len(problem.test_x), 2), 0.5), 0.5)


def test_the_first_wins_where_nothing_is_held_out() -> None:
    problems = both(3.0, 3.0)
    assert predict_best(Silent(), problems, ("last", "multi"))[0] == "last"
    of_two = {name: replace(one, patients=np.where(TRAIN == 0, "a", "b")) for name, one in problems.items()}
    name, prediction = predict_best(Linear(), of_two, ("last", "multi"))
    assert name == "last"
    assert prediction.chosen["readouts"] == {"last": None, "multi": None}
