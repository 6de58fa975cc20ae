"""Every method that trains, so small that a window takes milliseconds, and what a window of it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl3d.backbone import Backbone
from ssl3d.config import Config
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.method import Batch, Kept, Method, ParameterGroup, Views
from ssl3d.task import Task
from ssl3d.testing.toys import SIZE, ToyBackbone, ToySource, toy_task
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Part
from ssl3d.train.processes import Group
from ssl3d.train.window import Window
from ssl3d_plugins.backbones.vit3d import ViT3DConfig, ViT3DTiny
from ssl3d_plugins.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from ssl3d_plugins.methods.byol import BYOL, BYOLConfig
from ssl3d_plugins.methods.densecl import DenseCL, DenseCLConfig
from ssl3d_plugins.methods.dino import DINO, DINOConfig
from ssl3d_plugins.methods.dinov2 import DINOv2, DINOv2Config
from ssl3d_plugins.methods.ijepa import IJEPA, IJEPAConfig
from ssl3d_plugins.methods.jigsaw import Jigsaw, JigsawConfig
from ssl3d_plugins.methods.lejepa import LeJEPA, LeJEPAConfig
from ssl3d_plugins.methods.mae import MAE, MAEConfig
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.moco_v3 import MoCoV3, MoCoV3Config
from ssl3d_plugins.methods.models_genesis import ModelsGenesis, ModelsGenesisConfig
from ssl3d_plugins.methods.nnclr import NNCLR, NNCLRConfig
from ssl3d_plugins.methods.rotation import Rotation
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig
from ssl3d_plugins.methods.simmim import SimMIM, SimMIMConfig
from ssl3d_plugins.methods.simsiam import SimSiam, SimSiamConfig
from ssl3d_plugins.methods.spark import SparK, SparKConfig
from ssl3d_plugins.methods.supervised import Supervised
from ssl3d_plugins.methods.swav import SwAV, SwAVConfig
from ssl3d_plugins.methods.swinunetr_pretext import SwinUNETRPretext, SwinUNETRPretextConfig
from ssl3d_plugins.methods.vicreg import VICReg, VICRegConfig
from ssl3d_plugins.methods.voco import VoCo, VoCoConfig
from ssl3d_plugins.methods.volume_fusion import VolumeFusion, VolumeFusionConfig

VOLUMES = 12


class SmallViT(ViT3DTiny):
    """Four blocks, 12 wide, on patches of 2 x 3 x 2 voxels."""

    depth: ClassVar[int] = 4
    width, heads = 12, 2

    def __init__(self, config: ViT3DConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config or ViT3DConfig(patch=(2, 3, 2)), variant)


@dataclass(frozen=True)
class Small:
    """A method with small settings, and what it is trained with."""

    kind: type[Method[Any]]
    config: Config
    backbone: type[Backbone] = ToyBackbone
    task: Task | None = None

    def build(self, **settings: Any) -> Method[Any]:
        """Return it in float64, the same each time; settings are those of the method."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = self.config.model_copy(update=settings)
            return self.kind(self.backbone(), config, Augment(size=SIZE), self.task).double().train()

    def source(self) -> ToySource:
        """Return the volumes that it is trained on."""
        return ToySource(VOLUMES, task=self.task)


DINO_SMALL = DINOConfig(local_crops=4, hidden_dim=8, bottleneck_dim=5, prototypes=11, freeze_prototypes=0.0)
DINOV2_SMALL = DINOv2Config(local_crops=1, hidden_dim=8, bottleneck_dim=5, prototypes=11, freeze_prototypes=0.0)
IBOT_SMALL = DINOV2_SMALL.model_copy(update={"centering": "center", "separate_heads": False, "koleo_weight": 0.0})
SWAV_SMALL = SwAVConfig(
    local_crops=2, hidden_dim=8, projection_dim=5, prototypes=11, queue_size=17, queue_start=0.0, freeze_prototypes=0.0
)
SMALL = {
    "simclr": Small(SimCLR, SimCLRConfig(hidden_dim=8, projection_dim=5)),
    "byol": Small(BYOL, BYOLConfig(hidden_dim=8, projection_dim=5)),
    "moco": Small(MoCo, MoCoConfig(hidden_dim=8, projection_dim=5, queue_size=17)),
    "moco v3": Small(MoCoV3, MoCoV3Config(hidden_dim=8, projection_dim=5)),
    "simsiam": Small(SimSiam, SimSiamConfig(hidden_dim=5, projection_dim=8)),
    "barlow twins": Small(BarlowTwins, BarlowTwinsConfig(projection_dim=8)),
    "vicreg": Small(VICReg, VICRegConfig(projection_dim=8)),
    "nnclr": Small(NNCLR, NNCLRConfig(hidden_dim=8, predictor_dim=8, projection_dim=5, queue_size=17)),
    "swav": Small(SwAV, SWAV_SMALL),
    "lejepa": Small(LeJEPA, LeJEPAConfig(local_crops=2, hidden_dim=8, projection_dim=5, directions=7)),
    "dino": Small(DINO, DINO_SMALL),
    "dino tokens": Small(DINO, DINO_SMALL, SmallViT),
    "dinov2": Small(DINOv2, DINOV2_SMALL, SmallViT),
    "ibot": Small(DINOv2, IBOT_SMALL, SmallViT),
    "ijepa": Small(IJEPA, IJEPAConfig(predictor_dim=12, predictor_depth=1, predictor_heads=2), SmallViT),
    "mae": Small(MAE, MAEConfig(decoder_dim=12, decoder_depth=1, decoder_heads=2), SmallViT),
    "simmim": Small(SimMIM, SimMIMConfig(), SmallViT),
    "spark": Small(SparK, SparKConfig(decoder_width=8)),
    "models genesis": Small(ModelsGenesis, ModelsGenesisConfig(windows=20, decoder_width=8)),
    "volume fusion": Small(VolumeFusion, VolumeFusionConfig(decoder_width=8)),
    "rotation": Small(Rotation, Config()),
    "jigsaw": Small(Jigsaw, JigsawConfig(pieces=3, hidden_dim=8)),
    "densecl": Small(DenseCL, DenseCLConfig(hidden_dim=8, projection_dim=5, queue_size=17)),
    "voco": Small(VoCo, VoCoConfig(grid=(2, 1, 3), hidden_dim=8, projection_dim=5)),
    "swinunetr pretext": Small(SwinUNETRPretext, SwinUNETRPretextConfig(projection_dim=5)),
    "supervised binary": Small(Supervised, Config(), task=toy_task("binary")),
    "supervised multilabel": Small(Supervised, Config(), task=toy_task("multilabel")),
    "supervised regression": Small(Supervised, Config(), task=toy_task("regression")),
}


class Cut(Window):
    """A window whose micro-batches are given: any partition of this process's share."""

    cut: Sequence[Part] | None = None

    def _parts(self, batch: EffectiveBatch) -> list[Part]:
        return super()._parts(batch) if self.cut is None else list(self.cut)


@dataclass(frozen=True)
class Step:
    """What one window came to: everything that must not depend on the split, by name."""

    values: dict[str, Tensor]
    kept: Kept = field(default_factory=Kept)

    def distance(self, other: Step) -> dict[str, float]:
        """Return the relative distance of what differs by more than 1e-11, by name."""
        assert self.values.keys() == other.values.keys()
        pairs = {name: (value, other.values[name]) for name, value in self.values.items()}
        gaps = {name: relative(*pair) for name, pair in pairs.items()}
        return {name: gap for name, gap in gaps.items() if not gap < 1e-11}


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Return the distance between two tensors, relative to the second.

    Where that is shorter than 1e-4, the distance is relative to 1e-4: a bias that feeds a batch norm has a gradient of
    zero in mathematics, and of 1e-17 in arithmetic.
    """
    assert ours.shape == theirs.shape
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-4)) if not torch.equal(ours, theirs) else 0.0


def step(
    method: Method[Any],
    source: ToySource,
    micro_batch: int,
    batch: EffectiveBatch,
    cut: Sequence[Part] | None = None,
    keep: int = 1,
) -> Step:
    """Compute a window; the gradients stay with the parameters."""
    window = Cut(BatchEncoder(method, source, seed=3), micro_batch, True, Group.current(), keep=keep)
    window.cut = cut
    outcome = window.backward(batch)
    gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
    values = {f"scalar {name}": torch.tensor(value) for name, value in outcome.scalars.items()}
    values |= {f"row {name}": value for name, value in outcome.kept.rows.items()}
    values |= {f"sum {name}": value for name, value in outcome.kept.sums.items()}
    values |= {f"embedding {number}": value for number, value in enumerate(outcome.features)}
    return Step({**values, "gradient": torch.cat(gradients)}, outcome.kept)


def train(
    method: Method[Any], source: ToySource, micro_batch: int, windows: Sequence[range], total: int = 10
) -> list[Step]:
    """Move everything that a step moves, once for each window of volumes."""
    groups: list[ParameterGroup] = method.parameter_groups()
    optimizer = torch.optim.SGD([{"params": list(group.parameters)} for group in groups], 0.05, momentum=0.9)
    steps = []
    for number, volumes in enumerate(windows):
        found = step(method, source, micro_batch, EffectiveBatch(volumes, number, number / total))
        optimizer.step()
        method.after_step(number / total, found.kept)
        steps.append(found)
    return steps


def state(method: Method[Any]) -> Step:
    """Return weights, momentum encoders, queues and centres, by name."""
    return Step({name: value.clone() for name, value in method.state_dict().items()})


def batch_of(
    method: Method[Any], source: ToySource, count: int = VOLUMES, progress: float = 0.2, step: int = 1
) -> Batch:
    """Return what the loss sees of the first ``count`` volumes."""
    return BatchEncoder(method, source, seed=3).features(EffectiveBatch(range(count), step, progress), range(count))


def views_of(method: Method[Any], source: ToySource, positions: Sequence[int] = range(VOLUMES), step: int = 1) -> Views:
    """Return the views that a method makes of these volumes."""
    return method.views(source.volumes(positions), Rng(3, step, positions))
