"""Every fault of a data set at once, for ``ssl3d data check``."""

from __future__ import annotations

from collections.abc import Callable

from ssl3d.data.pack import planned, require_packable
from ssl3d.data.tables import DataFaultsError
from ssl3d.dataset import Dataset
from ssl3d.errors import DataError


def check(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Go through all cases and return every fault, one sentence each; none if the data set is sound.

    Volumes are read only once the tables are sound: without tables, which volumes there are is not known.

    Args:
        dataset: what to check.
        progress: called with (volumes read, all volumes).
    """
    try:
        cases = planned(dataset)
    except DataFaultsError as error:
        return list(error.faults)
    except DataError as error:
        return [str(error)]
    faults = []
    for done, case in enumerate(cases, start=1):
        try:
            require_packable(dataset.read(case), case)
        except DataError as error:
            faults.append(str(error))
        if progress:
            progress(done, len(cases))
    return faults
