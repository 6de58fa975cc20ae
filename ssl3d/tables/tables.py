"""Everything derived from results, each part computed once. Loads no torch, and scikit-learn only for planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ssl3d.errors import RunError
from ssl3d.results.results import Evaluated, Failed, Results
from ssl3d.tables import comparisons, curves, entries, evaluations, leaderboard
from ssl3d.tables.combine_planes import combine_planes
from ssl3d.tables.comparable import check_comparable
from ssl3d.tables.entry import Entry
from ssl3d.tables.standings import Pair, Standing, standings


@dataclass(frozen=True, eq=False)
class Tables:
    """Entries, standings, pairs and tables of results: one value for every table, page and figure.

    Its first use raises RunError if evaluations that belong in one table are not comparable.

    Attributes:
        results: results of one or several runs.
    """

    results: Results

    @cached_property
    def evaluated(self) -> tuple[Evaluated, ...]:
        """Complete evaluations, including derived ones of combined planes."""
        found = (*self.results.evaluated, *(one for one in self._combined if isinstance(one, Evaluated)))
        check_comparable(found)
        return found

    @cached_property
    def failed(self) -> tuple[Failed, ...]:
        """Failed evaluations, and planes that could not be combined."""
        return (*self.results.failed, *(one for one in self._combined if isinstance(one, Failed)))

    @cached_property
    def entries(self) -> list[Entry]:
        """Rows of the leaderboard, by table and protocol, then by AUC, best first."""
        return entries.entries(self.evaluated, self.failed)

    @cached_property
    def standings(self) -> list[Standing]:
        """Entries with intervals and ranks, in the order of tables and ranks."""
        return self._standings_and_pairs[0]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of entries that share a table and a protocol."""
        return self._standings_and_pairs[1]

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row per entry: :data:`ssl3d.tables.leaderboard.COLUMNS`."""
        return leaderboard.leaderboard(self.standings)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """One row per pair: :data:`ssl3d.tables.comparisons.COLUMNS`."""
        return comparisons.comparisons(self.entries, self.pairs)

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation, complete or failed: :data:`ssl3d.tables.evaluations.COLUMNS`."""
        return evaluations.evaluations(self.results)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per label subset: :data:`ssl3d.tables.curves.COLUMNS`. Empty if all evaluations use all labels."""
        return curves.curves(self.evaluated, self.standings)

    @cached_property
    def _combined(self) -> list[Evaluated | Failed]:
        return combine_planes(self.results)

    @cached_property
    def _standings_and_pairs(self) -> tuple[list[Standing], list[Pair]]:
        return standings(self.entries)


def require_results(results: Results, run: Path) -> Results:
    """Return the results of a run; raises RunError if there are none yet."""
    if not results:
        raise RunError(f"{run} has no result yet; run its `ssl3d bench` command to the end")
    return results
