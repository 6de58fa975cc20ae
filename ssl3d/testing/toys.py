"""The smallest things that satisfy the contracts: what plugins are checked with, and tests too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ssl3d.backbone import Backbone, BackboneConfig, Tokens
from ssl3d.card import Card
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.task import Kind, Task

SIZE = (4, 9, 7)  # anisotropic, and no two axes alike
TOKEN_SIZE = (4, 9, 6)  # whole patches of ToyTokens: 2 x 3 x 3
CPU = torch.device("cpu")
UNLABELLED = 5  # one volume in so many has no label
PATIENT_VOLUMES = 2  # volumes of one patient


class ToyBackbone(Backbone):
    """Two convolutions; ``norm`` chooses what stands between them, ``dropout`` draws at random."""

    card: ClassVar[Card] = Card("Toy", "two convolutions")
    embed_dim = 6

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None, dropout: float = 0.0) -> None:
        super().__init__(config, variant)
        norm = nn.BatchNorm3d(4) if self.config.norm == "batch" else nn.GroupNorm(2, 4)
        self.first = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), norm, nn.GELU(), nn.Dropout(dropout))
        self.second = nn.Conv3d(4, 6, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return maps (B, 4, D, H, W) and (B, 6, D, H/2, W/2), rounded up."""
        first = self.first(x)
        return [first, self.second(first)]


class ToyTokens(Backbone):
    """Patches, positions from their coordinates, and one block of attention."""

    card: ClassVar[Card] = Card("Toy tokens", "one transformer block")
    embed_dim = 12
    tokens = True
    patch_size = (2, 3, 2)
    min_size = (2, 3, 2)

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.patches = nn.Conv3d(1, 12, self.patch_size, stride=self.patch_size)
        self.positions = nn.Linear(3, 12, bias=False)
        self.query, self.value = nn.Linear(12, 24), nn.Linear(12, 12)
        self.norm = nn.LayerNorm(12)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return one map (B, 12, D/2, H/3, W/2), rounded down."""
        grid = [length // patch for length, patch in zip(x.shape[2:], self.patch_size, strict=True)]
        tokens = self.forward_tokens(x).patches.transpose(1, 2)  # (B, 12, T)
        return [tokens.reshape(*tokens.shape[:2], *grid)]

    def forward_tokens(
        self,
        x: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tokens:
        """Return the mean token (B, 12), and all tokens (B, T, 12), or the kept ones (B, K, 12)."""
        patches = self.patches(x)  # (B, 12, D/2, H/3, W/2)
        tokens = patches.flatten(2).transpose(1, 2)  # (B, T, 12)
        if mask is not None and mask_token is not None:
            tokens = torch.where(mask.unsqueeze(2), mask_token.to(tokens.dtype), tokens)
        axes = [torch.arange(length, device=x.device) / length for length in patches.shape[2:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)  # (T, 3)
        tokens = tokens + self.positions(places.to(self.positions.weight.dtype))
        if keep is not None:
            tokens = tokens.gather(1, keep.unsqueeze(2).expand(-1, -1, tokens.shape[2]))  # (B, K, 12)
        query, key = self.query(tokens).chunk(2, dim=2)
        attention = (query @ key.transpose(1, 2) / 12**0.5).softmax(dim=2)
        mixed: Tensor = self.norm(attention @ self.value(tokens))
        tokens = tokens + mixed
        return Tokens(tokens.mean(dim=1), tokens)


class NoisyAugment(Augment):
    """Standardises and adds voxel noise: random, yet cheap and exact in float64."""

    def __init__(self) -> None:
        super().__init__(size=SIZE)

    def __call__(self, volumes: Volumes, rng: Rng) -> Tensor:
        """Return a view (B, 1, D, H, W) of volumes that have the toy size."""
        shift = [(voxels - m) / s for voxels, m, s in zip(volumes.voxels, volumes.mean, volumes.std, strict=True)]
        return torch.stack(shift) + 0.3 * rng.normal((1, *SIZE))


class ToySource:
    """Volumes of random noise, in memory, fresh copies each time; two of each patient, one in five without a label.

    Args:
        count: of the volumes.
        seed: of their voxels and labels.
        task: of the labels.
    """

    def __init__(self, count: int = 16, seed: int = 0, task: Task | None = None) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.data: Sequence[Tensor] = torch.rand((count, 1, *SIZE), generator=generator).unbind()
        self.task = task or toy_task("binary")
        self.labels = _labels(self.task, count)

    def volumes(self, indices: Sequence[int], device: torch.device = CPU) -> Volumes:
        """Return the volumes with these numbers."""
        voxels = tuple(self.data[index].to(device, copy=True) for index in indices)
        mean = torch.stack([voxel.float().mean() for voxel in voxels])
        return Volumes(voxels, mean, torch.stack([voxel.float().std() for voxel in voxels]))

    def rows(self, names: Iterable[str], indices: Sequence[int], device: torch.device = CPU) -> dict[str, Tensor]:
        """Return "labels", "patient" or "case" of the volumes with these numbers, one row per volume."""
        case = torch.tensor(list(indices), device=device)
        known = {"labels": self.labels.to(device)[case], "patient": case // PATIENT_VOLUMES, "case": case}
        return {name: known[name] for name in names}


class RaggedSource(ToySource):
    """The same as a packed store gives it: 8-bit, and every volume with a shape of its own."""

    def __init__(self, count: int = 16, seed: int = 0, task: Task | None = None) -> None:
        super().__init__(count, seed, task)
        generator = torch.Generator().manual_seed(seed)
        shapes = [(1, 3 + number % 4, 10 + number % 3, 11 - number % 2) for number in range(count)]
        self.data = [torch.randint(256, shape, generator=generator, dtype=torch.uint8) for shape in shapes]


def toy_task(kind: Kind) -> Task:
    """Return a task of a kind."""
    classes = {"binary": ("no", "yes"), "multilabel": ("edema", "effusion"), "regression": ()}
    return Task(name=f"toy {kind}", kind=kind, classes=classes.get(kind, ("mild", "moderate", "severe")))


def _labels(task: Task, count: int) -> Tensor:
    """Return targets as a corpus gives them: (N,) int64, -1 unknown; (N, L) or (N,) floating point, NaN unknown."""
    number = torch.arange(count)
    unknown = number % UNLABELLED == UNLABELLED - 1
    if task.categorical:
        return torch.where(unknown, -1, number * 7 % 11 % task.outputs)
    if task.kind == "regression":
        return torch.where(unknown, torch.nan, torch.sin(number * 1.7))
    each = number[:, None] * torch.tensor([7, 5])[: task.outputs] % 11 % 2
    return torch.where(unknown[:, None], torch.nan, each.float())
