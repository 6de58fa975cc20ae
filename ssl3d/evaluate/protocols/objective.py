"""The objective of fine-tuning, by the kind of task: cross entropy, or the squared error of values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl3d.task import Task


@dataclass(frozen=True)
class Objective:
    """Loss and predictions of a head with one output per class, label or value.

    Attributes:
        task: predicted task.
        weights: (K,) for classes, (2, L) for absent and present labels; None if all cases count equally.
        mean: mean of the training values of a regression.
        std: their standard deviation.
    """

    task: Task
    weights: Tensor | None = None
    mean: float = 0.0
    std: float = 1.0

    @staticmethod
    def of(task: Task, y: np.ndarray, *, balanced: bool, device: torch.device) -> Objective:
        """Return the objective for training on targets y, (N,) or (N, L); rare classes weigh more if ``balanced``."""
        if task.kind == "regression":
            return Objective(task, mean=float(y.mean()), std=float(y.std()) or 1.0)
        if not balanced:
            return Objective(task)
        if task.kind == "multilabel":
            weights = torch.stack([class_weights(column, 2) for column in y.T], dim=1)  # (2, L)
        else:
            weights = class_weights(y, task.outputs)
        return Objective(task, weights.to(device))

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            outputs: (B, K), outputs of the head.
            y: (B,) class indices or values, or (B, L) of 0 and 1.
        """
        outputs = outputs.float()
        if self.task.kind == "regression":
            return F.mse_loss(outputs[:, 0], (y.float() - self.mean) / self.std)
        if self.task.kind == "multilabel":
            weights = None if self.weights is None else torch.where(y == 1, self.weights[1], self.weights[0])
            return F.binary_cross_entropy_with_logits(outputs, y.float(), weight=weights)
        # Divided by B, not by the sum of weights, so that a batch of one class counts no more than its share.
        return F.cross_entropy(outputs, y, weight=self.weights, reduction="sum") / len(y)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return probabilities or values (B, K), float64, of the head's outputs (B, K)."""
        outputs = outputs.double()
        if self.task.kind == "regression":
            return outputs * self.std + self.mean
        return outputs.sigmoid() if self.task.kind == "multilabel" else outputs.softmax(dim=1)


def class_weights(labels: np.ndarray, K: int) -> Tensor:
    """Return (K,) weights N / (K' n_k), with K' the classes present: over the training cases they average to 1."""
    counts = np.bincount(labels, minlength=K)
    weights = np.zeros(K)
    weights[counts > 0] = len(labels) / ((counts > 0).sum() * counts[counts > 0])
    return torch.from_numpy(weights).float()
