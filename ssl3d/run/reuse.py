"""One pretraining, several judgements: the encoder of a cell that is done, where it is this cell's, too.

It is where everything that decides an encoder is the same: the recipe but for the task and how it is judged
(``Recipe.pretraining_hash``), and the bytes of the data. Cells of this run are looked at, then those of the runs that
``--encoders`` names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import pandas as pd

from ssl3d.data.store import Store
from ssl3d.errors import RunError
from ssl3d.results.files import partial_name
from ssl3d.results.folder import cells_folder, require_run
from ssl3d.results.records import RESULT, CellResult, file_hash, read_content, read_result, read_results
from ssl3d.run.encoders import NAME, load_encoder
from ssl3d.run.plan import Cell
from ssl3d.run.pretraining import Pretrained
from ssl3d.run.stores import same_test
from ssl3d.run.work import Work

LOG = "log.csv"


@dataclass(frozen=True)
class Donor:
    """A cell whose encoder is another cell's, too.

    Attributes:
        folder: of the cell.
        name: of the cell, with its run where that is another one: "RUN/cells/CELL".
        result: what it left.
    """

    folder: Path
    name: str
    result: CellResult


def check_encoders(runs: Sequence[Path]) -> None:
    """Check the runs that encoders may be taken from, before anything is run.

    Raises:
        RunError: a folder is no run, or a result in it is damaged.
    """
    for run in runs:
        require_run(run)
        read_results(cells_folder(run))


def reused(work: Work) -> Pretrained | None:
    """Return the encoder and record of a cell that was pretrained before, with its files put beside this cell's.

    None if there is no such cell.

    Raises:
        RunError: there is one, and a file of it is damaged, or the plugin that it was made from is gone or was edited.
    """
    run = work.folder.parents[1]
    donor = find_donor(work.cell, work.store, run, work.options.encoders)
    if donor is None:
        return None
    result = donor.result
    assert result.exactness is not None  # it is done
    _check_unchanged(donor.folder)
    encoder = load_encoder(donor.folder).to(work.device)
    _link(donor.folder / NAME, work.folder / NAME)
    if (donor.folder / LOG).is_file():
        shutil.copyfile(donor.folder / LOG, work.folder / LOG)
    work.progress.note(f"{work.cell.name}: pretrained before, its encoder is that of {donor.name}")
    return Pretrained(
        encoder=encoder,
        exactness=result.exactness,
        departures=result.departures,
        engine=result.engine,
        collapse=result.collapse,
        price=result.price,
        notes=result.notes,
        encoder_from=donor.name,
    )


def find_donor(cell: Cell, store: Store, run: Path, others: Sequence[Path] = ()) -> Donor | None:
    """Return the first cell that is done and has this cell's encoder.

    Args:
        cell: that needs an encoder.
        store: its volumes.
        run: its run.
        others: further runs.
    """
    for donor, predictions in donors(cell, run, others):
        data = donor.result.data
        # Beside other planes, an exam may have stood in another fold: the encoder has then seen test volumes.
        if data and data.fingerprint == store.fingerprint and same_test(donor.result, predictions, store):
            return donor
    return None


def donors(cell: Cell, run: Path, others: Sequence[Path] = ()) -> Iterator[tuple[Donor, pd.DataFrame | None]]:
    """Yield the cells, with predictions, that have this one's encoder if their data are the same: ``find_donor``."""
    wanted = cell.recipe.pretraining_hash()
    for place in (run, *others):
        foreign = not (run.exists() and place.samefile(run))  # a dry run has no folder
        for folder in _candidates(cell, place):
            if folder == cells_folder(run) / cell.name:  # this one itself
                continue
            result, predictions = read_result(folder)
            same = result.recipe.pretraining_hash() == wanted
            if result.status == "done" and same and (folder / NAME).is_file():
                there = f"{place.resolve().name}/{cells_folder(Path())}/{folder.name}"
                yield Donor(folder, there if foreign else folder.name, result), predictions


def _candidates(cell: Cell, run: Path) -> Iterator[Path]:
    """Cells of a run with a result, and with this one's method, backbone and seed in their names."""
    start = cell.name.rpartition("-")[0]
    for path in sorted(cells_folder(run).glob(f"{escape(start)}-*/{RESULT}")):
        yield path.parent


def _check_unchanged(folder: Path) -> None:
    """Raise RunError if a cell's encoder is not the one that its result names."""
    expected = read_content(folder).get("encoder_sha256")  # None before results had it
    if expected is not None and file_hash(folder / NAME) != expected:
        raise RunError(f"{folder / NAME} was changed after it was written (its hash differs); run that cell again")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file systems differ. Neither is ever written in place."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_name(partial_name(target.name))
        shutil.copyfile(source, partial)
        partial.replace(target)
