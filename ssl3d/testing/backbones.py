"""The rules for backbones, and what asks them all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from ssl3d.backbone import Backbone, Norm
from ssl3d.registry import split_variant
from ssl3d.testing.declared import check_card, check_config, check_import
from ssl3d.testing.modules import (
    bfloat16,
    demand_finite_gradients,
    demand_gradients,
    demand_same_state,
    demand_single_registration,
    native_kernels,
    note_gradients,
)
from ssl3d.testing.randomness import seeded, untouched
from ssl3d.testing.runner import Finding, NotApplicable, Rule, raise_failures, require, run
from ssl3d.train.build import backbone_class
from ssl3d.train.cost import forward_flops

ODD = (1, 3, 5)  # voxels above the smallest size: odd, and no two axes alike
STEPS = 3  # enough to open residual branches that start at zero


class BackboneKit:
    """What rules ask of a backbone class.

    Args:
        kind: the class.
        variant: what follows the name in ``family/variant``.
    """

    def __init__(self, kind: type[Backbone], variant: str | None = None) -> None:
        self.kind = kind
        self.variant = variant

    def build(self, norm: Norm = "auto", seed: int = 0) -> Backbone:
        """Return the network in evaluation mode."""
        with seeded(seed):
            return self.kind(self.kind.Config(norm=norm), self.variant).eval()

    @cached_property
    def built(self) -> Backbone:
        """The network with its defaults; not to be changed."""
        return self.build()

    def volumes(self, more: tuple[int, int, int] = ODD, count: int = 2) -> Tensor:
        """Return noise (B, 1, D, H, W) of the smallest size and a little more."""
        size = [least + extra for least, extra in zip(self.kind.min_size, more, strict=True)]
        return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(1))


def check_backbone(
    backbone: str | type[Backbone],
    *,
    variant: str | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Check a backbone against its contract, at its smallest size and a little above it.

    Args:
        backbone: the class, or a registered name, ``family/variant``, ``module:Class`` or ``path/to/file.py:Class``.
        variant: what the class takes as such; a name brings its own.
        expected_failures: reasons, by the names of the rules that this backbone is known to break.

    Returns:
        One finding a rule.

    Raises:
        UserError: the name is unknown, its import fails, or an expected failure names no rule.
    """
    if isinstance(backbone, str):
        kind, variant = backbone_class(backbone), variant or split_variant("backbones", backbone)[1]
    else:
        kind = backbone
    return run(BackboneKit(kind, variant), RULES, expected_failures)


def assert_backbone(
    backbone: str | type[Backbone],
    *,
    variant: str | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise ConformanceError if a backbone breaks its contract: :func:`check_backbone`, for a test of one line."""
    findings = check_backbone(backbone, variant=variant, expected_failures=expected_failures)
    raise_failures(backbone if isinstance(backbone, str) else backbone.__name__, findings)


def check_it_builds(kit: BackboneKit) -> None:
    """The network is built from its defaults, and says its width and smallest size."""
    width = getattr(kit.built, "embed_dim", None)
    require(isinstance(width, int) and width > 0, f"embed_dim is {width!r}, not a number of features")
    size = kit.kind.min_size
    require(len(size) == 3 and min(size) >= 1, f"min_size is {size!r}, not three sizes (D, H, W)")


def check_the_seed_decides_the_weights(kit: BackboneKit) -> None:
    """The same seed builds the same weights."""
    demand_same_state(kit.built, kit.build())


def check_parameters_are_registered_once(kit: BackboneKit) -> None:
    """No parameter is registered under two names."""
    demand_single_registration(kit.built)


@torch.no_grad()
def check_features_have_the_stated_width(kit: BackboneKit) -> None:
    """Volumes (B, 1, D, H, W) of the smallest size, and of odd ones above it, become features (B, embed_dim)."""
    for more in ((0, 0, 0), ODD):
        volumes = kit.volumes(more)
        features, expected = kit.built(volumes), (2, kit.built.embed_dim)
        shape = tuple(features.shape)
        require(shape == expected, f"{tuple(volumes.shape)} becomes {shape} instead of {expected}")
        require(features.isfinite().all(), f"the features of {tuple(volumes.shape)} are not finite")


@torch.no_grad()
def check_feature_maps_go_from_fine_to_coarse(kit: BackboneKit) -> None:
    """forward_features gives maps (B, F, D, H, W), none finer than the one before."""
    maps = kit.built.forward_features(kit.volumes())
    shapes = [tuple(one.shape) for one in maps]
    require(shapes and all(len(shape) == 5 and shape[0] == 2 for shape in shapes), f"the maps have the shapes {shapes}")
    for fine, coarse in pairwise(maps):
        require(fine[0, 0].numel() >= coarse[0, 0].numel(), f"the maps get finer on the way: {shapes}")


@torch.no_grad()
def check_evaluation_is_repeatable(kit: BackboneKit) -> None:
    """In evaluation mode features are the same each time, no global random state moves, and the input stays."""
    volumes = kit.volumes()
    with seeded(1), untouched("the forward pass in evaluation mode"):
        first = kit.built(volumes)
    with seeded(2):
        again = kit.built(kit.volumes())
    require(torch.equal(volumes, kit.volumes()), "the forward pass changes its input")
    require(torch.equal(first, again), "in evaluation mode the same volumes have other features the second time")


@torch.no_grad()
def check_volumes_do_not_touch(kit: BackboneKit) -> None:
    """With norm = group a volume's features do not depend on its neighbours, in training mode too."""
    backbone = kit.build("group").double().train()
    volumes, others = kit.volumes((0, 0, 0)).double(), kit.volumes((0, 0, 0)).double()
    others[1:] = 2 * others[1:] + 1  # as large a batch: the same random draws
    with seeded(0):
        together = backbone(volumes)
    with seeded(0):
        changed = backbone(others)
    error = float((together[0] - changed[0]).abs().max())
    require(error < 1e-10, f"features change by {error:.1g} when another volume of the batch does")


def check_every_parameter_learns(kit: BackboneKit) -> None:
    """Every parameter that requires a gradient gets one that is not zero."""
    backbone = kit.build().double().train()
    trainable = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-3)
    gradients: dict[str, float] = {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        with seeded(0):
            features = backbone(kit.volumes().double())
        # A random direction: under a sum, say, what only moves features against each other would get no gradient.
        direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(2)).double()
        (features * direction).sum().backward()
        note_gradients(backbone, gradients)
        if all(gradients.get(name, 0.0) > 0 for name in trainable):
            break
        optimizer.step()
    demand_gradients(trainable, gradients)


@torch.no_grad()
def check_state_survives(kit: BackboneKit) -> None:
    """A state dict makes an instance from another seed give the same features."""
    other = kit.build(seed=1)
    other.load_state_dict(kit.built.state_dict())
    equal = torch.equal(kit.built(kit.volumes()), other(kit.volumes()))
    require(equal, "state is missing from the state dict: features differ")


@torch.no_grad()
def check_frozen_norms_do_not_move(kit: BackboneKit) -> None:
    """With norm = frozen a forward pass in training mode changes no buffer."""
    backbone = kit.build("frozen").train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    with seeded(0):
        backbone(kit.volumes())
    moved = [name for name, buffer in backbone.named_buffers() if not torch.equal(buffer, before[name])]
    require(not moved, f"with norm = frozen, training moves {', '.join(moved[:3])}")


def check_bfloat16(kit: BackboneKit) -> None:
    """Under bf16 autocast features and gradients are finite."""
    backbone = kit.build().train()
    with native_kernels():
        with seeded(0), bfloat16():
            features = backbone(kit.volumes())
        features.float().square().mean().backward()
    require(features.isfinite().all(), "under bf16 the features are not finite")
    demand_finite_gradients(backbone, "under bf16")


def check_its_cost_is_known(kit: BackboneKit) -> None:
    """Its operations can be counted without computing: it runs on torch's meta device."""
    size = tuple(kit.volumes().shape[2:])
    require(forward_flops(kit.built, (size[0], size[1], size[2])) > 0, "a forward pass counts no operations")


def check_weights(kit: BackboneKit) -> None:
    """Pretrained weights come over https into a plain file name, from a size that the network takes, with a licence."""
    if not kit.kind.weights:
        raise NotApplicable("it has no pretrained weights")
    for name, weights in kit.kind.weights.items():
        require(weights.url.startswith("https://"), f"weights {name!r}: the address {weights.url!r} is not https")
        plain = weights.file and "/" not in weights.file and not weights.file.startswith(".")
        require(plain, f"weights {name!r}: {weights.file!r} is no plain file name")
        fits = len(weights.size) == 3 and all(a >= b for a, b in zip(weights.size, kit.kind.min_size, strict=True))
        require(fits, f"weights {name!r}: trained at {weights.size}, below the smallest size {kit.kind.min_size}")
        require(weights.licence.strip(), f"weights {name!r}: no licence is stated")
    changed = kit.kind.load_pretrained is not Backbone.load_pretrained
    require(changed, "it has weights, and does not override load_pretrained")


_built = (check_it_builds,)
_runs = (check_it_builds, check_features_have_the_stated_width)
RULES: tuple[Rule[BackboneKit], ...] = (
    Rule(check_card),
    Rule(check_config),
    Rule(check_weights),
    Rule(check_import),
    Rule(check_it_builds),
    Rule(check_the_seed_decides_the_weights, _built),
    Rule(check_parameters_are_registered_once, _built),
    Rule(check_features_have_the_stated_width, _built),
    Rule(check_feature_maps_go_from_fine_to_coarse, _runs),
    Rule(check_evaluation_is_repeatable, _runs),
    Rule(check_volumes_do_not_touch, _runs),
    Rule(check_every_parameter_learns, _runs),
    Rule(check_state_survives, _runs),
    Rule(check_frozen_norms_do_not_move, _runs),
    Rule(check_bfloat16, _runs),
    Rule(check_its_cost_is_known, _runs),
)
