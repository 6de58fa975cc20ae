"""The attentive probe: attention pooling over the positions of a frozen feature map, and a linear layer.

Mean pooling undersells encoders with local features, slice encoders above all: a tear on three slices of thirty is a
tenth of the mean. Attention learns from the labels where to look (Ilse et al. 2018, arXiv 1802.04712; Bardes et al.
2024, arXiv 2404.08471).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.data.augment import whole
from ssl3d.errors import DataError, RecipeError
from ssl3d.evaluate.checks import check_targets
from ssl3d.evaluate.features import evaluating
from ssl3d.evaluate.protocols.edge import edge_note
from ssl3d.evaluate.protocols.inner import choose
from ssl3d.evaluate.protocols.objective import Objective
from ssl3d.evaluate.protocols.training import epoch_order
from ssl3d.protocol import (
    Card,
    Config,
    EncoderProblem,
    EncoderProtocol,
    FeatureProblem,
    Field,
    Kind,
    OneOrMore,
    Prediction,
)

MOST_PLACES = 512  # of a map; a finer one is averaged in-plane down to this number


class AttentiveConfig(Config):
    """Settings of the attentive probe."""

    epochs: int = Field(20, ge=1, description="most epochs; their number is chosen by the inner folds")
    lr: OneOrMore = Field((1e-3, 3e-3), min_length=1, description="learning rate, or several to choose from (AdamW)")
    weight_decay: float = Field(0.05, ge=0, description="of the attention and the linear layer")
    batch_size: int = Field(32, ge=2, description="volumes behind one optimiser step")
    heads: int = Field(2, ge=1, le=64, description="weighted means of the places, each with weights of its own")
    hidden_dim: int = Field(64, ge=1, le=4096, description="width of the layer that scores a place")


class Attentive(EncoderProtocol[AttentiveConfig]):
    """Trains attention pooling and a linear layer on the coarsest feature map of the frozen encoder.

    Learning rate and epochs are selected by inner cross-validation, like a linear probe's penalty; then the probe is
    trained on all training cases. The maps are computed once, from whole volumes without augmentation.
    """

    card: ClassVar[Card] = Card(
        "Attentive probe",
        "attention pooling over the frozen feature map and a linear layer; rate and epochs chosen by inner folds",
        paper="Bardes et al., Revisiting Feature Prediction for Learning Visual Representations from Video",
        year=2024,
        link="https://arxiv.org/abs/2404.08471",
        departures=(
            "Places are scored by a hidden layer with tanh (Ilse et al. 2018); the paper has a block of "
            "cross-attention, with more parameters than a few hundred labels can train.",
        ),
    )
    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary", "multiclass", "multilabel", "ordinal", "regression"})
    readout = "attention"

    def predict(self, problem: EncoderProblem) -> Prediction:
        """Train on the training volumes, predict the test volumes; see :meth:`EncoderProtocol.predict`."""
        check_targets(problem.train_y, problem.task)
        maps = places(problem, [*problem.train, *problem.test])  # (N + N_test, T, F)
        training, test = maps[: len(problem.train)], maps[len(problem.train) :]
        rates = sorted(self.config.lr)
        # Of equal AUCs the longest training wins: after one epoch the order may be right with every probability at 0.5.
        grid = [(lr, epochs) for epochs in range(self.config.epochs, 0, -1) for lr in rates]

        def fit_predict(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
            by_rate = {
                lr: [*self._train(problem, training[fit], problem.train_y[fit], training[held], lr=lr)] for lr in rates
            }
            return np.stack([by_rate[lr][epochs - 1] for lr, epochs in grid])  # (G, n, K)

        choice = choose(fit_predict, _without_features(problem), default=0)
        lr, epochs = grid[choice.index]
        *_, probabilities = self._train(problem, training, problem.train_y, test, lr=lr, epochs=epochs)
        chosen = {"lr": lr, "epochs": epochs, **choice.report}
        edge = edge_note("learning rate", lr, rates, "protocol.attentive.lr") if choice.chose else ()
        return Prediction(probabilities, choice.threshold, chosen, choice.out_of_fold, edge)

    def _train(
        self,
        problem: EncoderProblem,
        maps: Tensor,
        y: np.ndarray,
        queries: Tensor,
        *,
        lr: float,
        epochs: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Train on maps (N, T, F) with targets; yield the predictions (n, K) for queries (n, T, F) after each epoch.

        Features are standardised by mean and standard deviation over the cases and positions of the maps being fitted.
        The learning rate follows a cosine over all configured epochs, even if fewer are run.
        """
        config = self.config
        objective = Objective.of(problem.task, y, balance="none", device=problem.device)
        std, mean = torch.std_mean(maps, dim=(0, 1))
        maps, queries = ((x - mean) / std.clamp_min(torch.finfo(std.dtype).tiny) for x in (maps, queries))
        model = AttentionPooling(maps.shape[2], config, problem.task.outputs, problem.seed).to(problem.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=config.weight_decay)
        targets = torch.from_numpy(y).to(problem.device)
        batches = math.ceil(len(y) / config.batch_size)
        for epoch in range(epochs or config.epochs):
            order = epoch_order(y, [problem.seed, epoch], balanced=False)
            for index, part in enumerate(np.array_split(order, batches)):
                share = (epoch + index / batches) / config.epochs
                optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * share)) / 2
                loss = objective.loss(model(maps[part]), targets[part])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                optimizer.step()
            with torch.no_grad():
                outputs = model(queries)
            if not torch.isfinite(outputs).all():
                raise RecipeError("the attentive probe gives values that are not finite: lower protocol.attentive.lr")
            yield objective.predict(outputs).cpu().numpy()


class AttentionPooling(nn.Module):
    """Weighted means of positions with learned weights (Ilse et al. 2018, equations 7 and 8), and a linear layer.

    The linear layer is initialised to zero, so that all classes are equally likely at first.

    Args:
        width: F, the width of the features.
        config: heads and hidden width.
        outputs: K, the number of outputs.
        seed: seed of the scoring layer's initial weights.
    """

    def __init__(self, width: int, config: AttentiveConfig, outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.hidden = nn.Parameter(torch.randn(config.hidden_dim, width, generator=generator) / math.sqrt(width))
        self.score = nn.Parameter(
            torch.randn(config.heads, config.hidden_dim, generator=generator) / math.sqrt(config.hidden_dim)
        )
        self.weight = nn.Parameter(torch.zeros(outputs, config.heads * width))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, places: Tensor) -> Tensor:
        """Return outputs (B, K) for positions (B, T, F)."""
        weights = F.linear(F.linear(places, self.hidden).tanh(), self.score).softmax(dim=1)  # (B, T, heads)
        return F.linear((weights.transpose(1, 2) @ places).flatten(1), self.weight, self.bias)


def places(problem: EncoderProblem, volumes: Sequence[int]) -> Tensor:
    """Return the positions (n, T, F) of the coarsest feature map of whole volumes, on the problem's device.

    Raises:
        DataError: a value is not finite.
    """
    found = []
    with evaluating(problem.encoder), torch.no_grad():
        weight = next(problem.encoder.parameters())
        for start in range(0, len(volumes), problem.batch_size):
            part = list(volumes[start : start + problem.batch_size])
            x = whole(problem.source.volumes(part, problem.device), problem.view_size).to(weight.dtype)
            coarse = problem.encoder.forward_features(x)[-1].float()  # (B, F, D, H, W)
            found.append(F.adaptive_avg_pool3d(coarse, _coarser(coarse.shape[2:])).flatten(2).transpose(1, 2))
            if problem.progress is not None:
                problem.progress(start + len(part), len(volumes))
    maps = torch.cat(found)
    if not torch.isfinite(maps).all():
        raise DataError("the encoder gives values that are not finite; its pretraining has diverged: lower pretrain.lr")
    return maps


def _coarser(size: Sequence[int]) -> tuple[int, int, int]:
    """Return the size to average a map to: the same slices, and an in-plane size that limits the positions."""
    slices, rows, columns = size
    shrink = max(1.0, math.sqrt(slices * rows * columns / MOST_PLACES))
    return slices, max(1, int(rows / shrink)), max(1, int(columns / shrink))


def _without_features(problem: EncoderProblem) -> FeatureProblem:
    """Return the parts of a problem that selection by inner folds needs."""
    nothing = np.empty((len(problem.train), 0))
    return FeatureProblem(
        nothing, problem.train_y, nothing[:0], problem.task, problem.patients, problem.folds, problem.seed
    )
