"""The objective of fine-tuning, by the kind of task: cross entropy, or the squared error of values.

Training that favours rare classes, by weights w_c in the loss or by drawing them w_c times as often, fits
p_w(c|x) = w_c p(c|x) / sum_k w_k p(k|x): a probability under other prevalences than those of the cases. Dividing by
the weights and normalising gives p(c|x) back (Elkan 2001, The foundations of cost-sensitive learning, theorem 2; King &
Zeng 2001, Logistic regression in rare events data, Political Analysis 9:137, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl3d.task import Task

Balance = Literal["weights", "sampling", "none"]


@dataclass(frozen=True)
class Objective:
    """Loss and predictions of a head with one output per class, label or value.

    Attributes:
        task: predicted task.
        weights: how much more than their share rare classes count: (K,), or (2, L) for absent and present labels; None
            if all cases count equally.
        sampled: whether that is so because they are drawn more often, and not by a weight in the loss.
        mean: mean of the training values of a regression.
        std: their standard deviation.
    """

    task: Task
    weights: Tensor | None = None
    sampled: bool = False
    mean: float = 0.0
    std: float = 1.0

    @staticmethod
    def of(task: Task, y: np.ndarray, *, balance: Balance, device: torch.device) -> Objective:
        """Return the objective for training on targets y, (N,) or (N, L), with this balance between classes."""
        if task.kind == "regression":
            return Objective(task, mean=float(y.mean()), std=float(y.std()) or 1.0)
        sampled = balance == "sampling"
        if balance == "none" or (sampled and not task.categorical):  # only classes can be drawn more often
            return Objective(task)
        if task.kind == "multilabel":
            weights = torch.stack([class_weights(column, 2) for column in y.T], dim=1)  # (2, L)
        else:
            weights = class_weights(y, task.outputs)
        return Objective(task, weights.to(device), sampled)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            outputs: (B, K), outputs of the head.
            y: (B,) class indices or values, or (B, L) of 0 and 1.
        """
        outputs = outputs.float()
        weights = None if self.sampled else self.weights
        if self.task.kind == "regression":
            return F.mse_loss(outputs[:, 0], (y.float() - self.mean) / self.std)
        if self.task.kind == "multilabel":
            weights = None if weights is None else torch.where(y == 1, weights[1], weights[0])
            return F.binary_cross_entropy_with_logits(outputs, y.float(), weight=weights)
        # Divided by B, not by the sum of weights, so that a batch of one class counts no more than its share.
        return F.cross_entropy(outputs, y, weight=weights, reduction="sum") / len(y)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return probabilities or values (B, K), float64, of outputs (B, K), under the balance of the training."""
        outputs = outputs.double()
        if self.task.kind == "regression":
            return outputs * self.std + self.mean
        return outputs.sigmoid() if self.task.kind == "multilabel" else outputs.softmax(dim=1)

    def calibrate(self, predictions: Tensor) -> Tensor:
        """Return predictions (B, K) with the effect of the weights undone.

        In a binary task the order of the cases, and so the AUC, stays the same. A class without a training case has
        nothing to undo.
        """
        if self.weights is None:
            return predictions
        weights = self.weights.to(predictions)
        weights = torch.where(weights > 0, weights, 1.0)
        if self.task.kind == "multilabel":
            absent, present = (1 - predictions) / weights[0], predictions / weights[1]
            return present / (absent + present)
        divided = predictions / weights
        return divided / divided.sum(dim=1, keepdim=True)


def class_weights(labels: np.ndarray, K: int) -> Tensor:
    """Return (K,) weights N / (K' n_k), with K' the classes present: over the training cases they average to 1."""
    counts = np.bincount(labels, minlength=K)
    weights = np.zeros(K)
    weights[counts > 0] = len(labels) / ((counts > 0).sum() * counts[counts > 0])
    return torch.from_numpy(weights).float()
