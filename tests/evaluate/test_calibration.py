"""Probabilities of training that favours rare classes are those of the cases, not of the balance."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ssl3d.evaluate.metrics import calibration_error
from ssl3d.evaluate.protocols.objective import Balance, Objective
from ssl3d.evaluate.protocols.training import epoch_order
from ssl3d.task import Kind, Task

CPU, N = torch.device("cpu"), 8000
RNG = np.random.default_rng(0)
X = RNG.normal(size=N)
DESIGN = torch.from_numpy(np.stack([X, np.ones(N)], axis=1))


def task_of(K: int, kind: Kind) -> Task:
    return Task(name="tear", kind=kind, classes=tuple(f"c{k}" for k in range(K)))


def fitted(objective: Objective, y: np.ndarray, cases: np.ndarray) -> torch.Tensor:
    """Return predictions (N, K) of a linear model of x trained to convergence on some of the cases."""
    head = torch.zeros(2, objective.task.outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([head], max_iter=60, line_search_fn="strong_wolfe")
    design, targets = DESIGN[cases], torch.from_numpy(y)[cases]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective.loss(design @ head, targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return loss.detach()

    optimizer.step(closure)  # type: ignore[arg-type]  # torch takes tensors as losses
    with torch.no_grad():
        return objective.predict(DESIGN @ head)


def trained(balance: Balance, y: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions as trained, and calibrated."""
    objective = Objective.of(task, y, balance=balance, device=CPU)
    drawn = epoch_order(y, [0], balanced=True) if objective.sampled else np.arange(N)
    raw = fitted(objective, y, drawn)
    return raw.numpy(), objective.calibrate(raw).numpy()


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_a_rare_class_is_as_likely_as_it_is_and_ranked_as_before(balance: Balance) -> None:
    truth = 1 / (1 + np.exp(3 - 1.5 * X))  # about 9% positives
    y = (RNG.random(N) < truth).astype(np.int64)
    raw, calibrated = trained(balance, y, task_of(2, "binary"))
    _, plain = trained("none", y, task_of(2, "binary"))
    brier = [float(np.mean((p[:, 1] - y) ** 2)) for p in (raw, calibrated, plain)]
    assert brier[1] == pytest.approx(brier[2], rel=0.01)
    assert brier[0] > 1.5 * brier[2]
    assert calibration_error(y, raw[:, 1]) > 0.2
    assert calibration_error(y, calibrated[:, 1]) < 0.015
    assert np.abs(calibrated[:, 1] - truth).max() < 0.06
    assert roc_auc_score(y, raw[:, 1]) == roc_auc_score(y, calibrated[:, 1])
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_several_classes_have_their_own_prevalences(balance: Balance) -> None:
    logits = np.stack([2 + 0 * X, X, 1.5 * X - 1], axis=1)
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)  # (N, 3)
    y = (RNG.random((N, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    raw, calibrated = trained(balance, y, task_of(3, "multiclass"))
    prevalence = np.bincount(y) / N
    assert np.abs(raw.mean(axis=0) - prevalence).max() > 0.2
    np.testing.assert_allclose(calibrated.mean(axis=0), prevalence, atol=0.02)
    assert np.abs(calibrated - truth).mean() < 0.02


def test_labels_are_corrected_one_by_one_and_a_constant_one_is_left() -> None:
    truth = 1 / (1 + np.exp([[3.0], [0.0], [-9.0]] - np.outer([1.5, 1.0, 0.0], X))).T  # (N, 3)
    y = (RNG.random(truth.shape) < truth).astype(np.int64)
    y[:, 2] = 1
    raw, calibrated = trained("weights", y, task_of(3, "multilabel"))
    np.testing.assert_allclose(calibrated[:, :2].mean(axis=0), y[:, :2].mean(axis=0), atol=0.01)
    assert raw[:, 0].mean() > 3 * calibrated[:, 0].mean()
    np.testing.assert_array_equal(raw[:, 2], calibrated[:, 2])


def test_a_class_without_training_cases_stays_a_probability() -> None:
    objective = Objective.of(task_of(3, "multiclass"), np.array([0, 0, 0, 1]), balance="weights", device=CPU)
    p = objective.calibrate(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64))
    assert torch.allclose(p, torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64))
