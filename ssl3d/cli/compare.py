"""``ssl3d compare``: methods in pairs, within a run or across runs on the same data."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssl3d.cli.options import PATH

if TYPE_CHECKING:
    from ssl3d.results.results import Results


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
def compare(runs: tuple[Path, ...]) -> None:
    """Compare methods in pairs, within a run or across runs on the same data.

    Runs on other data, another task, split or protocol are refused with the reason.
    """
    from ssl3d.results.read import read_results  # noqa: PLC0415  # help must not wait for pandas
    from ssl3d.tables.formats.terminal import show_comparisons  # noqa: PLC0415
    from ssl3d.tables.tables import Tables, require_results  # noqa: PLC0415

    _check({run: require_results(read_results(run), run) for run in dict.fromkeys(runs)})
    show_comparisons(Tables(read_results(*runs)).comparisons)


def _check(found: dict[Path, Results]) -> None:
    """Check that runs are comparable.

    Raises:
        RunError: they are not; the message names the runs, the evaluations, and the difference.
    """
    from ssl3d.errors import RunError  # noqa: PLC0415  # help must not wait for pandas
    from ssl3d.results.results import Results  # noqa: PLC0415
    from ssl3d.tables.comparable import check_shared  # noqa: PLC0415
    from ssl3d.tables.tables import Tables  # noqa: PLC0415

    for a, b in combinations(found, 2):
        both = Results((*found[a].evaluated, *found[b].evaluated))
        try:
            Tables(both).entries  # noqa: B018  # computed for its checks
        except RunError as error:
            raise RunError(f"{a} and {b}: {error}") from None
    try:
        check_shared(list(found.values()))
    except RunError as error:
        raise RunError(f"{' and '.join(map(str, found))}: {error}") from None
