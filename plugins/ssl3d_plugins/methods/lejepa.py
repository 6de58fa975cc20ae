"""LeJEPA: provable and scalable self-supervised learning without the heuristics (Balestriero & LeCun 2025).

https://arxiv.org/abs/2511.08544. The projections of all crops of a volume are drawn to the mean of its large crops,
and over the effective batch to an isotropic Gaussian, which prevents collapse without teacher, predictor or negatives.
The distance from the Gaussian is measured along random directions, by characteristic functions (SIGReg).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from lightly.models.modules.heads import LeJEPAProjectionHead
from torch import Tensor
from torch.nn import functional as F

from ssl3d.method import Batch, Card, Config, Field, Loss, Method, Rng, Views, Volumes
from ssl3d.parts.multicrop import small_crops

Share = Annotated[float, Field(gt=0, le=1)]


class LeJEPAConfig(Config):
    """Settings of LeJEPA."""

    local_crops: int = Field(6, ge=0, description="small crops")
    local_size: float = Field(0.43, gt=0, le=1, description="their size along each axis, as a share of a large crop's")
    local_crop: tuple[Share, Share] = Field(
        (0.05, 0.3), description="range of the share of the in-plane area they keep"
    )
    local_depth: tuple[Share, Share] = Field((0.3, 0.6), description="range of the share of the slices they keep")
    hidden_dim: int = Field(2048, ge=1, description="width of the projector's two hidden layers")
    projection_dim: int = Field(128, ge=1, description="width of its output")
    weight: float = Field(0.05, ge=0, le=1, description="of SIGReg; the distance between crops has the rest")
    directions: int = Field(1024, ge=1, description="random directions of SIGReg, drawn anew in every step")
    frequencies: int = Field(17, ge=2, description="where the characteristic functions are compared, from 0 to the end")
    frequency_end: float = Field(3.0, gt=0, description="the highest frequency")


class LeJEPA(Method[LeJEPAConfig]):
    """LeJEPA on volumes: SIGReg sees the whole effective batch."""

    card: ClassVar[Card] = Card(
        name="LeJEPA",
        summary="draws crops together while their projections stay an isotropic Gaussian; no teacher, no negatives",
        paper="Balestriero & LeCun, LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics",
        year=2025,
        link="https://arxiv.org/abs/2511.08544",
        departures=(
            "Crops are 3D and have intensity changes; there is no colour to jitter and no solarisation.",
            "The network drops no paths.",
            "Learning rate and batch are the recipe's.",
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {"pretrain": {"weight_decay": 0.05}}

    def build(self) -> None:
        """Make the projector and the augmentation of small crops."""
        config = self.config
        self.local = small_crops(self.augment, self.backbone, config.local_size, config.local_crop, config.local_depth)
        self.projector = LeJEPAProjectionHead(self.backbone.embed_dim, config.hidden_dim, config.projection_dim)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return two large crops and the small ones."""
        large = [self.augment(volumes, rng) for _ in range(2)]
        return Views(*large, *(self.local(volumes, rng) for _ in range(self.config.local_crops)))

    def loss(self, batch: Batch) -> Loss:
        """Return the weighted sum of SIGReg and of the distance to the mean of the large crops (section 5.1)."""
        features = torch.stack(batch.online)  # (V, N, F)
        projection = self.projector(features.flatten(0, 1)).view(*features.shape[:2], -1)  # (V, N, P)
        distance = (projection - projection[:2].mean(dim=0)).square().mean()
        # Drawn on the host from the generator seeded around the loss, so that all processes have the same directions.
        directions = torch.randn(projection.shape[2], self.config.directions).to(projection)  # (P, A)
        gaussian = self.sigreg(projection, F.normalize(directions, dim=0))
        value = self.config.weight * gaussian + (1 - self.config.weight) * distance
        return Loss(value, scalars={"distance": distance, "sigreg": gaussian})

    def sigreg(self, projection: Tensor, directions: Tensor) -> Tensor:
        """Return the mean Epps-Pulley statistic of projections (V, N, P) along directions (P, A) of unit length.

        It is N times the squared distance between the characteristic functions of the N volumes and of a standard
        Gaussian, exp(-t^2 / 2), weighted by the latter and integrated over t by the trapezoidal rule (equation 6).
        """
        t = torch.linspace(0, self.config.frequency_end, self.config.frequencies).to(projection)  # (T,)
        gaussian = (-t.square() / 2).exp()
        angle = (projection @ directions)[..., None] * t  # (V, N, A, T)
        error = (angle.cos().mean(dim=1) - gaussian).square() + angle.sin().mean(dim=1).square()  # (V, A, T)
        return 2 * projection.shape[1] * torch.trapezoid(error * gaussian, t).mean()  # factor 2: t < 0 gives the same
