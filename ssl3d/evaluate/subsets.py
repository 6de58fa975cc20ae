"""Parts of the training labels: shares of them, and shares of positives among them. Loads neither torch nor sklearn.

Test cases are never touched: what is drawn is drawn from training labels alone, and predicted are all test cases.
Within a draw, parts are nested class by class: what a smaller share of a class holds, a larger one holds, too. Draws
depend on (seed, draw, class) alone, so every method is judged with the same cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl3d.errors import DataError, RecipeError
from ssl3d.recipe import EvaluateRecipe


@dataclass(frozen=True)
class Subset:
    """A part of the training labels.

    Attributes:
        condition: its name, "labels=0.1 draw=2" or "positives=0.2 draw=0".
        labels: its share of the training labels.
        positives: share of positives that was asked for; None if that of the training labels was kept.
        draw: number of the draw.
        indices: (n,) places among the training labels, ascending.
    """

    condition: str
    labels: float
    positives: float | None
    draw: int
    indices: np.ndarray


def conditions(labels: np.ndarray, recipe: EvaluateRecipe, *, seed: int, classes: int) -> list[Subset]:
    """Return every part of the training labels that a recipe asks for beside all of them.

    Args:
        labels: (N,) of the training cases, in 0..K-1.
        recipe: ``labels``, ``imbalance`` and ``draws``.
        seed: of the cell.
        classes: K.

    Raises:
        RecipeError: shares of positives are asked for, and there are more than two classes.
        DataError: a class has too few cases for them.
    """
    if recipe.imbalance and classes > 2:
        raise RecipeError(
            f"evaluate.imbalance sets the share of positives, and this task has {classes} classes; leave it out, or "
            "name a task of two classes"
        )
    parts = fractions(labels, recipe.labels, recipe.draws, seed)
    return parts + (imbalanced(labels, recipe.imbalance, recipe.draws, seed) if recipe.imbalance else [])


def fractions(labels: np.ndarray, shares: Sequence[float], draws: int, seed: int) -> list[Subset]:
    """Return stratified parts of the labels, nested within a draw; a share of 1 is no part and is left out.

    A share s of N_k cases of a class is round(s N_k) of them, one at least: the prevalence is kept within rounding.

    Args:
        labels: (N,) integers.
        shares: in (0, 1].
        draws: repetitions of each share.
        seed: of the draws.
    """
    found = []
    for share in sorted({share for share in shares if share < 1}, reverse=True):
        for draw in range(draws):
            wanted = {
                int(k): max(1, round(share * n)) for k, n in zip(*np.unique(labels, return_counts=True), strict=True)
            }
            indices = _first(labels, wanted, seed, draw)
            found.append(Subset(f"labels={share!r} draw={draw}", share, None, draw, indices))
    return found


def imbalanced(labels: np.ndarray, shares: Sequence[float], draws: int, seed: int) -> list[Subset]:
    """Return parts with these shares of positives, all of one size: the largest that every share allows.

    So a curve over shares shows what imbalance does, and not how many labels there were. Within a draw the positives of
    a smaller share are among those of a larger one, and the negatives the other way round.

    Args:
        labels: (N,) 0 or 1.
        shares: of positives, in (0, 1).
        draws: repetitions of each share.
        seed: of the draws.

    Raises:
        RecipeError: the labels are not of two classes.
        DataError: a class has too few cases for these shares.
    """
    counts = np.bincount(labels, minlength=2)
    if len(counts) > 2:
        raise RecipeError(f"shares of positives need a task of two classes, and this one has {len(counts)}")
    size = _common_size(counts, shares)
    found = []
    for share in sorted(set(shares), reverse=True):
        positives = round(share * size)
        for draw in range(draws):
            indices = _first(labels, {0: size - positives, 1: positives}, seed, draw)
            found.append(Subset(f"positives={share!r} draw={draw}", size / len(labels), share, draw, indices))
    return found


def _common_size(counts: np.ndarray, shares: Sequence[float]) -> int:
    """Return the largest number of labels that can have each of these shares of positives, with both classes in it."""
    for size in range(int(counts.sum()), 1, -1):
        if all(1 <= round(p * size) <= counts[1] and 1 <= size - round(p * size) <= counts[0] for p in shares):
            return size
    listed = ", ".join(f"{share:g}" for share in shares)
    raise DataError(
        f"{counts[1]} positive and {counts[0]} negative training cases are too few for shares of positives of {listed} "
        "at one number of labels; leave the most extreme ones out of evaluate.imbalance"
    )


def _first(labels: np.ndarray, wanted: dict[int, int], seed: int, draw: int) -> np.ndarray:
    """Return the first so many cases of each class in the order of this draw, ascending."""
    parts = []
    for value, count in wanted.items():
        order = np.random.default_rng([seed, draw, value]).permutation(np.flatnonzero(labels == value))
        parts.append(order[:count])
    return np.sort(np.concatenate(parts))
