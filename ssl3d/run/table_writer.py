"""Writing a run's tables while it is being worked on."""

from __future__ import annotations

import time

from ssl3d.errors import UserError
from ssl3d.progress import Progress
from ssl3d.results.folder import RunFolder
from ssl3d.results.read import read_results

TABLE_SECONDS = 30.0  # minimum time between two updates of the tables during a run
SHARE = 20.0  # times as long as an update took, the next one waits: tables of thousands of evaluations take a while


class TableWriter:
    """Writer of a run's tables, at the end and periodically before."""

    def __init__(self, folder: RunFolder, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._due = time.monotonic() + TABLE_SECONDS

    def write(self) -> None:
        """Write the tables.

        Raises:
            UserError: a record is damaged, or the folder cannot be written.
        """
        from ssl3d.tables.tables import Tables  # noqa: PLC0415  # scipy and pandas: a dry run needs neither
        from ssl3d.tables.write import write_tables  # noqa: PLC0415

        started = time.monotonic()
        write_tables(self._folder.path, Tables(read_results(self._folder.path)))
        now = time.monotonic()
        self._due = now + max(TABLE_SECONDS, SHARE * (now - started))

    def write_now_and_then(self) -> None:
        """Write the tables if they are old enough; a failure is reported, and raised at the end."""
        if time.monotonic() < self._due:
            return
        try:
            self.write()
        except Exception as error:  # an error in the tables must not stop the run
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._progress.note(f"the tables are not written yet: {why}")
