"""The rules for protocols, and what applies them all."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch

from ssl3d.errors import DataError
from ssl3d.protocol import EncoderProblem, FeatureProblem, Prediction, Protocol
from ssl3d.registry import load
from ssl3d.task import Kind, Task
from ssl3d.testing.declared import check_card, check_config, check_import
from ssl3d.testing.imports import begin_import
from ssl3d.testing.modules import one_thread
from ssl3d.testing.problems import Problem, ProtocolKit
from ssl3d.testing.randomness import seeded, untouched
from ssl3d.testing.runner import BrokenRuleError, Finding, NotApplicable, Rule, raise_failures, require, run
from ssl3d.testing.shrink import describe

PATIENTS, CASES = 40, 3  # of the problem in which features tell patients, and nothing else
KNOWN = 0.85  # AUC above which patients were recognised; chance is 0.5, its deviation 0.09
CLOSE = 1e-4  # of probabilities in float32: a batch of another size rounds otherwise


def check_protocol(
    protocol: str | type[Protocol[Any]],
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Check a protocol against its contract, on small problems; seconds on a CPU.

    A protocol that trains the encoder does so for two epochs.

    Args:
        protocol: the class, or a registered name, ``module:Class`` or ``path/to/file.py:Class``.
        settings: fields of its ``Config`` in place of the defaults; these stay as they are.
        expected_failures: reasons, by the names of the rules that this protocol is known to break.

    Returns:
        One finding per rule.

    Raises:
        UserError: the name is unknown, its import fails, a setting is wrong, or an expected failure names no rule.
    """
    kind: type[Protocol[Any]] = load("protocols", protocol) if isinstance(protocol, str) else protocol
    begin_import(kind)
    kit = ProtocolKit(kind, settings)
    if settings:
        _ = kit.config  # wrong settings are the caller's fault, not the protocol's
    with one_thread():
        return run(kit, RULES, expected_failures)


def assert_protocol(
    protocol: str | type[Protocol[Any]],
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise ConformanceError if a protocol breaks its contract: :func:`check_protocol`, for a test of one line."""
    findings = check_protocol(protocol, settings=settings, expected_failures=expected_failures)
    raise_failures(protocol if isinstance(protocol, str) else protocol.__name__, findings)


def check_kinds_are_declared(kit: ProtocolKit) -> str:
    """Kinds names the kinds of tasks that it predicts, one at least."""
    known = get_args(Kind)
    kinds = kit.kind.kinds
    sound = isinstance(kinds, frozenset) and kinds and kinds <= set(known)
    require(sound, f"kinds is {kinds!r}; name some of {', '.join(known)} in a frozenset")
    missing = sorted(getattr(kit.kind, "__abstractmethods__", ()))
    require(not missing, f"{kit.kind.__name__} has no {' and no '.join(missing)}(); define it")
    return describe(kit.kind.Config, kit.small)


def check_it_predicts_every_kind(kit: ProtocolKit) -> None:
    """For each kind of task that it declares, predictions have the right shape and range, and a threshold if binary."""
    for kind in sorted(kit.kind.kinds):
        problem = kit.problem(kind)
        _demand_sound(kit.prediction(kind), problem.task, _tests(problem), f"of a {kind} task")


def _demand_sound(prediction: Prediction, task: Task, count: int, where: str) -> None:
    found = prediction.probabilities
    shape = (count, task.outputs)
    require(isinstance(found, np.ndarray), f"probabilities {where} are a {type(found).__name__}; return a numpy array")
    require(found.shape == shape, f"probabilities {where} have the shape {found.shape}; return {shape}")
    require(np.isfinite(found).all(), f"probabilities {where} are not finite")
    if task.kind != "regression":
        require(found.min() >= 0 and found.max() <= 1, f"probabilities {where} are not within [0, 1]")
    if task.categorical:
        total = found.sum(axis=1)
        error = float(np.abs(total - 1).max())
        require(error < 1e-6, f"probabilities {where} sum to {total.min():.3g}..{total.max():.3g}; normalise each row")
    threshold = prediction.threshold
    if task.kind == "binary":
        sound = threshold is not None and np.isfinite(threshold)
        require(sound, f"the threshold {where} is {threshold}; choose one on training cases")
    else:
        require(threshold is None, f"the threshold {where} is {threshold}; return None, it is for binary tasks alone")
    try:
        same = json.loads(json.dumps(prediction.chosen, allow_nan=False)) == prediction.chosen
    except (TypeError, ValueError):
        same = False
    require(same, f"chosen {where} is {prediction.chosen!r}; return plain values: numbers, texts, lists, dictionaries")


def check_out_of_fold_has_a_row_per_case(kit: ProtocolKit) -> None:
    """out_of_fold has one prediction for each training case, like those of the test cases, or is None."""
    for kind in sorted(kit.kind.kinds):
        problem, found = kit.problem(kind), kit.prediction(kind).out_of_fold
        if found is None:
            continue
        shape = (len(problem.train_y), problem.task.outputs)
        require(found.shape == shape, f"out_of_fold of a {kind} task has the shape {found.shape}; return {shape}")
        require(
            np.isfinite(found).all(), f"out_of_fold of a {kind} task is not finite; return None if some are missing"
        )
    if all(kit.prediction(kind).out_of_fold is None for kind in kit.kind.kinds):
        raise NotApplicable("it has no predictions of training cases")


def check_patients_stay_together(kit: ProtocolKit) -> None:
    """No training case is predicted out of fold by a fit that has seen its patient."""
    if "binary" not in kit.kind.kinds or kit.prediction("binary").out_of_fold is None:
        raise NotApplicable("it has no out-of-fold predictions of a binary task")
    problem = kit.problem("binary")
    if not isinstance(problem, FeatureProblem):
        raise NotApplicable("it trains the encoder: that takes too long here")
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(PATIENTS) % 2)
    who = np.repeat(np.arange(PATIENTS), CASES)
    # A feature for each patient: to recognise the patient is the one way to do better than chance.
    x = (4 * np.eye(PATIENTS)[who] + 0.1 * rng.standard_normal((len(who), PATIENTS))).astype(np.float32)
    patients = np.array([f"patient {number}" for number in who])
    found = kit.predict(replace(problem, train_x=x, train_y=label[who], test_x=x[:4], patients=patients)).out_of_fold
    if found is None:
        raise NotApplicable("it has no out-of-fold predictions")
    auc = _auc(found[:, 1], label[who])
    require(
        auc < KNOWN,
        f"where features tell patients and nothing else, out_of_fold has an AUC of {auc:.2f}: a patient's cases are in "
        "both parts of an inner split; split by problem.patients",
    )


def _auc(score: np.ndarray, label: np.ndarray) -> float:
    """Return the share of pairs of a positive and a negative that are in the right order; ties count one half."""
    difference = score[label == 1][:, None] - score[label == 0]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def check_it_repeats(kit: ProtocolKit) -> None:
    """The same problem gives the same prediction, whatever the global random state is, which it does not move."""
    expected = kit.prediction(kit.first)
    with seeded(5), untouched("predict", "draw from a generator made of problem.seed"):
        again = kit.predict(kit.problem(kit.first))
    _demand_same(expected, again, "the second time", "draw from a generator made of problem.seed", 0.0)


def check_test_cases_do_not_touch(kit: ProtocolKit) -> None:
    """What is predicted of a test case, and what is chosen, does not depend on the other test cases."""
    problem, expected = kit.problem(kit.first), kit.prediction(kit.first)
    part = np.arange(_tests(problem))[::-2]  # half of them, in another order
    if isinstance(problem, FeatureProblem):
        fewer: Problem = replace(problem, test_x=problem.test_x[part])
    else:
        fewer = replace(problem, test=[problem.test[index] for index in part])
    expected = replace(expected, probabilities=expected.probabilities[part])
    advice = "learn from the training cases alone"
    _demand_same(expected, kit.predict(fewer), "with other test cases", advice, CLOSE)


def _demand_same(one: Prediction, other: Prediction, where: str, advice: str, close: float) -> None:
    near = one.probabilities.shape == other.probabilities.shape and np.allclose(
        one.probabilities, other.probabilities, rtol=0, atol=close
    )
    require(near, f"probabilities differ {where}; {advice}")
    same = (one.threshold, one.chosen) == (other.threshold, other.chosen)
    require(
        same,
        f"{where} it chooses {other.chosen} ({other.threshold}) instead of {one.chosen} ({one.threshold}); {advice}",
    )


def check_the_problem_stays(kit: ProtocolKit) -> None:
    """Predicting changes nothing of the problem: no feature, no target, and nothing of the encoder."""
    problem = kit.problem(kit.first)
    before = copy.deepcopy(problem)
    kit.predict(problem)
    for name in ("train_x", "train_y", "test_x", "patients"):
        if hasattr(problem, name):
            same = np.array_equal(getattr(problem, name), getattr(before, name))
            require(same, f"predict changes {name}; work on a copy")
    if isinstance(problem, EncoderProblem) and isinstance(before, EncoderProblem):
        theirs = before.encoder.state_dict()
        moved = [name for name, value in problem.encoder.state_dict().items() if not torch.equal(value, theirs[name])]
        require(not moved, f"predict changes {', '.join(moved[:3])} of the encoder; train a copy.deepcopy of it")
        modes = [[module.training for module in one.encoder.modules()] for one in (problem, before)]
        require(modes[0] == modes[1], "predict leaves the encoder in another mode; train a copy.deepcopy of it")
        frozen = [[p.requires_grad for p in one.encoder.parameters()] for one in (problem, before)]
        require(frozen[0] == frozen[1], "predict changes requires_grad of the encoder; train a copy.deepcopy of it")


def check_one_class_is_a_data_error(kit: ProtocolKit) -> None:
    """Where all training cases have the same target there is nothing to learn: DataError, in one line."""
    problem = kit.problem(kit.first)
    same = np.broadcast_to(problem.train_y[:1], problem.train_y.shape).copy()
    _demand_data_error(kit, replace(problem, train_y=same), "where all training cases have the same target")


def check_features_that_are_not_finite_are_a_data_error(kit: ProtocolKit) -> None:
    """Features that are not finite, as an encoder that diverged gives them, raise DataError, in one line."""
    problem = kit.problem(kit.first)
    if not isinstance(problem, FeatureProblem):
        raise NotApplicable("it takes volumes")
    x = problem.train_x.copy()
    x[0, 0] = np.nan
    _demand_data_error(kit, replace(problem, train_x=x), "on features that are not finite")


def _demand_data_error(kit: ProtocolKit, problem: Problem, where: str) -> None:
    try:
        kit.predict(problem)
    except DataError as error:
        require("\n" not in str(error).strip(), f"{where} the error has several lines: {error}")
        return
    except Exception as error:
        raise BrokenRuleError(f"{where} it raises {type(error).__name__} ({error}); raise DataError") from error
    raise BrokenRuleError(f"{where} it predicts something; raise DataError")


def _tests(problem: Problem) -> int:
    return len(problem.test_x) if isinstance(problem, FeatureProblem) else len(problem.test)


_declared = (check_kinds_are_declared,)
_predicts = (check_kinds_are_declared, check_it_predicts_every_kind)
RULES: tuple[Rule[ProtocolKit], ...] = (
    Rule(check_card),
    Rule(check_config),
    Rule(check_kinds_are_declared),
    Rule(check_it_predicts_every_kind, _declared),
    Rule(check_out_of_fold_has_a_row_per_case, _predicts),
    Rule(check_patients_stay_together, (*_predicts, check_out_of_fold_has_a_row_per_case)),
    Rule(check_it_repeats, _predicts),
    Rule(check_test_cases_do_not_touch, (*_predicts, check_it_repeats)),
    Rule(check_the_problem_stays, _predicts),
    Rule(check_one_class_is_a_data_error, _predicts),
    Rule(check_features_that_are_not_finite_are_a_data_error, _predicts),
    Rule(check_import),  # last: a fresh process has imported it meanwhile
)
