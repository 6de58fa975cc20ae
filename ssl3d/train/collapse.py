"""Measures of collapse on the features of one effective batch, cheap enough for every epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

COLLAPSED_STD = 0.01  # of unit vectors, relative to an isotropic cloud: a mean cosine of 0.9999
COLLAPSED_RANK = 1.5  # a single direction has effective rank 1
FEWEST = 8  # volumes; with fewer, these measures mean nothing: two points always lie on a line


@torch.no_grad()
def measure(features: Sequence[Tensor]) -> dict[str, float]:
    """Return collapse measures of online features, one tensor (N, F) per view.

    - ``feature_std``: mean standard deviation of unit-length features, times sqrt(F): 1 for an isotropic cloud, 0 for a
      point (Chen & He 2021, arXiv 2011.10566, section 4.1).
    - ``effective_rank``: RankMe, the exponential of the entropy of the singular values of the centred features
      (Garrido et al. 2023, arXiv 2210.02885).
    - ``alignment``, ``uniformity``: of unit-length features of two views, and of the first view (Wang & Isola 2020,
      arXiv 2005.10242, alpha = 2, t = 2).
    """
    units = [F.normalize(view.double(), dim=1) for view in features[:2]]
    first = units[0]
    measures = {
        "feature_std": float(first.std(0).mean()) * math.sqrt(first.shape[1]),
        "effective_rank": _effective_rank(features[0].double()),
        "uniformity": float(torch.pdist(first).square().mul(-2).exp().mean().clamp_min(1e-300).log()),
    }
    if len(units) == 2:
        measures["alignment"] = float((units[0] - units[1]).square().sum(1).mean())
    return measures


def collapsed(measures: dict[str, float], volumes: int) -> bool | None:
    """Return whether the measures are those of a point or a line; None if there are too few volumes."""
    if volumes < FEWEST:
        return None
    return measures["feature_std"] < COLLAPSED_STD or measures["effective_rank"] < COLLAPSED_RANK


def _effective_rank(features: Tensor) -> float:
    values = torch.linalg.svdvals(features - features.mean(0))
    shares = values / values.sum().clamp_min(1e-300) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))
