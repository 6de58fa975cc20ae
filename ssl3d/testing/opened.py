"""A data set, opened and read in the ways that its rules look at."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ssl3d.dataset import Case, Dataset
from ssl3d.errors import DataError
from ssl3d.testing.runner import NotApplicable

READ = 5  # volumes that are read: the first, the last, and some between


class DatasetKit:
    """What rules look at of a data set's class.

    Args:
        kind: the class.
        root: folder of its files.
        plane: of the exam; "" for the first.
        variant: what follows the name in ``--data name:variant``.
    """

    def __init__(self, kind: type[Dataset], root: Path | None, plane: str, variant: str | None) -> None:
        self.kind = kind
        self.root = root
        self.plane = plane
        self.variant = variant

    def open(self, root: Path | None = None) -> Dataset:
        """Return the data set, on another root if one is given."""
        return self.kind(root or self.root, self.plane, self.variant)

    @cached_property
    def opened(self) -> Dataset:
        """The data set, whose cases can be listed.

        Raises:
            NotApplicable: it needs a root, and none was given.
        """
        try:
            dataset = self.open()
            self._cases = dataset.cases()
        except DataError as error:
            if self.root is None:
                raise NotApplicable(f"it needs files: give its root ({error})") from None
            raise
        return dataset

    @property
    def cases(self) -> list[Case]:
        """All cases."""
        _ = self.opened
        return self._cases

    @property
    def some(self) -> list[Case]:
        """Cases whose volumes are read."""
        step = max(1, len(self.cases) // (READ - 1))
        return [*self.cases[::step][: READ - 1], self.cases[-1]]
