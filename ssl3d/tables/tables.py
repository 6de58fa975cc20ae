"""Everything derived from results, each part computed once. Loads no torch, and scikit-learn only for planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ssl3d.errors import RunError
from ssl3d.results.results import Evaluated, Failed, Results
from ssl3d.tables import comparisons, curves, entries, evaluations, leaderboard, scores, summary
from ssl3d.tables.combine_planes import combine_planes
from ssl3d.tables.comparable import check_comparable
from ssl3d.tables.entry import MEAN, PLUS, Entry
from ssl3d.tables.standings import Pair, Standing, standings
from ssl3d.tables.summary import Drawn


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
        """Rows of the leaderboard, by table and protocol, then by score, best first."""
        return entries.entries(self.evaluated, self.failed)

    @cached_property
    def standings(self) -> list[Standing]:
        """Entries with intervals and ranks, in the order of tables and ranks."""
        return self._standings_and_pairs[0]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of entries that share a table and a protocol, by the score that decides ranks."""
        return self._standings_and_pairs[1]

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row per entry: :data:`ssl3d.tables.leaderboard.COLUMNS`."""
        return leaderboard.leaderboard(self.standings, self.primary)

    @cached_property
    def primary(self) -> tuple[str, str, str, str] | None:
        """Data set, task, plane and protocol of the primary comparison, fixed by the first request, before any result.

        Of several tasks it is their mean if there is one, otherwise the first; likewise for planes. None if nothing of
        it is complete.
        """
        asked = self.results.primary
        if asked is None or not asked.tasks:
            return None
        scored = {entry.key.compared for entry in self.entries if entry.score is not None}
        tasks = (MEAN + ", ".join(sorted(asked.tasks)), asked.tasks[0])
        planes = (PLUS.join(sorted(asked.planes)), asked.planes[0] if asked.planes else "")
        wanted = [(asked.data, task, plane, asked.protocol) for task in tasks for plane in planes]
        return next((one for one in wanted if one in scored), None)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """One row per pair and metric, the primary one first: :data:`ssl3d.tables.comparisons.COLUMNS`."""
        return comparisons.comparisons(self.entries, [*self.pairs, *self._further[1]])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per entry, metric and label: :data:`ssl3d.tables.scores.COLUMNS`. Empty if none has a second one."""
        further = self._further[0]
        return scores.scores([*self.standings, *further] if further else [])

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per protocol and method: :data:`ssl3d.tables.summary.COLUMNS`. Empty if there is one task."""
        return summary.summary(self._drawn)

    @cached_property
    def wins(self) -> pd.DataFrame:
        """One row per ordered pair of methods: :data:`ssl3d.tables.summary.WIN_COLUMNS`. Empty if there is one task."""
        return summary.wins(self._drawn)

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
    def _drawn(self) -> list[Drawn]:
        return summary.drawn_over_tasks(self.entries)

    @cached_property
    def _further(self) -> tuple[list[Standing], list[Pair]]:
        """Standings and pairs by every further measure and label; each measure has its own correction."""
        views: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            for view in entry.further:
                views.setdefault((view.metric, view.label), []).append(view)
        found: list[Standing] = []
        pairs: list[Pair] = []
        for group in views.values():
            group.sort(key=lambda view: (view.key.compared, view.score is None, -view.measure.sign * (view.score or 0)))
            own = standings(group)
            found += own[0]
            pairs += own[1]
        return found, pairs

    @cached_property
    def _standings_and_pairs(self) -> tuple[list[Standing], list[Pair]]:
        return standings(self.entries)


def require_results(results: Results, run: Path) -> Results:
    """Return the results of a run; raises RunError if there are none yet."""
    if not results:
        raise RunError(f"{run} has no result yet; run its `ssl3d bench` command to the end")
    return results
