"""What methods that assign crops to prototypes share: DINO, DINOv2, SwAV."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.config import Config, Ordered
from ssl3d.parts.parameters import ParameterGroup, split_by_decay

Share = Annotated[float, Field(gt=0, le=1)]


class SelfDistillationConfig(Config):
    """Settings of DINO and of methods built on it: small crops, heads, temperatures; the defaults are DINO's."""

    local_crops: int = Field(8, ge=0, description="small crops, which only the student sees")
    local_size: float = Field(0.43, gt=0, le=1, description="their size along each axis, as a share of a large crop's")
    local_crop: Annotated[tuple[Share, Share], Ordered] = Field(
        (0.05, 0.4), description="range of the share of the in-plane area they keep"
    )
    local_depth: Annotated[tuple[Share, Share], Ordered] = Field(
        (0.3, 0.6), description="range of the share of the slices they keep"
    )
    hidden_dim: int = Field(2048, ge=1, description="width of a head's two hidden layers")
    bottleneck_dim: int = Field(256, ge=1, description="width of the layer before the prototypes")
    prototypes: int = Field(65536, ge=2, description="width of a head's output")
    freeze_prototypes: float = Field(0.01, ge=0, lt=1, description="share of the training before the prototypes move")
    student_temperature: float = Field(0.1, ge=0.03, description="divides the student's outputs")
    teacher_temperature: float = Field(0.07, ge=0.03, description="divides the teacher's outputs after the warm-up")
    teacher_temperature_start: float = Field(0.04, ge=0.03, description="divides them at the start of the training")
    temperature_warmup: float = Field(0.1, ge=0, le=1, description="share of the training over which it rises")
    center_momentum: float = Field(0.9, ge=0, le=1, description="weight of the old centre")

    def temperature(self, progress: float) -> float:
        """Return the teacher's temperature, which rises linearly during the warm-up."""
        if progress >= self.temperature_warmup:
            return self.teacher_temperature
        risen = progress / self.temperature_warmup
        return self.teacher_temperature_start + risen * (self.teacher_temperature - self.teacher_temperature_start)


class PrototypeHead(nn.Module):
    """Three layers, then the cosine with each prototype (DINO, Caron et al. 2021, arXiv 2104.14294, appendix C).

    The last layer is weight-normalised, with its magnitude fixed at 1.

    Args:
        width: features, F.
        hidden: width of the two hidden layers.
        bottleneck: width of the layer before the prototypes.
        prototypes: outputs, K.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        linear = [nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, bottleneck)]
        for layer in linear:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(linear[0], nn.GELU(), linear[1], nn.GELU(), linear[2])
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return one output per prototype, (..., K), for features (..., F)."""
        return F.linear(F.normalize(self.layers(features), dim=-1), F.normalize(self.prototypes.weight, dim=-1))


def crop_cross_entropy(assigned: Tensor, scores: Tensor) -> Tensor:
    """Return the mean cross-entropy over pairs of an assigned crop and another, predicting crop (DINO, equation 3).

    Args:
        assigned: (A, N, K), the assignments of the first A crops; each sums to 1 over the prototypes.
        scores: (V, N, K), the predictions of all V crops, before the softmax.
    """
    pairs = -torch.einsum("ank,vnk->av", assigned, F.log_softmax(scores, dim=-1)) / scores.shape[1]  # (A, V)
    others = 1 - torch.eye(*pairs.shape, dtype=pairs.dtype, device=pairs.device)  # not the same crop
    return (pairs * others).sum() / others.sum()


def masked_cross_entropy(assigned: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over crops of the mean cross-entropy of their masked patches; 0 for a crop without any.

    iBOT, Zhou et al. 2021, arXiv 2111.07832, equation 2.

    Args:
        assigned: (M, K), assignments of all masked patches, in the order of the mask.
        scores: (M, K), predictions before the softmax.
        mask: (A, N, T), true for the M masked patches.
    """
    weight = 1 / mask.sum(dim=2, keepdim=True).expand_as(mask)[mask].to(scores)  # (M,)
    entropy = -(assigned * F.log_softmax(scores, dim=-1)).sum(dim=1)  # (M,)
    return (entropy * weight).sum() / mask[..., 0].numel()


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """Return assignments (M, K) with sum 1 per row and equal use of the prototypes (Cuturi 2013, arXiv 1306.0895).

    Args:
        scores: (M, K), divided by a temperature.
        iterations: number of normalisations of prototypes, then rows; more make the use more equal.
    """
    assignment = (scores - scores.max()).exp()  # a common factor has no effect, and prevents overflow
    for _ in range(iterations):
        assignment = F.normalize(assignment, p=1, dim=0, eps=0)
        assignment = F.normalize(assignment, p=1, dim=1, eps=0)
    return assignment


def prototype_groups(method: nn.Module, frozen_until: float) -> list[ParameterGroup]:
    """Return the default groups of a method, and its prototypes, which are frozen at first.

    Args:
        method: its prototypes are the modules named ``prototypes``.
        frozen_until: fraction of the training during which they stay fixed.
    """
    decay, exempt = split_by_decay(method, lambda name: not _is_prototype(name))
    prototypes = [p for name, p in method.named_parameters() if p.requires_grad and _is_prototype(name)]
    return [
        ParameterGroup(decay),
        ParameterGroup(exempt, weight_decay=0.0),
        ParameterGroup(prototypes, frozen_until=frozen_until),
    ]


def _is_prototype(name: str) -> bool:
    return "prototypes" in name.split(".")
