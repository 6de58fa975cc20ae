"""Each fault, planted in a sound data set or protocol, is reported by the rule that is there for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ssl3d.dataset import Dataset
from ssl3d.protocol import Protocol
from ssl3d.testing import ConformanceError, Finding, assert_dataset, assert_protocol, check_dataset, check_protocol
from tests.planted import datasets, protocols

# The first rule of a row is the one meant for the fault; the others are what follows from it. Then, what is said.
DATASET_FAULTS = {
    datasets.TwoTasksOfOneName: ("check_it_opens", "two tasks have one name: tear, tear; rename one"),
    datasets.TwoCasesOfOneId: ("check_cases_are_listed", "two cases have the id 'c0'; give each its own"),
    datasets.ShuffledCases: ("check_cases_have_a_fixed_order check_damaged_files_are_data_errors", "sort what comes"),
    datasets.PatientInBothSplits: ("check_splits_can_be_used", r"'p0' is in train \(5.bytes\) and in test \(6.bytes\)"),
    datasets.NothingToTrainOn: ("check_splits_can_be_used", "only in training; rename"),
    datasets.ClassOutOfRange: ("check_targets_fit_the_tasks", "case 'c0': the target 2 of 'tear' is not a class index"),
    datasets.BoolForAClass: ("check_targets_fit_the_tasks", "the target False of 'tear' is not a class index"),
    datasets.LabelTooFew: ("check_targets_fit_the_tasks", "is not a tuple of 2 numbers 0 or 1; give one for each"),
    datasets.UndeclaredTask: ("check_targets_fit_the_tasks", "a target of 'age', which is not a task"),
    datasets.TaskOfNobody: ("check_targets_fit_the_tasks", "no case has a target of the task 'site'; leave"),
    datasets.PatientsKnownAfterAll: ("check_patients_are_told", "set it to True"),
    datasets.ArrayForAVolume: ("check_volumes_are_well_formed check_reading_repeats", "gave a ndarray; return Volume"),
    datasets.NoChannel: ("check_volumes_are_well_formed", r"have the shape \(3, 6, 5\); return \(C, D, H, W\)"),
    datasets.UnscaledFloats: ("check_volumes_are_well_formed", r"not within \[0, 1\]; scale them"),
    datasets.AugmentsWhenRead: ("check_reading_repeats", "differs the second time"),
    datasets.DrawsWhenRead: ("check_reading_repeats", "moves the global random state of numpy; draw nothing"),
    datasets.Pickles: ("check_reading_runs_no_pickle", "it unpickles, which runs code from the data"),
    datasets.FailsOnAnEmptyFolder: ("check_absent_files_are_data_errors", "FileNotFoundError .*; raise DataError"),
    datasets.ReadsDamagedFiles: ("check_damaged_files_are_data_errors", "; raise DataError"),
}

PROTOCOL_FAULTS = {
    protocols.KindThatIsNone: ("check_kinds_are_declared", "name some of binary, "),
    protocols.NoPredict: ("check_kinds_are_declared", r"NoPredict has no predict\(\); define it"),
    protocols.ArrayForAPrediction: ("check_it_predicts_every_kind", r"returned a ndarray; return Prediction"),
    protocols.SumsToTwo: ("check_it_predicts_every_kind", "of a binary task sum to .*; normalise each row"),
    protocols.NoThreshold: ("check_it_predicts_every_kind", "threshold of a binary task is None; choose one"),
    protocols.ArraysInChosen: ("check_it_predicts_every_kind", "return plain values"),
    protocols.OutOfFoldOfSome: ("check_out_of_fold_has_a_row_per_case", r"\(47, 2\); return \(48, 2\)"),
    protocols.PatientsSeparated: ("check_patients_stay_together", r"an AUC of 1.00: .*; split by problem.patients"),
    protocols.DrawsFromNumpy: ("check_it_repeats check_patients_stay_together", "random state of numpy; draw from"),
    protocols.ChoosesByTheClock: ("check_it_repeats", "the second time it chooses .*; draw from a generator"),
    protocols.StandardisesByTestCases: ("check_test_cases_do_not_touch", "with other test cases; learn from"),
    protocols.ChangesFeatures: ("check_the_problem_stays check_it_repeats", "changes train_x; work on a copy"),
    protocols.OneClassIsFine: ("check_one_class_is_a_data_error", "predicts something; raise DataError"),
    protocols.NaNIsAnError: ("check_features_that_are_not_finite_are_a_data_error", "ValueError .*; raise DataError"),
    protocols.TrainsTheEncoderItself: (
        "check_the_problem_stays check_it_repeats",
        "first.0.weight.* of the encoder;",
    ),
    protocols.LeavesTheEncoderInEvaluation: ("check_the_problem_stays", "leaves the encoder in another mode; train"),
    protocols.FreezesTheEncoder: ("check_the_problem_stays", "changes requires_grad of the encoder; train"),
}


def the_fault(findings: list[Finding], rules: str, said: str) -> None:
    """Demand that the rule of the fault failed, with these words, and no other but those that follow from it."""
    named, *consequences = rules.split()
    failures = {finding.rule: finding.message for finding in findings if finding.failed}
    assert named in failures
    assert failures.keys() <= {named, *consequences}, failures
    assert re.search(said, failures[named]), failures[named]
    assert "\n" not in failures[named]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    datasets.write_bytes(tmp_path)
    return tmp_path


def test_a_sound_data_set_passes(root: Path) -> None:
    assert_dataset(datasets.Sound, root=root)


@pytest.mark.parametrize("fault", DATASET_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_planted_in_a_data_set_is_reported(fault: type[Dataset], root: Path) -> None:
    the_fault(check_dataset(fault, root=root), *DATASET_FAULTS[fault])


def test_without_its_root_a_data_set_is_checked_as_far_as_that_goes() -> None:
    findings = {finding.rule: finding for finding in check_dataset(datasets.Sound)}
    assert findings["check_card"].outcome == "passed"
    assert findings["check_cases_are_listed"].outcome == "not applicable"
    assert "give its root (there is no folder None" in findings["check_it_opens"].message


def test_a_root_that_is_wrong_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match=r"check_it_opens: .* has no files \*.bytes"):
        assert_dataset(datasets.Sound, root=tmp_path)


@pytest.mark.parametrize("protocol", [protocols.Centroid, protocols.Head])
def test_a_sound_protocol_passes(protocol: type[Protocol[Any]]) -> None:
    assert_protocol(protocol, settings={"sharpness": 2.0})


@pytest.mark.parametrize("fault", PROTOCOL_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_planted_in_a_protocol_is_reported(fault: type[Protocol[Any]]) -> None:
    the_fault(check_protocol(fault), *PROTOCOL_FAULTS[fault])
