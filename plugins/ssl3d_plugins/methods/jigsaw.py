"""Jigsaw: unsupervised learning by solving jigsaw puzzles (Noroozi & Favaro 2016), https://arxiv.org/abs/1603.09246.

On knee MRI: Manna et al. 2020, https://arxiv.org/abs/2007.07761. A volume is cut into pieces, the pieces are shuffled,
and the network predicts which of several permutations was used. Each piece is encoded separately, so that the network
learns the location of anatomy rather than the matching of neighbouring edges.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Views, Volumes


class JigsawConfig(Config):
    """Settings of Jigsaw."""

    pieces: int = Field(4, ge=2, le=8, description="runs of slices that a volume is cut into")
    gap: int = Field(1, ge=0, description="slices by which a piece may move within its part of the volume")
    permutations: int = Field(1000, ge=2, description="permutations to choose from, if there are as many")
    hidden_dim: int = Field(4096, ge=1, description="width of the head's hidden layer")


class Jigsaw(Method[JigsawConfig]):
    """Jigsaw of slices: the pieces are runs of slices, each a view."""

    card: ClassVar[Card] = Card(
        name="Jigsaw",
        summary="finds the order of a volume's shuffled runs of slices",
        paper="Noroozi & Favaro, Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles",
        year=2016,
        link="https://arxiv.org/abs/1603.09246",
        departures=(
            "Pieces are four runs of slices in 24 permutations; in the paper, nine tiles of an image in up to 1,000.",
            "Features of the pieces are the backbone's own, not a layer of 512.",
            "Views have the recipe's intensity changes; the paper has crops and grey images.",
            "Optimiser, learning rate and batch are the recipe's, not the paper's (SGD, batches of 256).",
        ),
    )
    coupled = False

    def build(self) -> None:
        """Choose the permutations and make the head."""
        config, (depth, H, W) = self.config, self.augment.size
        self.order = distant_permutations(config.pieces, config.permutations)  # (K, P)
        self.slices = max(depth // config.pieces, self.backbone.min_size[0])  # slices per piece
        size = (config.pieces * (self.slices + config.gap), H, W)
        self.augment = self.augment.replace(size, flip=(0.0, *self.augment.recipe.flip[1:]))
        width = config.pieces * self.backbone.embed_dim
        self.head = nn.Sequential(
            nn.Linear(width, config.hidden_dim), nn.ReLU(), nn.Linear(config.hidden_dim, len(self.order))
        )

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return the P pieces (B, C, D / P, H, W) in a random order, and the index (B,) of that order."""
        view = self.augment(volumes, rng)
        part = view.shape[2] // self.config.pieces
        drawn = rng.numbers(0, len(self.order)).astype(np.int64)  # (B,)
        moved = rng.numbers(0, part - self.slices + 1, count=self.config.pieces).astype(np.int64)  # (B, P)
        first = np.arange(self.config.pieces) * part + moved
        first = np.take_along_axis(first, self.order[drawn], axis=1)  # (B, P), in the order of the permutation
        slices = torch.from_numpy(first[:, :, None] + np.arange(self.slices)).to(view.device)  # (B, P, D / P)
        volume = torch.arange(len(view), device=view.device)[:, None]
        pieces = [view.transpose(1, 2)[volume, slices[:, p]].transpose(1, 2) for p in range(self.config.pieces)]
        index = torch.from_numpy(drawn).to(view.device)
        # Standardised one by one, as in the paper: brightness and contrast would give neighbours away.
        return Views(*(F.layer_norm(piece, piece.shape[1:]) for piece in pieces), permutation=index)

    def loss(self, batch: Batch) -> Loss:
        """Return the cross-entropy of the permutation, predicted from the features of all pieces."""
        logits = self.head(torch.cat(batch.online, dim=1))  # (N, K)
        permutation = batch.rows["permutation"]
        accuracy = (logits.argmax(dim=1) == permutation).to(logits.dtype).mean()
        return Loss(F.cross_entropy(logits, permutation), scalars={"accuracy": accuracy})


def distant_permutations(pieces: int, count: int) -> NDArray[np.int64]:
    """Return up to ``count`` permutations (K, P), each as far as possible from the earlier ones (algorithm 1)."""
    every = np.array(list(permutations(range(pieces))))  # (P!, P), the identity first
    chosen = [0]
    distance = np.full(len(every), pieces)  # Hamming distance to the nearest chosen one
    for _ in range(min(count, factorial(pieces)) - 1):
        distance = np.minimum(distance, (every != every[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return every[chosen]
