"""Each fault, planted in a method or backbone that is otherwise sound, is named by the rule that is there for it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.ema import MomentumEncoder
from ssl3d.errors import PluginError, RecipeError
from ssl3d.testing import ConformanceError, Finding, assert_method, check_backbone, check_method
from ssl3d.testing.toys import ToyBackbone
from ssl3d_plugins.methods.baselines import Random
from ssl3d_plugins.methods.byol import BYOL, BYOLConfig
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig

# Sound methods with narrow heads.


class SmallBYOL(BYOL):
    class Config(BYOLConfig):
        hidden_dim: int = Field(16, ge=1, description="width")
        projection_dim: int = Field(8, ge=1, description="width")


class SmallSimCLR(SimCLR):
    class Config(SimCLRConfig):
        hidden_dim: int = Field(16, ge=1, description="width")
        projection_dim: int = Field(8, ge=1, description="width")


class SmallMoCo(MoCo):
    class Config(MoCoConfig):
        hidden_dim: int = Field(16, ge=1, description="width")
        projection_dim: int = Field(8, ge=1, description="width")
        queue_size: int = Field(20, ge=1, description="keys")


class HomeMade(SmallBYOL):
    """BYOL whose momentum encoder is two deep copies, moved by hand."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        del self.momentum
        self.slow_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def target(self, view: Tensor) -> Tensor:
        return self.slow_backbone(view)

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        first, second = (self.predictor(self.projector(features)) for features in online)
        one, other = (self.slow_projector(features) for features in target)
        return {"loss": 4 + 2 * (self.similarity(first, other) + self.similarity(second, one))}

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        slow = [*self.slow_backbone.parameters(), *self.slow_projector.parameters()]
        return list(zip(slow, [*self.backbone.parameters(), *self.projector.parameters()], strict=True))

    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        for slow, fast in self.pairs():
            slow.lerp_(fast, 0.01)


SOUND = [SmallBYOL, SmallSimCLR, SmallMoCo, HomeMade]

# Momentum encoders.


class MomentumTrains(SmallBYOL):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.momentum.requires_grad_(True)

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        first, second = (self.predictor(self.projector(features)) for features in online)
        one, other = (self.momentum.projector(features) for features in target)  # not detached
        return {"loss": 4 + 2 * (self.similarity(first, other) + self.similarity(second, one))}


class HomeMadeMomentumTrains(HomeMade):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.slow_projector.requires_grad_(True)


class MomentumNeverMoves(SmallBYOL):
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        pass


class MomentumHeadNeverMoves(HomeMade):
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.slow_backbone.parameters(), self.backbone.parameters(), strict=True))


class MomentumMovesAway(HomeMade):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        for slow, fast in self.pairs():
            slow.lerp_(fast, -0.01)


class MomentumReversed(SmallBYOL):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        self.momentum.update(1 - self.config.momentum, backbone=self.backbone, projector=self.projector)


class OnlineFollowsMomentum(HomeMade):
    @torch.no_grad()
    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        for slow, fast in self.pairs():
            fast.lerp_(slow, 0.01)


class MomentumMovesInEvaluation(SmallBYOL):
    def target(self, view: Tensor) -> Tensor:
        if not self.training:
            self.momentum.update(0.99, backbone=self.backbone, projector=self.projector)
        return super().target(view)


class MomentumMovesWithEveryMicroBatch(SmallBYOL):
    def target(self, view: Tensor) -> Tensor:
        if self.training:
            self.momentum.update(0.99, backbone=self.backbone, projector=self.projector)
        return super().target(view)


class HeadUncopied(SmallBYOL):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        fresh = type(self.projector)(6, self.config.hidden_dim, self.config.projection_dim)
        self.momentum = MomentumEncoder(backbone=self.backbone, projector=fresh)


class HomeMadeHeadUncopied(HomeMade):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        fresh = type(self.projector)(6, self.config.hidden_dim, self.config.projection_dim)
        self.slow_projector = fresh.requires_grad_(False)


class QueuePushedInLoss(SmallMoCo):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs = super().loss(online, target)
        self.queue = torch.cat([outputs["keys"], self.queue])[: len(self.queue)]
        return outputs


# Views.


class ViewsOfGlobalTorch(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view + 0.1 * torch.randn_like(view) for view in super().views(volumes, rng))


class ViewsOfGlobalNumpy(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view + float(np.random.rand()) for view in super().views(volumes, rng))


class ViewsOfTheClock(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view + np.random.default_rng().random() for view in super().views(volumes, rng))


class ViewsChangeTheirInput(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        views = super().views(volumes, rng)
        volumes.voxels[0].mul_(0)
        return views


class ViewsOfTheBatch(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view - view.mean() for view in super().views(volumes, rng))


class ViewsNeverChange(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return super().views(volumes, Rng(0, 0, rng.positions))


class ViewsWithoutAChannel(SmallSimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> tuple[Tensor, ...]:
        return tuple(view.squeeze(1) for view in super().views(volumes, rng))


# Parameters and state.


class ParameterUnused(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.extra = nn.Linear(6, 6)


class ParameterDetached(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.scale = nn.Parameter(torch.ones(()))

    def online(self, view: Tensor) -> Tensor:
        return self.backbone(view) * self.scale.detach()


class ParameterWithoutEffect(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.scale = nn.Parameter(torch.ones(()))

    def online(self, view: Tensor) -> Tensor:
        return self.backbone(view) + 0 * self.scale


class ParameterRegisteredTwice(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.head = self.projector


class EncoderIsAnother(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.spare = copy.deepcopy(self.backbone).requires_grad_(False)

    def encoder(self) -> Backbone:
        return self.spare


class QueueNotInTheState(SmallMoCo):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._non_persistent_buffers_set.add("queue")


class CounterNotInTheState(SmallSimCLR):
    steps = 0

    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"loss": super().loss(online, target)["loss"] * (1 + 0.1 * self.steps)}

    def after_step(self, progress: float, kept: Mapping[str, Tensor]) -> None:
        self.steps += 1


class WeightsOfTheClock(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        with torch.no_grad():
            self.projector.layers[0].weight.add_(float(np.random.default_rng().random()))


# Loss.


class FalselyUncoupled(SmallSimCLR):
    coupled = False


class FeaturesOfTheMicroBatch(SmallSimCLR):
    def online(self, view: Tensor) -> Tensor:
        features = super().online(view)
        return features - 0.5 * features.mean(0)


class RowsOfTheMicroBatch(SmallMoCo):
    def target(self, view: Tensor) -> Tensor:
        features = super().target(view)
        return features + torch.arange(len(features))[:, None]


class LossDraws(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        return super().loss([F.dropout(features, 0.1) for features in online], target)


class LossOfOneVolumeLess(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        return {**super().loss(online, target), "rows": online[0][1:]}


class LossOfManyOnly(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs = super().loss(online, target)
        return {"loss": outputs["loss"] / min(len(online[0]) - 2, 1)}


class FailsUnderBfloat16(SmallSimCLR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.register_buffer("centre", torch.zeros(6))

    def online(self, view: Tensor) -> Tensor:
        features = super().online(view)
        return features.lerp(self.centre, 0.1)  # two dtypes under autocast


class OverflowsUnderBfloat16(SmallSimCLR):
    def online(self, view: Tensor) -> Tensor:
        features = super().online(view)
        return features * (1 + 1 / ((features.new_ones(()) + 1e-3) - 1))  # 1.001 is 1 in bfloat16


class DoesNotTrain(SmallSimCLR):
    def loss(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> dict[str, Tensor]:
        raise KeyError("projector")


# What it says of itself.


class CardWithoutLink(SmallSimCLR):
    card: ClassVar[Card] = Card("SimCLR", "contrasts views", "Chen et al.", 2020)


class SettingWithoutBounds(SmallSimCLR):
    class Config(SmallSimCLR.Config):
        momentum: float = Field(0.9, description="unbounded")


class SettingWithoutDescription(SmallSimCLR):
    class Config(SmallSimCLR.Config):
        momentum: float = Field(0.9, ge=0)


class SettingWithAWrongDefault(SmallSimCLR):
    class Config(SmallSimCLR.Config):
        momentum: float = Field(2.0, ge=0, le=1, description="of the momentum encoder")


class PresetWithATypo(SmallSimCLR):
    preset: ClassVar[Mapping[str, object]] = {"pretrain": {"epoch": 10}}


# Backbones.


class WidthMisstated(ToyBackbone):
    embed_dim = 7


class OneSizeOnly(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2 == 0:
            raise ValueError("W must be odd")
        return super().forward(x)


class MapsFromCoarseToFine(ToyBackbone):
    def forward_features(self, x: Tensor) -> list[Tensor]:
        return super().forward_features(x)[::-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[0].mean(dim=(2, 3, 4))


class BatchNormAlways(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.first[1] = nn.BatchNorm3d(4)


class LayerUnused(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.classifier = nn.Linear(6, 2)


class LayerRegisteredTwice(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.stem = self.first[0]


class DropsInEvaluation(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5)


class ChangesItsInput(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5))


class BufferNotInTheState(ToyBackbone):
    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        self.register_buffer("mix", torch.randn(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.mix


class FullPrecisionOnly(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).lerp(self.second.bias.detach(), 0.1)  # two dtypes under autocast


class ReadsANumberBack(ToyBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if float(x[0, 0, 0, 0, 0]) < 1e6 else 0.5)


class WeightsInTheClear(ToyBackbone):
    weights: ClassVar[Mapping[str, Weights]] = {"kinetics400": Weights("http://a.org/w", "w.pth", (4, 9, 7), "MIT")}

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        return 1, 1


BACKBONE_FAULTS = {
    WidthMisstated: "check_features_have_the_stated_width",
    OneSizeOnly: "check_features_have_the_stated_width",
    MapsFromCoarseToFine: "check_feature_maps_go_from_fine_to_coarse",
    BatchNormAlways: "check_volumes_do_not_touch check_frozen_norms_do_not_move",
    LayerUnused: "check_every_parameter_learns",
    LayerRegisteredTwice: "check_parameters_are_registered_once",
    DropsInEvaluation: "check_evaluation_is_repeatable check_state_survives",
    ChangesItsInput: "check_evaluation_is_repeatable",
    BufferNotInTheState: "check_state_survives",
    FullPrecisionOnly: "check_bfloat16",
    ReadsANumberBack: "check_its_cost_is_known",
    WeightsInTheClear: "check_weights",
}

METHOD_FAULTS = {
    MomentumTrains: "check_momentum_never_trains",
    HomeMadeMomentumTrains: "check_momentum_never_trains",
    MomentumNeverMoves: "check_momentum_moves",
    MomentumHeadNeverMoves: "check_momentum_moves",
    MomentumMovesAway: "check_momentum_follows",
    MomentumReversed: "check_momentum_follows",
    OnlineFollowsMomentum: "check_after_step_leaves_the_online_network check_momentum_moves",
    MomentumMovesInEvaluation: "check_evaluation_moves_nothing",
    MomentumMovesWithEveryMicroBatch: "check_only_after_step_moves_state check_splits_agree",
    HeadUncopied: "check_momentum_starts_as_a_copy",
    HomeMadeHeadUncopied: "check_momentum_starts_as_a_copy",
    QueuePushedInLoss: "check_only_after_step_moves_state check_evaluation_moves_nothing check_loss_draws_nothing",
    ViewsOfGlobalTorch: "check_views_draw_from_rng_alone",
    ViewsOfGlobalNumpy: "check_views_draw_from_rng_alone",
    ViewsOfTheClock: "check_views_draw_from_rng_alone",
    ViewsChangeTheirInput: "check_views_leave_the_volumes",
    ViewsOfTheBatch: "check_views_do_not_depend_on_neighbours check_splits_agree",
    ViewsNeverChange: "check_views_differ_between_steps",
    ViewsWithoutAChannel: "check_views_have_the_right_shape",
    ParameterUnused: "check_every_parameter_learns",
    ParameterDetached: "check_every_parameter_learns",
    ParameterWithoutEffect: "check_every_parameter_learns",
    ParameterRegisteredTwice: "check_parameters_are_registered_once",
    EncoderIsAnother: "check_the_encoder_learns",
    QueueNotInTheState: "check_state_survives",
    CounterNotInTheState: "check_state_survives",
    WeightsOfTheClock: "check_the_seed_decides_the_weights",
    FalselyUncoupled: "check_splits_agree",
    FeaturesOfTheMicroBatch: "check_splits_agree",
    RowsOfTheMicroBatch: "check_splits_agree",
    LossDraws: "check_loss_draws_nothing check_splits_agree check_state_survives check_copies",
    LossOfOneVolumeLess: "check_loss_returns_scalars_and_rows",
    LossOfManyOnly: "check_a_short_batch_is_finite",
    FailsUnderBfloat16: "check_bfloat16",
    OverflowsUnderBfloat16: "check_bfloat16",
    DoesNotTrain: "check_it_trains",
    CardWithoutLink: "check_card",
    SettingWithoutBounds: "check_config",
    SettingWithoutDescription: "check_config",
    SettingWithAWrongDefault: "check_config",
    PresetWithATypo: "check_preset",
}


def failed(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings if finding.failed]


@pytest.mark.parametrize("method", SOUND)
def test_a_sound_method_passes(method: type[BYOL]) -> None:
    assert failed(check_method(method)) == []


@pytest.mark.parametrize("fault", METHOD_FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_named_and_drowned_by_no_other(fault: type[BYOL]) -> None:
    """The first rule of a row is the one meant for the fault; the others are what follows from it."""
    named, *consequences = METHOD_FAULTS[fault].split()
    found = failed(check_method(fault))
    assert named in found
    assert set(found) <= {named, *consequences}


def test_a_sound_backbone_passes() -> None:
    assert failed(check_backbone(ToyBackbone)) == []


@pytest.mark.parametrize("fault", BACKBONE_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_planted_in_a_backbone_is_named_and_drowned_by_no_other(fault: type[Backbone]) -> None:
    named, *consequences = BACKBONE_FAULTS[fault].split()
    found = failed(check_backbone(fault))
    assert named in found
    assert set(found) <= {named, *consequences}


def test_an_import_with_side_effects_is_named_with_what_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL3D_PLANTED", "no")  # put back after the test: the file is imported in this process too
    file = tmp_path / "loud.py"
    file.write_text(
        "import os, warnings, numpy\n"
        "from ssl3d_plugins.methods.baselines import Random\n"
        "os.environ['SSL3D_PLANTED'] = 'yes'\n"
        "warnings.simplefilter('ignore', ImportWarning)\n"
        "numpy.random.seed(0)\n"
        "print('hello')\n"
        "class Loud(Random):\n"
        "    pass\n"
    )
    findings = check_method(f"{file}:Loud")
    assert failed(findings) == ["check_import"]
    message = next(finding.message for finding in findings if finding.failed)
    for effect in ("numpy's random state", "the warnings filters", "the environment", "prints 'hello'"):
        assert effect in message


def test_a_module_that_does_not_import_alone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "once.py"
    file.write_text(
        "import sys\n"
        "from ssl3d_plugins.methods.baselines import Random\n"
        "if 'pytest' not in sys.modules:\n"
        "    raise OSError('not twice')\n"
        "class Once(Random):\n"
        "    pass\n"
    )
    findings = check_method(f"{file}:Once")
    assert failed(findings) == ["check_import"]
    assert any("not twice" in finding.message for finding in findings)


def test_a_baseline_is_not_asked_about_training() -> None:
    outcomes = {finding.rule: finding for finding in check_method(Random)}
    assert outcomes["check_splits_agree"].outcome == "not applicable"
    assert "without training" in outcomes["check_splits_agree"].message
    assert outcomes["check_card"].outcome == "passed"


def test_an_expected_failure_is_no_failure_and_keeps_its_reason() -> None:
    expected = {"check_every_parameter_learns": "kept for old checkpoints"}
    findings = check_method(ParameterUnused, expected_failures=expected)
    assert failed(findings) == []
    finding = next(one for one in findings if one.rule in expected)
    assert (finding.outcome, finding.message) == ("expected failure", "kept for old checkpoints")
    assert_method(ParameterUnused, expected_failures=expected)


def test_an_expected_failure_that_passes_is_a_failure() -> None:
    findings = check_method(Random, expected_failures={"check_card": "no card yet"})
    assert failed(findings) == ["check_card"]


def test_an_expected_failure_of_no_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(PluginError, match="check_card"):
        check_method(Random, expected_failures={"check_crad": "typo"})


def test_assert_method_raises_with_a_line_for_each_fault() -> None:
    with pytest.raises(ConformanceError, match=r"(?s)CardWithoutLink breaks 1 of .*check_card: .*https link"):
        assert_method(CardWithoutLink)


def test_settings_stand_in_for_defaults_and_are_checked() -> None:
    assert failed(check_method(BYOL, settings={"hidden_dim": 8, "projection_dim": 4})) == []
    with pytest.raises(RecipeError, match="hidden_dim"):
        check_method(BYOL, settings={"hidden": 8})
