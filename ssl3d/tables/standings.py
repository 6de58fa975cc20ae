"""Entries with their uncertainty: intervals, tests of every pair, ranks with ties. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssl3d.evaluate.statistics.bootstrap import (
    DRAWS,
    Resampled,
    mean_of,
    resample,
    resample_cases,
    resample_jointly,
    standard_error,
)
from ssl3d.evaluate.statistics.compare import holm, letters, pairs, ranks, smallest_detectable
from ssl3d.evaluate.statistics.delong import Interval, PairedTest, logit_limits, mean_interval, mean_paired_test, wald
from ssl3d.tables.entry import Entry, Part

LEVEL = 0.05  # of tests, after Holm's correction; intervals are at 95%
BOOTSTRAP_SEED = 20220800  # fixed: a table that is made twice is the same table


@dataclass(frozen=True)
class Pair:
    """Two entries compared.

    Attributes:
        a: the one with the higher AUC.
        b: the other.
        method: of the test: "DeLong" or "bootstrap".
        test: the difference of the AUCs, its interval and p value.
        p_holm: p corrected over all pairs that are compared (one table, one protocol).
    """

    a: Entry
    b: Entry
    method: str
    test: PairedTest
    p_holm: float

    @property
    def separated(self) -> bool:
        """Whether the data can separate the two."""
        return bool(self.p_holm < LEVEL)

    @property
    def detectable(self) -> float | None:
        """Smallest difference found with 80% power by one such test, uncorrected; None if nothing is known."""
        return smallest_detectable(self.test.se)


@dataclass(frozen=True)
class Standing:
    """An entry with its interval and rank. Without an AUC it has neither.

    Attributes:
        entry: the entry.
        interval: of its AUC.
        interval_from: "DeLong" or "bootstrap".
        rank: 1 + the number of entries shown to be better.
        group: letters; entries that share one cannot be separated.
    """

    entry: Entry
    interval: Interval | None = None
    interval_from: str = ""
    rank: int | None = None
    group: str = ""


def standings(entries: Sequence[Entry], draws: int = DRAWS) -> tuple[list[Standing], list[Pair]]:
    """Return all entries with intervals and ranks, and every pair within a table and protocol.

    One seed and two classes: DeLong, within each outer fold. Otherwise, and for a mean over tasks or labels, the
    bootstrap over cases with the variance of seeds, whose standard error goes into the same interval (on the logit
    scale) and the same test. Folds count as independent, given the encoders: their test cases are disjoint.

    Args:
        entries: ordered by table and AUC.
        draws: of the bootstrap.
    """
    found: list[Standing] = []
    compared: list[Pair] = []
    for compared_with in dict.fromkeys(entry.key.compared for entry in entries):
        members = [entry for entry in entries if entry.key.compared == compared_with]
        scored = [entry for entry in members if entry.auc is not None]
        resamples = _resamples(scored, draws)
        tested = _pairs(scored, resamples)
        found += _ranked(scored, tested, resamples)
        found += [Standing(entry) for entry in members if entry.auc is None]
        compared += tested
    return found, compared


def repeated_interval(entry: Entry, repetitions: int, draws: int = DRAWS) -> Interval | None:
    """Return the interval of an entry with several layers for each repetition, of which the mean is taken first.

    Args:
        entry: its "seeds" are repetitions times layers, repetition after repetition; two at least.
        repetitions: those that vary independently.
        draws: of the bootstrap.
    """
    if entry.auc is None:
        return None
    (resampled,) = _resamples([entry], draws)
    return _bootstrap_interval(entry, resampled.grouped(repetitions))


def _resamples(entries: Sequence[Entry], draws: int) -> list[Resampled]:
    """Each entry's AUCs on the same resampled cases; empty where DeLong's formulas hold for all."""
    if all(_simple(entry) for entry in entries):
        return []
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    counts = {cases: _counts(parts, draws, rng) for cases, parts in entries[0].blocks.items()}
    return [_resampled(entry, counts) for entry in entries]


def _counts(parts: Sequence[Part], draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each case of a block is drawn: within its class, or, where tasks share cases, from all."""
    if len(parts) == 1:
        return resample_cases(parts[0].labels, draws, rng)
    return resample_jointly([part.labels for part in parts], draws, rng)


def _resampled(entry: Entry, counts: Mapping[tuple[str, ...], np.ndarray]) -> Resampled:
    return mean_of([resample(part.labels, part.probabilities, counts[part.cases]) for part in entry.parts])


def _simple(entry: Entry) -> bool:
    """Whether DeLong's formulas hold for the entry: one seed, two classes, one task."""
    binary = all(part.probabilities.shape[2] == 2 for part in entry.parts)
    return bool(len(entry.seeds) == 1 and binary and len(entry.blocks) == len(entry.parts))


def _pairs(entries: Sequence[Entry], resamples: Sequence[Resampled]) -> list[Pair]:
    tests = []
    for i, j in pairs(len(entries)):
        a, b = entries[i], entries[j]
        if _simple(a) and _simple(b):
            folds = [
                (x.labels, x.probabilities[0, :, 1], y.probabilities[0, :, 1])
                for x, y in zip(a.parts, b.parts, strict=True)
            ]
            tests.append((a, b, "DeLong", mean_paired_test(folds)))
        else:
            se, df = standard_error(resamples[i], resamples[j])
            difference = float(np.mean(a.aucs) - np.mean(b.aucs))
            tests.append((a, b, "bootstrap", wald(difference, se, _smallest(a), df=df)))
    corrected = holm([test.p for *_, test in tests])
    return [Pair(a, b, method, test, float(p)) for (a, b, method, test), p in zip(tests, corrected, strict=True)]


def _ranked(entries: Sequence[Entry], tested: Sequence[Pair], resamples: Sequence[Resampled]) -> list[Standing]:
    index_of = {entry.key: index for index, entry in enumerate(entries)}
    better = [(index_of[pair.a.key], index_of[pair.b.key]) for pair in tested if pair.separated]
    rank, group = ranks(len(entries), better), letters(len(entries), better)
    out = []
    for index, entry in enumerate(entries):
        simple = _simple(entry)
        interval = (
            mean_interval([(part.labels, part.probabilities[0, :, 1]) for part in entry.parts])
            if simple
            else _bootstrap_interval(entry, resamples[index])
        )
        out.append(Standing(entry, interval, "DeLong" if simple else "bootstrap", rank[index], group[index]))
    return out


def _bootstrap_interval(entry: Entry, resampled: Resampled) -> Interval:
    auc = float(np.mean(entry.aucs))
    se, df = standard_error(resampled)
    low, high = logit_limits(np.array([auc]), np.array([se]), _smallest(entry), df=df)
    return Interval(auc, se, float(low[0]), float(high[0]))


def _smallest(entry: Entry) -> int:
    """Number of cases of the smaller class, in the task that has fewest, of all folds together."""
    return sum(min(_smaller_class(part) for part in parts) for parts in entry.blocks.values())


def _smaller_class(part: Part) -> int:
    return int(np.unique(part.labels, return_counts=True)[1].min())
