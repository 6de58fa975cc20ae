"""The table of the report that compares methods in pairs."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from ssl3d.evaluate.statistics.design import SEEDS
from ssl3d.report.material import Row, Run, plain_rows, subject_of
from ssl3d.report.next_steps import Needed, needed
from ssl3d.report.tables.cells import (
    SUBJECT,
    Cell,
    Column,
    Columns,
    Table,
    metric,
    probability,
    scored,
    shown,
    table,
    text,
)
from ssl3d.tables.entry import Key
from ssl3d.tables.standings import Pair

TIED = "cannot be separated"  # as in comparisons.csv
FAR = {"seeds": f"over {SEEDS}", "patients": "over 20 times"}
PAIRS = 21  # of one table and protocol: all those of seven methods


def paired(run: Run) -> Table:
    """Return the comparisons by the score that ranks methods, in the order of the ranking: the most informative ones.

    Those of the primary comparison and of other headlines come first.
    """
    comparisons = run.tables.comparisons
    every = list(zip(plain_rows(comparisons[comparisons["primary"]]), run.tables.pairs, strict=True))
    groups: dict[tuple[str, ...], list[tuple[Row, Pair]]] = {(*of, name): [] for of, name, _ in run.by_table()}
    for row, pair in every:
        groups[*subject_of(row), row["protocol"]].append((row, pair))
    found = [one for group in groups.values() for one in informative(group)]
    rows = [{**row, "needed": needed(pair), "family": pair.family} for row, pair in found]
    return table(run, rows, _COLUMNS, len(every) - len(found))


def informative(pairs: list[tuple[Row, Pair]]) -> list[tuple[Row, Pair]]:
    """Return the pairs of one table and protocol: all, or those with the first method and of neighbours in the ranking.

    Args:
        pairs: in the order of the ranking of their first, then of their second method.
    """
    if len(pairs) <= PAIRS:
        return pairs
    nearest: dict[Key, tuple[Row, Pair]] = {}  # the next one in the ranking, by the key of the first
    for row, pair in pairs:
        nearest.setdefault(pair.a.key, (row, pair))
    first, *others = nearest
    with_first = [one for one in pairs if one[1].a.key == first]
    return with_first[: PAIRS // 2] + [nearest[key] for key in others][: PAIRS - PAIRS // 2]


def _name(run: Run, row: Row, which: str) -> Cell:
    text = run.names[row[f"method_{which}"], row[f"backbone_{which}"], row[f"settings_{which}"]]
    return Cell(text, text, "name")


def _interval(_: Run, row: Row) -> Cell:
    return Cell(f"{scored(row['ci_low'], '+')} to {scored(row['ci_high'], '+')}", row["ci_low"])


def _verdict(_: Run, row: Row) -> Cell:
    """Return the verdict in words: no sign says "not shown to differ" without saying "equal"."""
    if row["verdict"] == TIED:
        return Cell(TIED, row["p_holm"])
    return Cell("A scores better" if row["about"] == "methods" else "this encoder of A scores better", row["p_holm"])


def _needed(_: Run, row: Row, what: Literal["seeds", "patients"]) -> Cell:
    found: Needed | None = row["needed"]
    if found is None:
        return Cell("", None)
    value = getattr(found, what)
    known = what == "patients" or min(row["seeds_a"], row["seeds_b"]) > 1
    return Cell(str(value) if value else FAR[what] if known else "", value or math.inf if known else None)


_COLUMNS: Columns = [
    (Column("protocol", "how the encoders were evaluated"), text("protocol")),
    *SUBJECT,
    (Column("metric", "score that is compared, the one that ranks methods"), metric),
    (Column("A", "the method with the better score"), partial(_name, which="a")),
    (Column("B", "the method with the worse score"), partial(_name, which="b")),
    (
        Column(
            "A - B",
            "difference of the scores on the same test cases; below 0 for errors, of which A has the smaller",
            numeric=True,
        ),
        shown("difference", partial(scored, sign="+")),
    ),
    (Column("95% interval", "of the difference, not corrected for the number of pairs"), _interval),
    (Column("p", "two-sided p value of no difference", numeric=True), shown("p", probability)),
    (Column("p (Holm)", "p corrected for all pairs of the family", numeric=True), shown("p_holm", probability)),
    (
        Column("family", "number of pairs that are corrected together: those of one table and protocol", numeric=True),
        text("family"),
    ),
    (
        Column(
            "detectable",
            "true difference that the corrected test finds in 8 of 10 such test sets; empty: no possible one",
            numeric=True,
        ),
        shown("smallest_detectable", scored),
    ),
    (Column("verdict", "at 5% after correction; it holds for these settings and data"), _verdict),
    (
        Column(
            "patients needed",
            "number of test patients, with the same seeds, at which a true difference as large as the observed one "
            "would be found in 8 of 10 test sets",
            numeric=True,
        ),
        partial(_needed, what="patients"),
    ),
    (
        Column("seeds needed", "the same for the seeds of each method, with the same number of patients", numeric=True),
        partial(_needed, what="seeds"),
    ),
]
