"""Small folders of volumes with patients, and what each artifact of a run reads of a store. No test is in here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl3d.data.store import Store
from ssl3d.data.volumes import Volumes
from tests.runs import Listener

Read = tuple[str, str]  # name of a data set, id of a case


def write_folder(
    root: Path, rows: Sequence[str], header: str = "path,split,patient,lesion", table: str = "labels.csv"
) -> Path:
    """Write a table for the ``folder`` data set, and a volume of 4 to 6 slices of 16 x 17 for each of its rows.

    A volume follows from its path, so that a path which a folder has already is the same volume.

    Args:
        root: folder, made if it is absent.
        rows: of the table, each begins with a path.
        header: of the table.
        table: name of its file.
    """
    root.mkdir(exist_ok=True)
    (root / table).write_text("\n".join([header, *rows, ""]))
    for name in (row.partition(",")[0] for row in rows):
        rng = np.random.default_rng(list(f"{root.name}/{name}".encode()))
        np.save(root / name, rng.integers(0, 1000, (int(rng.integers(4, 7)), 16, 17), np.int16))
    return root


class Watcher(Listener):
    """Knows which volumes each artifact reads, by the artifact's label; use it with :func:`watched`.

    Attributes:
        reads: by label.
        losses: labels of the artifacts that took an optimiser step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: defaultdict[str, set[Read]] = defaultdict(set)
        self.losses: set[str] = set()

    @property
    def current(self) -> str:
        """Label of the artifact that was started last."""
        return self.started_list[-1] if self.started_list else ""

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        if "loss" in figures:
            self.losses.add(self.current)

    def ids(self, artifact: str) -> set[str]:
        """Ids of the cases that an artifact read; ``artifact`` is a part of its label, which no other one has."""
        (label,) = [label for label in self.started_list if artifact in label]
        return {case for _, case in self.reads[label]}


@contextmanager
def watched() -> Iterator[Watcher]:
    """Give a progress that knows what is read while inside."""
    watcher, real = Watcher(), Store.volumes

    def volumes(self: Store, indices: Sequence[int], *rest: Any) -> Volumes:
        watcher.reads[watcher.current] |= {(self.name, case) for case in self.ids(indices)}
        return real(self, indices, *rest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "volumes", volumes)
        yield watcher
