"""The rules for data sets, and what applies them all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ssl3d.dataset import Case, Dataset
from ssl3d.registry import load, split_variant
from ssl3d.task import Target, Task
from ssl3d.testing import reading
from ssl3d.testing.declared import check_card, check_import
from ssl3d.testing.imports import begin_import
from ssl3d.testing.opened import DatasetKit
from ssl3d.testing.randomness import untouched
from ssl3d.testing.runner import Finding, NotApplicable, Rule, raise_failures, require, run

USED = ("train", "unlabelled")  # splits that something can be learnt from


def check_dataset(
    dataset: str | type[Dataset],
    *,
    root: Path | str | None = None,
    plane: str | None = None,
    variant: str | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Check a data set against its contract: all of its cases, and some of its volumes.

    Args:
        dataset: the class, or a registered name, ``family:variant``, ``module:Class`` or ``path/to/file.py:Class``.
        root: folder of its files; without one that a data set needs, only its declarations are checked.
        plane: of the exam; its first if None.
        variant: what the class takes as such; a name brings its own.
        expected_failures: reasons, by the names of the rules that this data set is known to break.

    Returns:
        One finding per rule.

    Raises:
        UserError: the name is unknown, its import fails, or an expected failure names no rule.
    """
    kind: type[Dataset] = load("datasets", dataset) if isinstance(dataset, str) else dataset
    if isinstance(dataset, str):
        variant = variant or split_variant("datasets", dataset)[1]
    begin_import(kind)
    kit = DatasetKit(kind, Path(root) if root is not None else None, plane or "", variant)
    return run(kit, RULES, expected_failures)


def assert_dataset(
    dataset: str | type[Dataset],
    *,
    root: Path | str | None = None,
    plane: str | None = None,
    variant: str | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise ConformanceError if a data set breaks its contract: :func:`check_dataset`, for a test of one line."""
    findings = check_dataset(dataset, root=root, plane=plane, variant=variant, expected_failures=expected_failures)
    raise_failures(dataset if isinstance(dataset, str) else dataset.__name__, findings)


def check_it_opens(kit: DatasetKit) -> None:
    """It is opened with its root, and has a name, a family, tasks with names of their own, and a size of views."""
    dataset = kit.opened
    for what, text in (("name", dataset.name), ("family", dataset.family)):
        require(isinstance(text, str) and text.strip(), f"{what} is {text!r}; return the name for tables")
    tasks = dataset.tasks
    sound = isinstance(tasks, tuple) and all(isinstance(task, Task) for task in tasks)
    require(sound, f"tasks is {tasks!r}; return a tuple of Task")
    names = [task.name for task in tasks]
    require(len(set(names)) == len(names), f"two tasks have one name: {', '.join(names)}; rename one")
    size = dataset.view_size
    sound = len(size) == 3 and all(isinstance(side, int) and side >= 1 for side in size)
    require(sound, f"view_size is {size!r}; return three whole numbers (D, H, W)")
    axis = dataset.left_right
    require(axis in (None, 0, 1, 2), f"left_right is {axis!r}; state the spatial axis 0, 1 or 2, or None")
    odd = sorted(set(dataset.sound_flips) - {0, 1, 2}, key=str)
    require(not odd, f"sound_flips holds {odd}; state the spatial axes 0, 1 or 2 whose mirror images are sound")


def check_cases_are_listed(kit: DatasetKit) -> None:
    """There are cases, each with an id of its own, a split, a source and a patient."""
    cases = kit.cases
    require(isinstance(cases, list) and cases, f"cases() returned {cases!r:.60}; return a list of Case, not empty")
    seen: set[str] = set()
    for case in cases:
        require(isinstance(case, Case), f"cases() returned a {type(case).__name__}; return Case(...)")
        for what in ("id", "split", "source", "patient", "exam"):
            text = getattr(case, what)
            require(isinstance(text, str) and text.strip(), f"case {case.id!r} has the {what} {text!r}; give it a text")
        require(case.id not in seen, f"two cases have the id {case.id!r}; give each its own")
        seen.add(case.id)


def check_cases_have_a_fixed_order(kit: DatasetKit) -> None:
    """cases() gives the same cases in the same order each time, and moves no global random state."""
    with untouched("cases()", "draw nothing, or from a generator with a fixed seed"):
        again = kit.open().cases()
    require(again == kit.cases, "cases() differs the second time; sort what comes from a folder or a set")


def check_splits_can_be_used(kit: DatasetKit) -> None:
    """There is something to train on, and no patient is in both the training and the test split."""
    splits = {case.split for case in kit.cases}
    named = ", ".join(sorted(splits))
    require(splits & set(USED), f"no case is in the split train or unlabelled, only in {named}; rename splits")
    train = {case.patient: case for case in kit.cases if case.split == "train"}
    for case in kit.cases:
        other = train.get(case.patient) if case.split == "test" else None
        if other is not None:
            sentence = f"patient {case.patient!r} is in train ({other.source}) and in test ({case.source}); move one"
            require(False, sentence)


def check_targets_fit_the_tasks(kit: DatasetKit) -> None:
    """Every target is of a task that is declared, and one of its classes, or a finite number."""
    tasks = {task.name: task for task in kit.opened.tasks}
    counts = dict.fromkeys(tasks, 0)
    for case in kit.cases:
        for name, target in case.targets.items():
            declared = ", ".join(tasks) or "none"
            require(name in tasks, f"case {case.id!r} has a target of {name!r}, which is not a task ({declared})")
            wrong = _fault(tasks[name], target)
            require(wrong is None, f"case {case.id!r}: the target {target!r} of {name!r} {wrong}")
            counts[name] += 1
    for name, count in counts.items():
        require(count, f"no case has a target of the task {name!r}; leave the task out, or leave it to its labels")


def _fault(task: Task, target: Target) -> str | None:
    """Say what is wrong with a target, and what to do."""
    if task.kind == "regression":
        number = isinstance(target, int | float) and not isinstance(target, bool)
        return None if number and math.isfinite(float(target)) else "is not a finite number; leave it out"  # type: ignore[arg-type]
    if task.kind == "multilabel":
        sound = isinstance(target, tuple) and len(target) == task.outputs and set(target) <= {0, 1}
        return None if sound else f"is not a tuple of {task.outputs} numbers 0 or 1; give one for each label"
    sound = type(target) is int and 0 <= target < task.outputs
    return None if sound else f"is not a class index from 0 to {task.outputs - 1}; give one, or leave it out"


def check_patients_are_told(kit: DatasetKit) -> None:
    """Where patients are unknown, knows_patients says so: each case is then taken for a patient of its own."""
    if kit.opened.knows_patients:
        raise NotApplicable("it knows the patients")
    shared = len({case.patient for case in kit.cases}) < len(kit.cases)
    require(not shared, "knows_patients is False, and some cases share a patient; set it to True")


_opened = (check_it_opens,)
_listed = (check_it_opens, check_cases_are_listed)
RULES: tuple[Rule[DatasetKit], ...] = (
    Rule(check_card),
    Rule(check_it_opens),
    Rule(check_cases_are_listed, _opened),
    Rule(check_cases_have_a_fixed_order, _listed),
    Rule(check_splits_can_be_used, _listed),
    Rule(check_targets_fit_the_tasks, _listed),
    Rule(check_patients_are_told, _listed),
    Rule(reading.check_volumes_are_well_formed, _listed),
    Rule(reading.check_reading_repeats, _listed),
    Rule(reading.check_reading_runs_no_pickle, _listed),
    Rule(reading.check_absent_files_are_data_errors, _listed),
    Rule(reading.check_damaged_files_are_data_errors, _listed),
    Rule(check_import),  # last: a fresh process has imported it meanwhile
)
