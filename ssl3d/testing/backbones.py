"""The rules for backbones, and what applies them all."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch

from ssl3d.backbone import Backbone
from ssl3d.registry import split_variant
from ssl3d.testing import tokens
from ssl3d.testing.declared import check_card, check_config, check_import
from ssl3d.testing.imports import begin_import
from ssl3d.testing.modules import (
    RoundedConvolutions,
    bfloat16,
    demand_finite_gradients,
    demand_gradients,
    demand_same_state,
    demand_single_registration,
    note_gradients,
    one_thread,
)
from ssl3d.testing.networks import EXACT, BackboneKit
from ssl3d.testing.randomness import seeded, untouched
from ssl3d.testing.runner import Finding, NotApplicable, Rule, raise_failures, require, run
from ssl3d.train.build import backbone_class
from ssl3d.train.cost import forward_flops

STEPS, OPENING = 3, 0.03  # steps, and their size: enough to open residual branches that start at zero
CLEAR = 1e-5  # of the largest gradient; what float32 shows to be more than rounding
TOUCH = 1e-4  # of the largest feature


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
        One finding per rule.

    Raises:
        UserError: the name is unknown, its import fails, or an expected failure names no rule.
    """
    if isinstance(backbone, str):
        kind: type[Backbone] = backbone_class(backbone)
        variant = variant or split_variant("backbones", backbone)[1]
    else:
        kind = backbone
    begin_import(kind)
    with one_thread():
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
    """The network is built from its defaults, and states its width and smallest size."""
    width = getattr(kit.built, "embed_dim", None)
    require(isinstance(width, int) and width > 0, f"embed_dim is {width!r}; state the number of features")
    size = kit.kind.min_size
    require(len(size) == 3 and min(size) >= 1, f"min_size is {size!r}; state three sizes (D, H, W)")


def check_the_seed_decides_the_weights(kit: BackboneKit) -> None:
    """The same seed builds the same weights."""
    demand_same_state(kit.built, kit.build())


def check_parameters_are_registered_once(kit: BackboneKit) -> None:
    """No parameter is registered under two names."""
    demand_single_registration(kit.built)


@torch.no_grad()
def check_features_have_the_stated_width(kit: BackboneKit) -> None:
    """Volumes (B, 1, D, H, W) of the smallest size, and of odd ones above it, become features (B, embed_dim)."""
    for volumes, features in ((kit.volumes(EXACT), None), (kit.volumes(), kit.features)):
        found, expected = kit.built(volumes) if features is None else features, (2, kit.built.embed_dim)
        shape = tuple(found.shape)
        require(shape == expected, f"{tuple(volumes.shape)} becomes {shape} instead of {expected}; correct embed_dim")
        require(found.isfinite().all(), f"the features of {tuple(volumes.shape)} are not finite")


def check_feature_maps_go_from_fine_to_coarse(kit: BackboneKit) -> None:
    """forward_features gives maps (B, F, D, H, W), none finer than the one before."""
    shapes = [tuple(one.shape) for one in kit.maps]
    sound = shapes and all(len(shape) == 5 and shape[0] == 2 for shape in shapes)
    require(sound, f"the maps of two volumes have the shapes {shapes}; return (2, F, D, H, W)")
    for fine, coarse in pairwise(kit.maps):
        finer = fine[0, 0].numel() < coarse[0, 0].numel()
        require(not finer, f"the maps get finer: {shapes}; return them from fine to coarse")


@torch.no_grad()
def check_readouts(kit: BackboneKit) -> None:
    """readouts() gives features (B, F) under names of readout_names, "last" among them, which is what forward gives."""
    if kit.kind.readouts is Backbone.readouts:
        raise NotApplicable("readouts is the contract's own")
    found = kit.built.readouts(kit.volumes())
    unknown = ", ".join(sorted(found.keys() - set(kit.kind.readout_names)))
    require(not unknown, f"readouts gives {unknown}, which readout_names does not name; add it there")
    require("last" in found, 'readouts gives no "last"; return the features of forward under this name')
    for name, features in found.items():
        sound = features.ndim == 2 and len(features) == 2 and bool(features.isfinite().all())
        shape = tuple(features.shape)
        require(sound, f"the read-out {name!r} of two volumes has the shape {shape}; return finite features (2, F)")
    same = found["last"].shape == kit.features.shape and torch.allclose(found["last"], kit.features, 1e-4, 1e-5)
    require(same, 'the read-out "last" differs from forward; return the same features')


@torch.no_grad()
def check_evaluation_is_repeatable(kit: BackboneKit) -> None:
    """In evaluation mode features are the same each time, no global random state moves, and the input stays."""
    volumes = kit.volumes()
    with seeded(1), untouched("the forward pass in evaluation mode", "draw nothing in evaluation mode"):
        again = kit.built(volumes)
    require(torch.equal(volumes, kit.volumes()), "the forward pass changes its input; work on a copy")
    same = torch.equal(kit.features, again)
    require(same, "in evaluation mode the same volumes have other features the second time; draw only in training mode")


@torch.no_grad()
def check_volumes_do_not_touch(kit: BackboneKit) -> None:
    """With norm = group a volume's features do not depend on its neighbours, in training mode too."""
    backbone = kit.build("group").train()
    volumes, others = kit.volumes(), kit.volumes()
    others[1:] = 2 * others[1:] + 1  # as large a batch: the same random draws
    with seeded(0):
        together = backbone(volumes)
    with seeded(0):
        changed = backbone(others)
    error = float((together[0] - changed[0]).abs().max() / together[0].abs().max())
    require(
        error < TOUCH,
        f"features change by {error:.1g} of their size with another volume of the batch; normalise each volume alone, "
        "as make_norm and group norm do",
    )


def check_every_parameter_learns(kit: BackboneKit) -> None:
    """Every parameter that requires a gradient gets one that is not zero."""
    names = {name for name, parameter in kit.built.named_parameters() if parameter.requires_grad}
    gradients = _gradients(kit, torch.float32, CLEAR)  # fast; what stays near zero is looked at in float64
    largest = max(gradients.values(), default=0.0)
    if not all(gradients.get(name, 0.0) > CLEAR * largest for name in names):
        gradients = _gradients(kit, torch.float64, 0.0)
    demand_gradients(names, gradients)


def _gradients(kit: BackboneKit, dtype: torch.dtype, clear: float) -> dict[str, float]:
    """Return the size of each parameter's gradient over a few steps, until all are above a share of the largest."""
    backbone = copy.deepcopy(kit.built).to(dtype).train()
    trainable = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=OPENING)
    gradients: dict[str, float] = {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        with seeded(0):
            features = backbone(kit.volumes().to(dtype))
        # A random direction: under a sum, say, what only moves features against each other would get no gradient.
        direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
        torch.autograd.backward((features * direction).sum())
        note_gradients(backbone, gradients)
        least = clear * max(gradients.values(), default=0.0)
        if all(gradients.get(name, 0.0) > least for name in trainable):
            break
        optimizer.step()
    return gradients


@torch.no_grad()
def check_state_survives(kit: BackboneKit) -> None:
    """A state dict makes an instance from another seed give the same features."""
    other = kit.build(seed=1)
    other.load_state_dict(kit.built.state_dict())
    equal = torch.equal(kit.features, other(kit.volumes()))
    require(equal, "after load_state_dict features differ; register what they depend on as a persistent buffer")


@torch.no_grad()
def check_frozen_norms_do_not_move(kit: BackboneKit) -> None:
    """With norm = frozen a forward pass in training mode changes no buffer."""
    backbone = kit.build("frozen").train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    with seeded(0):
        backbone(kit.volumes(EXACT))
    moved = [name for name, buffer in backbone.named_buffers() if not torch.equal(buffer, before[name])]
    require(not moved, f"with norm = frozen, training moves {', '.join(moved[:3])}; make norms by config.norm")


def check_bfloat16(kit: BackboneKit) -> None:
    """Under bf16 autocast features and gradients are finite."""
    backbone = copy.deepcopy(kit.built).train()
    with RoundedConvolutions():
        with seeded(0), bfloat16():
            features = backbone(kit.volumes(EXACT))
        sound = features.isfinite().all()
        require(sound, "under bf16 the features are not finite; compute what is delicate in float32")
        torch.autograd.backward(features.float().square().mean())
    demand_finite_gradients(backbone, "under bf16")


def check_its_cost_is_known(kit: BackboneKit) -> None:
    """Its operations can be counted without computing: it runs on torch's meta device."""
    if all(parameter.ndim < 2 for parameter in kit.built.parameters()):
        raise NotApplicable("it has no layer whose operations are counted")
    size = tuple(kit.volumes().shape[2:])
    require(forward_flops(kit.built, (size[0], size[1], size[2])) > 0, "a forward pass counts no operations")


def check_weights(kit: BackboneKit) -> None:
    """Pretrained weights come over https into a plain file name, from a size that the network takes, with a licence."""
    if not kit.kind.weights:
        raise NotApplicable("it has no pretrained weights")
    for name, weights in kit.kind.weights.items():
        require(
            weights.url.startswith("https://"),
            f"weights {name!r}: the address {weights.url!r} is not https; give one that is",
        )
        plain = weights.file and "/" not in weights.file and not weights.file.startswith(".")
        require(plain, f"weights {name!r}: {weights.file!r} is not a plain file name; leave folders out")
        fits = len(weights.size) == 3 and all(a >= b for a, b in zip(weights.size, kit.kind.min_size, strict=True))
        require(
            fits,
            f"weights {name!r}: trained at {weights.size}, below min_size {kit.kind.min_size}; correct one of them",
        )
        require(weights.licence.strip(), f"weights {name!r}: no licence is stated; state it")


_built = (check_it_builds,)
_runs = (check_it_builds, check_features_have_the_stated_width)
_tokens = (*_runs, tokens.check_tokens_have_the_stated_shape)
RULES: tuple[Rule[BackboneKit], ...] = (
    Rule(check_card),
    Rule(check_config),
    Rule(check_weights),
    Rule(check_it_builds),
    Rule(check_the_seed_decides_the_weights, _built),
    Rule(check_parameters_are_registered_once, _built),
    Rule(check_features_have_the_stated_width, _built),
    Rule(check_feature_maps_go_from_fine_to_coarse, _runs),
    Rule(check_readouts, _runs),
    Rule(tokens.check_tokens_have_the_stated_shape, _runs),
    Rule(tokens.check_pooled_tokens_are_the_features, _tokens),
    Rule(tokens.check_dropped_patches_are_not_seen, _tokens),
    Rule(tokens.check_masked_patches_are_not_seen, _tokens),
    Rule(check_evaluation_is_repeatable, _runs),
    Rule(check_volumes_do_not_touch, _runs),
    Rule(check_every_parameter_learns, _runs),
    Rule(check_state_survives, _runs),
    Rule(check_frozen_norms_do_not_move, _runs),
    Rule(check_bfloat16, _runs),
    Rule(check_its_cost_is_known, _runs),
    Rule(check_import),  # last: a fresh process has imported it meanwhile
)
