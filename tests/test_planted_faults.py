"""Each fault, planted in a method or backbone that is otherwise sound, is named by the rule that is there for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl3d.backbone import Backbone
from ssl3d.errors import PluginError, RecipeError
from ssl3d.method import Method
from ssl3d.testing import ConformanceError, Finding, assert_method, check_backbone, check_method
from ssl3d.testing.toys import ToyBackbone
from ssl3d_plugins.methods.baselines import Random
from ssl3d_plugins.methods.byol import BYOL
from tests.planted import backbones, methods, momentum
from tests.planted.sound import SOUND

METHOD_FAULTS = {
    momentum.MomentumTrains: "check_momentum_never_trains",
    momentum.HomeMadeMomentumTrains: "check_momentum_never_trains",
    momentum.MomentumNeverMoves: "check_momentum_moves",
    momentum.MomentumHeadNeverMoves: "check_momentum_moves",
    momentum.MomentumMovesAway: "check_momentum_follows",
    momentum.MomentumReversed: "check_momentum_follows",
    momentum.OnlineFollowsMomentum: "check_after_step_leaves_the_online_network check_momentum_moves",
    momentum.MomentumMovesInEvaluation: "check_evaluation_moves_nothing",
    momentum.MomentumMovesWithEveryMicroBatch: "check_only_after_step_moves_state check_splits_agree",
    momentum.HeadUncopied: "check_momentum_starts_as_a_copy",
    momentum.HomeMadeHeadUncopied: "check_momentum_starts_as_a_copy",
    momentum.QueuePushedInLoss: "check_only_after_step_moves_state "
    "check_evaluation_moves_nothing check_loss_draws_nothing",
    methods.ViewsOfGlobalTorch: "check_views_draw_from_rng_alone",
    methods.ViewsOfGlobalNumpy: "check_views_draw_from_rng_alone",
    methods.ViewsOfTheClock: "check_views_draw_from_rng_alone",
    methods.ViewsChangeTheirInput: "check_views_leave_the_volumes",
    methods.ViewsOfTheBatch: "check_views_do_not_depend_on_neighbours check_splits_agree",
    methods.ViewsNeverChange: "check_views_differ_between_steps",
    methods.ViewsWithoutAChannel: "check_views_have_the_right_shape",
    methods.ParameterUnused: "check_every_parameter_learns",
    methods.ParameterDetached: "check_every_parameter_learns",
    methods.ParameterWithoutEffect: "check_every_parameter_learns",
    methods.ParameterRegisteredTwice: "check_parameters_are_registered_once",
    methods.EncoderIsAnother: "check_the_encoder_learns",
    methods.QueueNotInTheState: "check_state_survives",
    methods.CounterNotInTheState: "check_state_survives",
    methods.WeightsOfTheClock: "check_the_seed_decides_the_weights",
    methods.FalselyUncoupled: "check_splits_agree",
    methods.FeaturesOfTheMicroBatch: "check_splits_agree",
    methods.RowsOfTheMicroBatch: "check_splits_agree",
    methods.LossDraws: "check_loss_draws_nothing check_splits_agree check_state_survives check_copies",
    methods.LossOfOneVolumeLess: "check_loss_returns_scalars_and_rows",
    methods.LossOfManyOnly: "check_a_short_batch_is_finite",
    methods.FailsUnderBfloat16: "check_bfloat16",
    methods.OverflowsUnderBfloat16: "check_bfloat16",
    methods.DoesNotTrain: "check_it_trains",
    methods.CardWithoutLink: "check_card",
    methods.SettingWithoutBounds: "check_config",
    methods.SettingWithoutDescription: "check_config",
    methods.SettingWithAWrongDefault: "check_config",
    methods.PresetWithATypo: "check_preset",
}

BACKBONE_FAULTS = {
    backbones.WidthMisstated: "check_features_have_the_stated_width",
    backbones.OneSizeOnly: "check_features_have_the_stated_width",
    backbones.MapsFromCoarseToFine: "check_feature_maps_go_from_fine_to_coarse",
    backbones.BatchNormAlways: "check_volumes_do_not_touch check_frozen_norms_do_not_move",
    backbones.LayerUnused: "check_every_parameter_learns",
    backbones.LayerRegisteredTwice: "check_parameters_are_registered_once",
    backbones.DropsInEvaluation: "check_evaluation_is_repeatable check_state_survives",
    backbones.ChangesItsInput: "check_evaluation_is_repeatable",
    backbones.BufferNotInTheState: "check_state_survives",
    backbones.FullPrecisionOnly: "check_bfloat16",
    backbones.ReadsANumberBack: "check_its_cost_is_known",
    backbones.WeightsInTheClear: "check_weights",
}


def failed(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings if finding.failed]


@pytest.mark.parametrize("method", SOUND)
def test_a_sound_method_passes(method: type[Method]) -> None:
    assert failed(check_method(method)) == []


@pytest.mark.parametrize("fault", METHOD_FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_named_and_drowned_by_no_other(fault: type[Method]) -> None:
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
    findings = check_method(methods.ParameterUnused, expected_failures=expected)
    assert failed(findings) == []
    finding = next(one for one in findings if one.rule in expected)
    assert (finding.outcome, finding.message) == ("expected failure", "kept for old checkpoints")
    assert_method(methods.ParameterUnused, expected_failures=expected)


def test_an_expected_failure_that_passes_is_a_failure() -> None:
    findings = check_method(Random, expected_failures={"check_card": "no card yet"})
    assert failed(findings) == ["check_card"]


def test_an_expected_failure_of_no_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(PluginError, match="check_card"):
        check_method(Random, expected_failures={"check_crad": "typo"})


def test_assert_method_raises_with_a_line_for_each_fault() -> None:
    with pytest.raises(ConformanceError, match=r"(?s)CardWithoutLink breaks 1 of .*check_card: .*https link"):
        assert_method(methods.CardWithoutLink)


def test_settings_stand_in_for_defaults_and_are_checked() -> None:
    assert failed(check_method(BYOL, settings={"hidden_dim": 8, "projection_dim": 4})) == []
    with pytest.raises(RecipeError, match="hidden_dim"):
        check_method(BYOL, settings={"hidden": 8})
