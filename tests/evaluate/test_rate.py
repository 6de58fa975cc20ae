"""The score that learning rates are chosen by, and the rule of the choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl3d.evaluate.rate import best_factor, mean_score, probe_score
from ssl3d.protocol import FeatureProblem
from ssl3d.task import Kind, Task

N = 40


def problem(kind: Kind, noise: float) -> FeatureProblem:
    """Features that hold the target, and noise."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=N)
    task = Task(name="t", kind=kind, classes={"binary": ("a", "b"), "regression": ()}.get(kind, ("a", "b", "c")))
    classes = np.digitize(z, [-0.5, 0.5])
    targets = {
        "binary": (z > 0).astype(np.int64),
        "regression": 1000 * z,
        "multilabel": np.stack([z > q for q in (-0.5, 0, 0.5)], 1),
    }
    y = np.asarray(targets.get(kind, classes))
    y = y.astype(np.int64) if kind != "regression" else y
    x = np.stack([z + noise * rng.normal(size=N), rng.normal(size=N)], axis=1)
    return FeatureProblem(x, y, x[:0], task, np.arange(N).astype(str), folds=3)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal", "multilabel", "regression"])
def test_better_features_score_higher_and_1_is_best_for_every_kind_of_task(kind: Kind) -> None:
    good, bad = (probe_score({"last": problem(kind, noise)}, ("last",)) for noise in (0.05, 20.0))
    assert good is not None
    assert bad is not None
    assert bad < 0.75 < 0.9 < good <= 1


def test_test_cases_play_no_part() -> None:
    one = problem("binary", 1.0)
    other = replace(one, test_x=np.full((3, 2), np.nan))
    assert probe_score({"last": one}, ("last",)) == probe_score({"last": other}, ("last",))


def test_nothing_held_out_is_no_score() -> None:
    one = problem("binary", 1.0)
    assert probe_score({"last": replace(one, patients=np.array(["p"] * N))}, ("last",)) is None


def test_the_best_factor_has_the_highest_score_and_else_is_nearest_to_1() -> None:
    assert best_factor({0.25: 0.6, 1.0: 0.7, 4.0: 0.8}) == 4
    assert best_factor({0.25: 0.7, 1.0: 0.7, 4.0: 0.7}) == 1
    assert best_factor({0.25: 0.7, 4.0: 0.7}) == 0.25
    assert best_factor({0.25: None, 1.0: None, 4.0: None}) == 1
    assert best_factor({0.25: -3.0, 1.0: None, 4.0: -2.0}) == 4


def test_the_mean_is_over_known_scores() -> None:
    assert mean_score([0.5, None, 0.7]) == pytest.approx(0.6)
    assert mean_score([None]) is None
