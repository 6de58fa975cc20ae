"""What would narrow an interval or separate two methods: sentences from the variance of seeds and patients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from ssl3d.evaluate.statistics.design import (
    SEEDS,
    Sources,
    detects,
    enough_patients,
    enough_seeds,
    sources,
    width,
)
from ssl3d.evaluate.statistics.estimate import Estimate
from ssl3d.evaluate.statistics.limits import ROUNDING
from ssl3d.report.material import Run
from ssl3d.tables.entry import Entry
from ssl3d.tables.formats.texts import digits
from ssl3d.tables.standings import Pair, Standing, estimate_of

MOST = 6  # sentences
CAUTION = (
    "These numbers are estimates: they take the variances and differences observed in this run for the true ones. The "
    "largest of many observed differences is likely to be an overestimate, so plan for a smaller one."
)


@dataclass(frozen=True)
class Needed:
    """What would separate a pair if the observed difference were the true one, with 80% power.

    Attributes:
        seeds: seeds of each method, on the same patients; None: more than 30, or unknown, since a method has one.
        patients: test patients, with the same seeds; None: more than 20 times as many.
    """

    seeds: int | None
    patients: int | None


def needed(pair: Pair) -> Needed | None:
    """Return what would separate a pair; None if it is separated, or its error is unknown or zero."""
    if pair.separated or not pair.test.se > ROUNDING:
        return None
    seeds, multiple = detects(_sources(pair), pair.test.estimate, pair.family, most=pair.most)
    return Needed(seeds, None if multiple is None else rounded(multiple * pair.a.patients))


def next_steps(run: Run) -> list[str]:
    """Return a few sentences on the headline tables: what would narrow the first interval, or separate the first."""
    found = []
    for subject in run.headlines:
        for protocol in dict.fromkeys(row["protocol"] for row in run.rows):
            of = (*subject, protocol)
            standing = next((one for one in run.tables.standings if one.entry.key.compared == of), None)
            if standing is not None and standing.interval is not None:
                prefix = run.titled(subject, protocol)
                pairs = [pair for pair in run.tables.pairs if pair.a.key == standing.entry.key]
                found += [f"{prefix}: {text}" for text in (*_interval(run, standing), *_pair(run, pairs))]
    return [*found[:MOST], CAUTION] if found else []


def _interval(run: Run, standing: Standing) -> Iterator[str]:
    """Yield what would narrow an interval most; nothing for one seed, whose variance is unknown."""
    entry, of = standing.entry, estimate_of(standing.entry)
    S, n, now = len(entry.seeds), entry.patients, width(of)
    scale = entry.measure.scale
    if S == 1 or not standing.interval or not standing.interval.se > ROUNDING or entry.score in {scale.low, scale.high}:
        return
    seeds, patients = width(of, 2 * S), width(of, multiple=2.0)
    if not isfinite(now) or min(seeds, patients) > 0.95 * now:
        return
    share = sources(of).seed_share
    part = "less than 1%" if share < 0.01 else f"about {share:.0%}"
    yield (
        f"{run.name_of_entry(entry)} has an interval {digits(now)} wide. {2 * n} {_unit(entry)} instead of {n} would "
        f"make it about {digits(patients)}, {2 * S} seeds instead of {S} about {digits(seeds)}: {part} of its variance "
        f"comes from seeds.{_halved(entry, of, now, by_seeds=seeds < patients)}"
    )


def _halved(entry: Entry, of: Estimate, now: float, *, by_seeds: bool) -> str:
    """Return what would halve an interval, after a space; empty if no sensible number does."""
    if by_seeds:
        seeds = enough_seeds(lambda count: width(of, count) <= now / 2, len(entry.seeds))
        more = 0 if seeds is None else seeds - len(entry.seeds)
        return f" {more} more seed{'s' if more > 1 else ''} would halve it." if more else ""
    multiple = enough_patients(lambda times: width(of, multiple=times) <= now / 2)
    return f" About {rounded(multiple * entry.patients)} {_unit(entry)} would halve it." if multiple else ""


def _pair(run: Run, pairs: list[Pair]) -> Iterator[str]:
    """Yield what would separate the first method from the one that is nearest to a verdict."""
    open_ = [pair for pair in pairs if not pair.separated and pair.test.se > ROUNDING]
    if not open_:
        return
    pair = min(open_, key=lambda one: one.test.p)
    found = needed(pair)
    a, b = run.name_of_entry(pair.a), run.name_of_entry(pair.b)
    difference = digits(abs(pair.test.estimate))
    text = f"{a} and {b} are nearest to a verdict; if they truly differed by the observed {difference},"
    ways = []
    if found and found.patients:
        ways.append(f"about {found.patients} {_unit(pair.a)} instead of {pair.a.patients}")
    if found and found.seeds:
        ways.append(f"about {found.seeds} seeds of each method that has fewer, instead of {_counts(pair)}")
    if ways:
        yield f"{text} the corrected test would find it with 80% power with {', or '.join(ways)}."
    else:
        yield f"{text} neither {SEEDS} seeds each nor 20 times the {_unit(pair.a)} would find it with 80% power."


def _counts(pair: Pair) -> str:
    return " and ".join(map(str, sorted({len(pair.a.seeds), len(pair.b.seeds)})))


def _sources(pair: Pair) -> Sources:
    return sources(estimate_of(pair.a), estimate_of(pair.b))


def _unit(entry: Entry) -> str:
    known = all(one.record.data.patients_known for one in entry.done)
    return "test patients" if known else "test volumes"


def rounded(count: float) -> int:
    """Round to two digits: a prediction is no more precise."""
    return int(float(f"{count:.2g}"))
