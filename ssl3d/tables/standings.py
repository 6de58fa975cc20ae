"""Entries with their uncertainty: intervals, tests of every pair, ranks with ties. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssl3d.evaluate.statistics.compare import holm, letters, pairs, ranks, smallest_detectable
from ssl3d.evaluate.statistics.estimate import Estimate, mean_of
from ssl3d.evaluate.statistics.inference import interval, paired
from ssl3d.evaluate.statistics.limits import Interval, PairedTest
from ssl3d.tables.entry import Entry

LEVEL = 0.05  # of tests, after Holm's correction; intervals are at 95%
AND_SEEDS = " and seeds"  # added to the source of an interval or test with several seeds


@dataclass(frozen=True)
class Pair:
    """A comparison of two entries.

    Attributes:
        a: the entry with the better score.
        b: the other entry.
        test: the difference of the scores, its interval and p value.
        p_holm: p corrected over all compared pairs (of one table, protocol and measure).
        family: number of these pairs.
    """

    a: Entry
    b: Entry
    test: PairedTest
    p_holm: float
    family: int

    @property
    def method(self) -> str:
        """Source of the test: "DeLong", or "DeLong and seeds"."""
        return source(self.a, max(len(self.a.seeds), len(self.b.seeds)))

    @property
    def about(self) -> Literal["encoders", "methods"]:
        """What the test applies to: with one seed on a side, to encoders rather than methods."""
        return "methods" if min(len(self.a.seeds), len(self.b.seeds)) > 1 else "encoders"

    @property
    def separated(self) -> bool:
        """Whether the data can separate the two."""
        return bool(self.p_holm < LEVEL)

    @property
    def detectable(self) -> float | None:
        """True difference that the corrected test detects with 80% power; None if unknown."""
        return smallest_detectable(self.test.se, self.test.df, self.family, level=LEVEL, most=self.most)

    @property
    def missed_below(self) -> float | None:
        """True difference that the corrected test detects with 50% power; a smaller one is probably missed."""
        return smallest_detectable(self.test.se, self.test.df, self.family, power=0.5, level=LEVEL, most=self.most)

    @property
    def most(self) -> float:
        """Largest possible difference of the scores."""
        return self.a.measure.scale.width


@dataclass(frozen=True)
class Standing:
    """An entry with its interval and rank, both None without a score.

    Attributes:
        entry: the entry.
        interval: interval of its score.
        interval_from: its source, see :func:`source`.
        rank: among the entries with several seeds, shared by those that share a letter. None with one seed, since then
            an encoder was compared rather than its method.
        group: letters; entries that share one cannot be separated.
        smallest: test patients of the smallest class of any task; if few, intervals are wide and approximate.
    """

    entry: Entry
    interval: Interval | None = None
    interval_from: str = ""
    rank: int | None = None
    group: str = ""
    smallest: int | None = None


def standings(entries: Sequence[Entry]) -> tuple[list[Standing], list[Pair]]:
    """Return all entries with intervals and ranks, and every pair within a table and protocol.

    Patients and seeds vary: see :mod:`ssl3d.evaluate.statistics.inference`. Two entries have independent seeds and the
    same patients. One seed is one encoder, so the variance of seeds is not included. Folds count as independent, given
    the encoders: their test patients are disjoint.

    Args:
        entries: ordered by table and score; those of one table and protocol share a measure.
    """
    found: list[Standing] = []
    compared: list[Pair] = []
    for compared_with in dict.fromkeys(entry.key.compared for entry in entries):
        members = [entry for entry in entries if entry.key.compared == compared_with]
        scored = [entry for entry in members if entry.score is not None]
        estimates = [estimate_of(entry) for entry in scored]
        tested = _pairs(scored, estimates)
        found += _ranked(scored, estimates, tested)
        found += [Standing(entry) for entry in members if entry.score is None]
        compared += tested
    return found, compared


def source(entry: Entry, seeds: int) -> str:
    """Return the source of an interval or test: "DeLong" with one seed, "DeLong and seeds" with several."""
    return entry.measure.error + (AND_SEEDS if seeds > 1 else "")


def repeated_interval(entry: Entry, repetitions: int) -> Interval | None:
    """Return the interval of an entry with several layers per repetition, which are averaged first.

    Args:
        entry: its "seeds" are repetitions times layers, repetition by repetition; at least two.
        repetitions: number of independent repetitions.
    """
    return None if entry.score is None else interval(estimate_of(entry).grouped(repetitions))


def estimate_of(entry: Entry) -> Estimate:
    """Return the scores of an entry's seeds, with each patient's contribution to their error."""
    of = entry.measure.estimate
    folds = [[of(part.labels, part.probabilities, part.patients) for part in parts] for parts in entry.blocks.values()]
    return mean_of(folds)


def _pairs(entries: Sequence[Entry], estimates: Sequence[Estimate]) -> list[Pair]:
    both = pairs(len(entries))
    tests = [paired(estimates[i], estimates[j]) for i, j in both]
    corrected = holm([test.p for test in tests])
    return [
        Pair(entries[i], entries[j], test, float(p), len(both))
        for (i, j), test, p in zip(both, tests, corrected, strict=True)
    ]


def _ranked(entries: Sequence[Entry], estimates: Sequence[Estimate], tested: Sequence[Pair]) -> list[Standing]:
    index_of = {entry.key: index for index, entry in enumerate(entries)}
    better = [(index_of[pair.a.key], index_of[pair.b.key]) for pair in tested if pair.separated]
    group = letters(len(entries), better)
    several = [index for index, entry in enumerate(entries) if len(entry.seeds) > 1]
    place = {index: position for position, index in enumerate(several)}
    among = [(place[a], place[b]) for a, b in better if a in place and b in place]
    rank = dict(zip(several, ranks(len(several), among), strict=True))
    return [
        Standing(
            entry,
            interval(estimates[index]),
            source(entry, len(entry.seeds)),
            rank.get(index),
            group[index],
            estimates[index].smallest,
        )
        for index, entry in enumerate(entries)
    ]
