"""Each fault, planted in a plugin that is otherwise sound, is reported by the rule that is there for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssl3d.backbone import Backbone
from ssl3d.method import AnyMethod
from ssl3d.testing import Finding, check_backbone, check_method
from ssl3d.testing.toys import ToyBackbone, ToyTokens
from tests.planted import backbones, declared, methods, momentum, views
from tests.planted.sound import SOUND

# The first rule of a row is the one meant for the fault; the others are what follows from it.
METHOD_FAULTS = {
    momentum.MomentumTrains: "check_momentum_never_trains",
    momentum.HomeMadeMomentumTrains: "check_momentum_never_trains",
    momentum.MomentumNeverMoves: "check_momentum_moves",
    momentum.MomentumHeadNeverMoves: "check_momentum_moves",
    momentum.MomentumMovesAway: "check_momentum_follows",
    momentum.MomentumReversed: "check_momentum_follows",
    momentum.OnlineFollowsMomentum: "check_after_step_leaves_the_online_network check_momentum_moves",
    momentum.MomentumMovesInEvaluation: "check_evaluation_moves_nothing",
    momentum.MomentumMovesWithEveryMicroBatch: "check_only_after_step_moves_state",
    momentum.HeadUncopied: "check_momentum_starts_as_a_copy",
    momentum.HomeMadeHeadUncopied: "check_momentum_starts_as_a_copy",
    momentum.QueuePushedInLoss: "check_only_after_step_moves_state",
    views.ViewsOfGlobalTorch: "check_views_draw_from_rng_alone",
    views.ViewsOfGlobalNumpy: "check_views_draw_from_rng_alone",
    views.ViewsOfTheClock: "check_views_draw_from_rng_alone",
    views.RowsOfTheClock: "check_views_draw_from_rng_alone",
    views.ViewsChangeTheirInput: "check_views_leave_the_volumes",
    views.ViewsOfTheBatch: "check_views_do_not_depend_on_neighbours",
    views.PlacesOfTheMicroBatch: "check_views_do_not_depend_on_neighbours",
    views.ViewsNeverChange: "check_views_differ_between_steps",
    views.ViewsWithoutAChannel: "check_views_have_the_right_shape",
    views.ViewsInATuple: "check_views_have_the_right_shape",
    views.OneRowForAll: "check_views_have_the_right_shape",
    methods.ParameterUnused: "check_every_parameter_learns",
    methods.ParameterDetached: "check_every_parameter_learns",
    methods.ParameterWithoutEffect: "check_every_parameter_learns",
    methods.ParameterRegisteredTwice: "check_parameters_are_registered_once",
    methods.ParameterInNoGroup: "check_parameter_groups",
    methods.ParameterInTwoGroups: "check_parameter_groups",
    methods.NegativeMultiplier: "check_parameter_groups",
    methods.EncoderIsAnother: "check_the_encoder_learns",
    methods.EncoderIsNone: "check_it_builds",
    methods.BackboneFrozen: "check_the_encoder_learns",
    methods.QueueNotInTheState: "check_state_survives",
    methods.CounterNotInTheState: "check_state_survives",
    methods.WeightsOfTheClock: "check_the_seed_decides_the_weights",
    methods.NormInOnline: "check_splits_agree",
    methods.FeaturesOfTheMicroBatch: "check_splits_agree",
    methods.TargetsOfTheMicroBatch: "check_splits_agree",
    methods.FeaturesOfAllVolumes: "check_it_trains",
    methods.FeaturesInAList: "check_it_trains",
    methods.EmbeddingOfMaps: "check_embedding_has_one_vector_per_volume",
    methods.HeadOfAFixedWidth: "check_it_trains",
    methods.FalselyUncoupled: "check_splits_agree",
    methods.WeightNotStated: "check_splits_agree",
    methods.WeightOfACoupledLoss: "check_loss_is_well_formed",
    methods.SumsOfEachVolume: "check_loss_is_well_formed",
    methods.LossDrawsFromNumpy: "check_draws_are_keyed",
    methods.LossOfTheClock: "check_draws_are_keyed",
    methods.LossOfOneVolumeLess: "check_it_trains",
    methods.LossOfManyOnly: "check_a_short_batch_is_finite",
    methods.LossIsNone: "check_it_trains",
    methods.LossIsATensor: "check_it_trains",
    methods.LossIsAVector: "check_it_trains",
    methods.LossIsDetached: "check_it_trains",
    methods.LossUnpacksThree: "check_it_trains",
    methods.LossOfTheOldContract: "check_it_trains",
    methods.FailsUnderBfloat16: "check_bfloat16",
    methods.OverflowsUnderBfloat16: "check_bfloat16",
    methods.DoesNotTrain: "check_it_trains",
    methods.UnknownLabelsAreAClass: "check_every_kind_of_task check_it_trains",
    declared.CardWithoutLink: "check_card",
    declared.SettingWithoutBounds: "check_config",
    declared.SettingWithoutDescription: "check_config",
    declared.SettingWithAWrongDefault: "check_config",
    declared.PresetWithATypo: "check_preset",
    declared.PresetOfTheUsersChoice: "check_preset",
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
    backbones.KeepIgnored: "check_tokens_have_the_stated_shape",
    backbones.PooledTwiceAsLong: "check_pooled_tokens_are_the_features",
    backbones.KeptAfterTheBlocks: "check_dropped_patches_are_not_seen",
    backbones.PooledOfAllPatches: "check_dropped_patches_are_not_seen",
    backbones.MaskIgnored: "check_masked_patches_are_not_seen",
}

# What is said: what the plugin did, what to do, and the line of its own that did it.
MESSAGES = {
    methods.LossIsNone: r"LossIsNone.loss returned None; return Loss\(value\) \(methods.py:\d+ in loss\)",
    methods.LossIsATensor: r"LossIsATensor.loss returned a Tensor; return Loss\(value\) \(methods.py:\d+ in loss\)",
    methods.LossIsAVector: r"LossIsAVector.loss: 'value' has shape \(8,\); return a scalar tensor.* \(methods.py:",
    methods.LossIsDetached: r"the loss of LossIsDetached depends on nothing that is trained; return one that carries",
    methods.LossUnpacksThree: r"LossUnpacksThree.loss raised ValueError: .*\(methods.py:\d+ in loss\); batch.online",
    methods.LossOfTheOldContract: r"missing 1 required positional.*\(methods.py:\d+ in loss\); take the arguments",
    methods.DoesNotTrain: r"DoesNotTrain.loss raised KeyError: 'projector' \(methods.py:\d+ in loss\); correct",
    methods.NormInOnline: r"differs .*; in online .* \(batch norm 'norm'\) \(methods.py:\d+ in online\): move",
    methods.TargetsOfTheMicroBatch: r"; in target a volume's features depend on .* \(methods.py:\d+ in target\): move",
    methods.FalselyUncoupled: r"; coupled = False promises a loss that is a mean over volumes",
    methods.HeadOfAFixedWidth: r"HeadOfAFixedWidth.online raised .*; size heads by self.backbone.embed_dim",
    methods.FeaturesOfAllVolumes: r"online: 'features' has shape \(6,\); return one row for each of the 8 volumes",
    methods.FeaturesInAList: r"FeaturesInAList.online returned a list; return features \(B, ...\)",
    views.ViewsInATuple: r"ViewsInATuple.views returned a tuple; return Views\(first, second, ...\) \(views.py",
    views.ViewsWithoutAChannel: r"view 0 has shape \(8, 4, 9, 7\); return \(B, C, D, H, W\)",
    methods.ParameterInNoGroup: r"parameter_groups leaves out '[\w.]+'; put every trainable parameter into a group",
    methods.UnknownLabelsAreAClass: r"some of them unknown, the loss is nan; leave unknown labels",
    methods.LossDrawsFromNumpy: r"moves the global random state of numpy \(methods.py:\d+ in loss\); draw in",
    methods.LossOfTheClock: r"a loss of .* and then of .* \(methods.py:\d+ in loss\); draw in views from rng",
    methods.BackboneFrozen: r"the backbone is frozen: .*; leave some of it trainable in build",
    momentum.QueuePushedInLoss: r"moves queue.rows.*; move it in after_step",
    methods.EncoderIsNone: r"encoder\(\) returns a NoneType; return a Backbone",
}


def failed(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings if finding.failed]


@pytest.mark.parametrize("method", SOUND, ids=lambda method: method.__name__)
def test_a_sound_method_passes(method: type[AnyMethod]) -> None:
    assert [str(finding) for finding in check_method(method) if finding.failed] == []


@pytest.mark.parametrize("fault", METHOD_FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_reported_and_hidden_by_no_other(fault: type[AnyMethod]) -> None:
    named, *consequences = METHOD_FAULTS[fault].split()
    findings = check_method(fault)
    found = failed(findings)
    assert named in found
    assert set(found) <= {named, *consequences}
    (message,) = [finding.message for finding in findings if finding.rule == named]
    assert re.search(MESSAGES.get(fault, "; "), message), message
    assert "\n" not in message


@pytest.mark.parametrize("backbone", [ToyBackbone, ToyTokens])
def test_a_sound_backbone_passes(backbone: type[Backbone]) -> None:
    assert failed(check_backbone(backbone)) == []


@pytest.mark.parametrize("fault", BACKBONE_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_planted_in_a_backbone_is_reported_and_hidden_by_no_other(fault: type[Backbone]) -> None:
    named, *consequences = BACKBONE_FAULTS[fault].split()
    found = failed(check_backbone(fault))
    assert named in found
    assert set(found) <= {named, *consequences}


@pytest.mark.fresh_import
def test_an_import_with_side_effects_is_reported_with_what_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL3D_PLANTED", "no")  # put back after the test: the file is imported in this process too
    file = tmp_path / "loud.py"
    file.write_text(
        "import os, warnings, numpy, sklearn.svm\n"  # what a library does when it is imported is not the plugin's doing
        "from ssl3d_plugins.methods.controls import Random\n"
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
    assert " random's state" not in message  # sklearn's


@pytest.mark.fresh_import
def test_a_module_that_cannot_be_imported_alone_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "once.py"
    file.write_text(
        "import sys\n"
        "from ssl3d_plugins.methods.controls import Random\n"
        "if 'pytest' not in sys.modules:\n"
        "    raise OSError('not twice')\n"
        "class Once(Random):\n"
        "    pass\n"
    )
    findings = check_method(f"{file}:Once")
    assert failed(findings) == ["check_import"]
    assert any("not twice" in finding.message for finding in findings)
