"""Subsets of the training labels: fractions of them, and fractions of positives. Loads neither torch nor sklearn.

Patients are drawn, each with all its training cases. Subsets are drawn from training targets alone, and all test cases
are always predicted. Within a draw, subsets are nested: a larger one contains the patients of a smaller one, class by
class. Draws depend on (seed, draw, class) alone, so all methods are evaluated with the same cases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssl3d.errors import DataError, RecipeError
from ssl3d.experiment import EvaluateChoice
from ssl3d.recipe import EvaluationRecipe
from ssl3d.task import Task

Stratum = tuple[int, ...]  # the classes of a patient's cases, ascending


@dataclass(frozen=True)
class Condition:
    """The part of the training labels that an evaluation uses, as in :class:`ssl3d.recipe.EvaluationRecipe`.

    Attributes:
        labels: fraction of the training patients; 1 for all of them.
        positives: fraction of positive patients among them; None if not set.
        draw: index of the draw.
    """

    labels: float = 1.0
    positives: float | None = None
    draw: int = 0


def conditions(y: np.ndarray, patients: np.ndarray, task: Task, choice: EvaluateChoice) -> list[Condition]:
    """Return all conditions of an experiment: all labels first, then fractions, then fractions of positives.

    Fractions of positives have one common size, the largest that all of them allow, so that a curve over them shows the
    effect of imbalance rather than of the number of labels.

    Args:
        y: (N,) or (N, L) targets of the training cases.
        patients: (N,) their patients.
        task: task of the targets.
        choice: ``labels``, ``imbalance`` and ``draws``.

    Raises:
        RecipeError: fractions of positives are requested, but the task is not binary.
        DataError: a class has too few patients for them.
    """
    found = [Condition()]
    for share in sorted({share for share in choice.labels if share < 1}, reverse=True):
        found += [Condition(share, None, draw) for draw in range(choice.draws)]
    if not choice.imbalance:
        return found
    if task.kind != "binary":
        raise RecipeError(
            f"evaluate.imbalance sets the share of positives, and task {task.name!r} is not binary ({task.kind}); "
            "leave it out, or name a binary task"
        )
    units = _by_class(y, patients, positives=True)
    counts = len(units.get((0,), ())), len(units.get((1,), ()))
    labels = _common_size(*counts, choice.imbalance) / sum(counts)
    for share in sorted(set(choice.imbalance), reverse=True):
        found += [Condition(labels, share, draw) for draw in range(choice.draws)]
    return found


def subset(y: np.ndarray, patients: np.ndarray, task: Task, recipe: EvaluationRecipe) -> np.ndarray:
    """Return the ascending indices (n,) of the training cases that an evaluation uses; all of them without a fraction.

    A fraction s of the N_k patients of a class is round(s N_k) of them, at least one: the prevalence is kept up to
    rounding. Patients with cases of several classes are drawn as a separate class. For multi-label and regression
    tasks, patients are drawn without classes. For a fraction of positives, a patient with any positive case counts as
    positive.

    Args:
        y: (N,) or (N, L) targets of the training cases.
        patients: (N,) their patients.
        task: task of the targets.
        recipe: ``labels``, ``positives``, ``draw`` and ``seed``.
    """
    if recipe.positives is not None:
        units = _by_class(y, patients, positives=True)
        size = round(recipe.labels * sum(map(len, units.values())))
        positive = round(recipe.positives * size)
        wanted: dict[Stratum, int] = {(0,): size - positive, (1,): positive}
    elif recipe.labels < 1:
        units = _by_class(y, patients) if task.categorical else {(): _cases_by_patient(patients)}
        wanted = {stratum: max(1, round(recipe.labels * len(members))) for stratum, members in units.items()}
    else:
        return np.arange(len(y))
    return _first(units, wanted, recipe.seed, recipe.draw)


def _cases_by_patient(patients: np.ndarray) -> list[list[int]]:
    """Return the indices of each patient's cases, in the order of the patients' first cases."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, patient in enumerate(patients):
        found[str(patient)].append(index)
    return list(found.values())


def _by_class(y: np.ndarray, patients: np.ndarray, *, positives: bool = False) -> dict[Stratum, list[list[int]]]:
    """Return the cases of each patient, grouped by the patient's classes, or by whether any of them is 1."""
    found: dict[Stratum, list[list[int]]] = defaultdict(list)
    for cases in _cases_by_patient(patients):
        classes = sorted({int(y[index]) for index in cases})
        found[(max(classes),) if positives else tuple(classes)].append(cases)
    return dict(sorted(found.items()))


def _first(
    units: Mapping[Stratum, Sequence[Sequence[int]]], wanted: Mapping[Stratum, int], seed: int, draw: int
) -> np.ndarray:
    """Return the ascending cases of the first patients of each stratum, in the order of this draw."""
    found: list[int] = []
    for stratum, count in wanted.items():
        members = units.get(stratum, ())
        order = np.random.default_rng([seed, draw, *stratum]).permutation(len(members))
        found += [index for place in order[:count] for index in members[place]]
    return np.sort(np.array(found, dtype=np.int64))


def _common_size(negatives: int, positives: int, shares: Sequence[float]) -> int:
    """Return the largest number of patients that allows each of these fractions of positives, with both classes."""
    for size in range(negatives + positives, 1, -1):
        if all(1 <= round(p * size) <= positives and 1 <= size - round(p * size) <= negatives for p in shares):
            return size
    listed = ", ".join(f"{share:g}" for share in shares)
    raise DataError(
        f"{positives} positive and {negatives} negative training patients are too few for shares of positives of "
        f"{listed} at one number of labels; leave the most extreme ones out of evaluate.imbalance"
    )
