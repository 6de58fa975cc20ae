"""DINOv2: learning robust visual features without supervision (Oquab et al. 2023), https://arxiv.org/abs/2304.07193.

DINO's agreement of a student with its momentum teacher on crops, iBOT's agreement on single patches (Zhou et al. 2021,
https://arxiv.org/abs/2111.07832), and KoLeo, which spreads the features of the effective batch. The student sees some
large crops with blocks of patches masked and assigns the masked patches to prototypes as the teacher does, which sees
them. The teacher's assignments are balanced over the prototypes by Sinkhorn's algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.config import Ordered
from ssl3d.errors import RecipeError
from ssl3d.method import (
    AUTO_MOMENTUM,
    AutoMomentum,
    Backbone,
    Batch,
    Card,
    Field,
    Kept,
    Loss,
    Method,
    Momentum,
    MomentumSetting,
    ParameterGroup,
    Rng,
    Rows,
    Views,
    Volumes,
    cosine_momentum,
)
from ssl3d.parts.masks import BLOCK_DRAWS, block_mask
from ssl3d.parts.multicrop import small_crops
from ssl3d.parts.prototypes import (
    PrototypeHead,
    SelfDistillationConfig,
    Share,
    crop_cross_entropy,
    masked_cross_entropy,
    prototype_groups,
    sinkhorn,
)
from ssl3d.parts.tokens import token_grid, whole_patches

ASPECT = (0.3, 1 / 0.3)  # of the height to the width of a masked block
BLOCKS = 16  # masked blocks that are tried
ITERATIONS = 3  # of Sinkhorn's algorithm


class DINOv2Config(SelfDistillationConfig):
    """Settings of DINOv2."""

    local_crop: Annotated[tuple[Share, Share], Ordered] = Field(
        (0.05, 0.32), description="range of the share of the in-plane area they keep"
    )
    freeze_prototypes: float = Field(0.002, ge=0, lt=1, description="share of the training before the prototypes move")
    temperature_warmup: float = Field(0.06, ge=0, le=1, description="share of the training over which it rises")
    mask_probability: float = Field(
        0.5, ge=0, le=1, description="probability that a large crop is masked for the student"
    )
    mask_ratio: Annotated[tuple[Share, Share], Ordered] = Field(
        (0.1, 0.5), description="range of the share of its patches that is masked"
    )
    patch_weight: float = Field(1.0, ge=0, description="of the loss of masked patches (iBOT); 1 for the crops (DINO)")
    koleo_weight: float = Field(0.1, ge=0, description="of KoLeo")
    separate_heads: bool = Field(True, description="a head of its own for patches; otherwise that of the crops")
    centering: Literal["sinkhorn", "center"] = Field(
        "sinkhorn", description="what balances the teacher's assignments; center: a running mean, as in DINO"
    )
    momentum: Annotated[MomentumSetting, AutoMomentum(0.994)] = Field(
        "auto", description="weight of the old teacher; rises to 1 (cosine); 0.994 in the paper"
    )


class DINOv2(Method[DINOv2Config]):
    """DINOv2 on volumes: Sinkhorn and KoLeo see the whole effective batch."""

    card: ClassVar[Card] = Card(
        name="DINOv2",
        summary="matches a momentum teacher's prototype assignments of crops, and of patches that it alone sees",
        paper="Oquab et al., DINOv2: Learning Robust Visual Features without Supervision",
        year=2023,
        link="https://arxiv.org/abs/2304.07193",
        departures=(
            "Crops are 3D and have intensity changes; there is no colour to jitter and no solarisation.",
            "Large crops keep the recipe's share of the plane (40% to all of it), in the paper 32% to all of it.",
            "A masked block spans a random number of slices of patches; in the plane it is drawn as in the paper.",
            "Of the two large crops of each volume one is masked; in the paper, half of the crops of a batch.",
            "KoLeo spreads the first large crops of the effective batch; in the paper of one GPU, in its code both.",
            "Heads have 65,536 prototypes, as in the paper's smaller training; 131,072 in its large ones.",
            "Warm-up and freezing are shares of the training, those of 30 epochs and of one in 500.",
            "Learning rate, its decay by layers and batch are the recipe's; networks drop no paths.",
            "It is iBOT with koleo_weight = 0, separate_heads = false, centering = 'center', prototypes = 8192 and "
            "momentum = 0.996.",
            AUTO_MOMENTUM,
        ),
    )
    preset: ClassVar[Mapping[str, Any]] = {
        "pretrain": {"weight_decay": 0.04, "weight_decay_end": 0.2, "clip_gradient": 3.0}
    }
    needs_tokens = True
    target_views = (0, 1)
    centers: Tensor

    def build(self) -> None:
        """Make heads, mask token, teacher, centres, and the augmentation of small crops; large ones are whole patches.

        Raises:
            RecipeError: a large crop has too few patches to mask one.
        """
        config, patch = self.config, self.backbone.patch_size
        self.augment = self.augment.replace(whole_patches(self.augment.size, patch))
        self.grid = token_grid(self.augment.size, patch)
        if math.prod(self.grid) * config.mask_ratio[1] <= 1:
            raise RecipeError(
                f"view_size = {self.augment.size} is {math.prod(self.grid)} patches of {patch} voxels, too few to mask "
                f"a share of {config.mask_ratio[1]:g}; DINOv2 needs larger views"
            )
        self.local = small_crops(self.augment, self.backbone, config.local_size, config.local_crop, config.local_depth)
        width = self.backbone.embed_dim
        self.patch_head = "patches" if config.separate_heads else "crops"
        self.heads = nn.ModuleDict(
            {
                name: PrototypeHead(width, config.hidden_dim, config.bottleneck_dim, config.prototypes)
                for name in dict.fromkeys(("crops", self.patch_head))
            }
        )
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.teacher, self.teacher_heads = Momentum(self.backbone), Momentum(self.heads)
        self.register_buffer("centers", torch.zeros(2, config.prototypes))  # of crops, of patches

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        """Return two large crops, each with a mask of its patches (B, T), and the small ones."""
        large = [self.augment(volumes, rng) for _ in range(2)]
        small = [self.local(volumes, rng) for _ in range(self.config.local_crops)]
        first = rng.numbers()
        masks = (self.mask(rng, (first + shift) % 1).to(large[0].device) for shift in (0, 0.5))
        return Views(*large, *small, mask=(*masks, *(None for _ in small)))

    def mask(self, rng: Rng, number: np.ndarray) -> Tensor:
        """Return masks (B, T), empty where a number (B,) is above the probability of a mask."""
        patches = math.prod(self.grid)
        counts = (patches * rng.numbers(*self.config.mask_ratio)).astype(int) * (number < self.config.mask_probability)
        draws = rng.numbers(count=BLOCKS * BLOCK_DRAWS).reshape(-1, BLOCKS, BLOCK_DRAWS)
        masks = [block_mask(self.grid, *one, ASPECT) for one in zip(counts, draws, strict=True)]
        return torch.from_numpy(np.stack(masks)).flatten(1)

    def online(self, view: Tensor, rows: Rows) -> Mapping[str, Tensor]:
        """Return features (B, F), and those of the patches (B, T, F) of a large crop, some of them masked."""
        if "mask" not in rows:
            return {"pooled": self.backbone(view)}
        return self.backbone.forward_tokens(view, mask=rows["mask"], mask_token=self.mask_token)._asdict()

    def target(self, view: Tensor, rows: Rows) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return the teacher's features (B, F), and those of all patches (B, T, F)."""
        return self.teacher.module.forward_tokens(view)._asdict()

    def loss(self, batch: Batch) -> Loss:
        """Return the weighted sum of the losses of crops, of masked patches, and of KoLeo."""
        config = self.config
        pooled = torch.stack([view["pooled"] for view in batch.online_maps])  # (V, N, F)
        mask = torch.stack([rows["mask"] for rows in batch.view_rows[:2]])  # (2, N, T)
        patches = torch.stack([view["patches"] for view in batch.online_maps[:2]])[mask]  # (M, F)
        with torch.no_grad():
            heads, seen = self.teacher_heads.module, batch.target_maps
            outputs = (
                heads["crops"](torch.cat([view["pooled"] for view in seen])),  # (2 N, K)
                heads[self.patch_head](torch.stack([view["patches"] for view in seen])[mask]),  # (M, K)
            )
            crops, hidden = (self.assign(*pair, batch.progress) for pair in zip(outputs, self.centers, strict=True))
        scores = self.heads["crops"](pooled) / config.student_temperature  # (V, N, K)
        crop_loss = crop_cross_entropy(crops.view(2, -1, config.prototypes), scores)
        patch_scores = self.heads[self.patch_head](patches) / config.student_temperature  # (M, K)
        patch_loss = masked_cross_entropy(hidden, patch_scores, mask)
        spread = koleo(pooled[0])
        return Loss(
            crop_loss + config.patch_weight * patch_loss + config.koleo_weight * spread,
            scalars={"crops": crop_loss, "patches": patch_loss, "koleo": spread},
            sums={
                "teacher": torch.stack([one.sum(dim=0) for one in outputs]),  # (2, K)
                "count": pooled.new_tensor([len(one) for one in outputs]),
            },
        )

    def assign(self, outputs: Tensor, center: Tensor, progress: float) -> Tensor:
        """Return the assignments (M, K) of the teacher's outputs (M, K), balanced over the prototypes."""
        temperature = self.config.temperature(progress)
        if self.config.centering == "center":
            return F.softmax((outputs - center) / temperature, dim=-1)
        return sinkhorn(outputs / temperature, ITERATIONS) if len(outputs) else outputs

    def after_step(self, progress: float, kept: Kept) -> None:
        """Update the teacher, and the centres by the means of its outputs over the effective batch."""
        momentum = cosine_momentum(self.resolved["momentum"], progress)
        self.teacher.update(momentum)
        self.teacher_heads.update(momentum)
        if self.config.centering == "center":
            count = kept.sums["count"][:, None]  # (2, 1); of patches it may be 0
            weight = (1 - self.config.center_momentum) * (count > 0).to(count)
            self.centers.lerp_(kept.sums["teacher"] / count.clamp(min=1), weight)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the default groups, and the prototypes, which are frozen at first."""
        return prototype_groups(self, self.config.freeze_prototypes)

    def encoder(self) -> Backbone:
        """Return the teacher, which the paper evaluates."""
        return self.teacher.module


def koleo(features: Tensor) -> Tensor:
    """Return minus the mean logarithm of the distance of unit features (N, F) to their nearest neighbours.

    The Kozachenko-Leonenko estimate of the entropy (Sablayrolles et al. 2018, arXiv 1806.03198, equation 5); 0 for a
    single volume.
    """
    if len(features) < 2:
        return features.new_zeros(())
    unit = F.normalize(features, dim=1)
    nearest = (unit @ unit.T).detach().fill_diagonal_(-torch.inf).argmax(dim=1)  # (N,)
    distance = F.pairwise_distance(unit, unit[nearest], eps=1e-8)
    return -(distance + 1e-8).log().mean()
