"""Multiple comparisons: corrected p values, detectable differences, ranks with ties. Loads no torch and no sklearn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from string import ascii_lowercase

import numpy as np
from scipy.special import nctdtrinc, ndtri, stdtrit


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values corrected for their number by Holm's step-down procedure (Holm 1979)."""
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    steps = (len(values) - np.arange(len(values))) * values[order]
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(values) else steps
    return corrected


def smallest_detectable(
    se: float, df: float = np.inf, comparisons: int = 1, *, power: float = 0.8, level: float = 0.05, most: float = 1.0
) -> float | None:
    """Return the true difference of scores that a two-sided test detects with this power.

    The test is that of a table: Student's t at the first step of Holm's correction, level / comparisons, which a single
    difference among equal methods must pass. The difference is the noncentrality at which t exceeds its limit with this
    power, times the observed standard error: 2.8 se for one comparison and many degrees of freedom.

    Args:
        se: standard error of the difference.
        df: its degrees of freedom.
        comparisons: number of differences tested together.
        power: probability of detecting the difference.
        level: level of all tests together.
        most: largest possible difference: 1 for AUCs.

    Returns:
        None if no two scores can differ by as much, or if the standard error is 0, which contains no
        information on power.
    """
    limit = stdtrit(df, 1 - level / (2 * comparisons))
    noncentral = limit + ndtri(power) if np.isinf(df) else nctdtrinc(df, 1 - power, limit)
    found = float(noncentral * se)
    return found if 0 < found <= most else None


def ranks(size: int, better: Sequence[tuple[int, int]]) -> list[int]:
    """Return the rank of each of ``size`` methods: methods that share a letter share a rank.

    A new rank begins only if every method above is separated from every method below. Separation is not transitive (A
    may beat C while B is separable from neither): then the three share a rank, and :func:`letters` shows the details.

    Args:
        size: number of methods, best first.
        better: pairs (winner, loser) whose difference is significant after correction.
    """
    separated = set(better)
    found: list[int] = []
    for method in range(size):
        apart = all((above, below) in separated for above in range(method) for below in range(method, size))
        found.append(method + 1 if apart else found[-1])
    return found


def letters(size: int, better: Sequence[tuple[int, int]]) -> list[str]:
    """Return a compact letter display: two methods share a letter exactly if they cannot be separated.

    Insert and absorb (Piepho 2004, J. Comput. Graph. Stat. 13:456): start with one group of all methods; each
    significant pair splits the groups that contain both; a group inside another one is dropped.

    Args:
        size: number of methods, best first.
        better: pairs of methods (in either order) whose difference is significant after correction.
    """
    groups = [frozenset(range(size))] if size else []
    for a, b in better:
        split = [group - {drop} for group in groups if {a, b} <= group for drop in (a, b)]
        candidates = [group for group in groups if not {a, b} <= group] + split
        groups = [g for g in dict.fromkeys(candidates) if not any(g < other for other in candidates)]
    groups.sort(key=sorted)
    return ["".join(_letter(i) for i, group in enumerate(groups) if method in group) for method in range(size)]


def _letter(index: int) -> str:
    """Return a, b, ..., z, then a2, b2, ..."""
    turn, place = divmod(index, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn + 1) if turn else "")


def pairs(size: int) -> list[tuple[int, int]]:
    """Return all pairs (i, j), i < j."""
    return list(combinations(range(size), 2))
