"""A plan into results: cells one after the other, each on its own feet."""

from __future__ import annotations

import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ssl3d.data.store import Store
from ssl3d.errors import RunError, UserError
from ssl3d.progress import Progress
from ssl3d.results.files import write_atomic
from ssl3d.results.folder import cells_folder, claimed, default_folder
from ssl3d.results.records import CellResult, read_results
from ssl3d.run.cell import failed, run_cell
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell, Plan
from ssl3d.run.preflight import check_inputs, check_labels
from ssl3d.run.pretraining import train_along
from ssl3d.run.processes import check_devices, in_processes
from ssl3d.run.stores import Stores, open_stores, same_test
from ssl3d.tables.combine_planes import read_run
from ssl3d.tables.write import write_tables
from ssl3d.train import checkpoint
from ssl3d.train.interrupt import Interrupted, handled, interrupt
from ssl3d.train.pretrain import TrainingError
from ssl3d.train.processes import Group
from ssl3d.train.tuning.memory import out_of_memory


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        folder: of the run.
        failures: reasons by the name of the cell.
    """

    folder: Path
    failures: dict[str, str]


def execute(plan: Plan, options: Options, progress: Progress | None = None) -> Outcome:
    """Run every cell of a plan that has no result yet, and write the tables.

    Raises:
        UserError: the data or the run's folder cannot be used; nothing was run.
        Interrupted, KeyboardInterrupt: a signal asked to stop; the same call goes on from there.
    """
    check_devices(options)
    check_inputs(plan, options)
    return in_processes(_run, plan, options, progress or Progress())


def _run(plan: Plan, options: Options, progress: Progress) -> Outcome:
    """Take part in a run: as the process that leads, or as one that trains along."""
    group = Group.current()
    run = options.out or default_folder(plan.experiment, options.root)
    if not group.leads:
        return _follow(plan, run, options, group)
    try:
        outcome = _lead(plan, run, options, progress)
    except (Exception, Interrupted):
        group.tell(None)
        raise
    group.tell(None)
    return outcome


def _follow(plan: Plan, run: Path, options: Options, group: Group) -> Outcome:
    """Train the cells that the first process tells of, until it tells of none; it writes and reports."""
    cells = {cell.name: cell for cell in plan.cells}
    with handled(interrupt, signal.SIGTERM):
        while (told := _told(group)) is not None:
            name, engine = told
            with suppress(Exception, Interrupted):  # whatever fails here fails in the first process, too
                train_along(cells[name], partial(_cell_store, plan, cells[name], run, options), run, options, engine)
    return Outcome(run, {})


def _told(group: Group) -> Any:
    try:
        return group.told()
    except RuntimeError:  # the first process has ended: it says why, if there is something to say
        return None


def _lead(plan: Plan, run: Path, options: Options, progress: Progress) -> Outcome:
    cells = {cell.name: cell.recipe.model_dump(mode="json") for cell in plan.cells}
    places = {"root": options.root, "store": options.store}
    with claimed(run, plan.experiment, cells, options.fresh, places), handled(interrupt, signal.SIGTERM):
        progress.run_started(str(run), list(cells))
        for note in plan.notes:
            progress.note(note)
        stores = open_stores(plan, run, options, progress)
        check_labels(plan, stores)
        done = _done(plan, run, stores, progress)
        results = [done.get(cell.name) or _result(cell, stores, run, options, progress) for cell in plan.cells]
        write_tables(run, read_run(cells_folder(run)))
    return Outcome(run, {result.cell: str(result.reason) for result in results if result.status == "failed"})


def _cell_store(plan: Plan, cell: Cell, run: Path, options: Options) -> Store:
    return open_stores(plan, run, options, Progress()).of(cell)


def _done(plan: Plan, run: Path, stores: Stores, progress: Progress) -> dict[str, CellResult]:
    """Return the cells of a plan that are done, by name; a failed one is tried again.

    Raises:
        RunError: a result was made from other data, or is damaged.
    """
    left = read_results(cells_folder(run))
    results = [result for result, _ in left]
    for result, predictions in left:
        now = stores.fingerprint(result.recipe.data)
        if result.data is not None and now is not None and result.data.fingerprint != now:
            raise RunError(
                f"{cells_folder(run) / result.cell} was made from other data (fingerprint "
                f"{result.data.fingerprint[:10]}, now {now[:10]}); choose another --out, or --fresh to "
                "begin anew"
            )
        if (
            now is not None
            and result.status == "done"
            and not same_test(result, predictions, stores.view(result.recipe.data))
        ):
            raise RunError(
                f"{cells_folder(run) / result.cell} was judged on another fold: the planes of this run have other "
                "exams than before; choose another --out, or --fresh to begin anew"
            )
    planned = {cell.name for cell in plan.cells}
    done = {result.cell: result for result in results if result.status == "done" and result.cell in planned}
    for name in done:
        checkpoint.remove(cells_folder(run) / name)  # of a run that was killed right after the result
        progress.cell_finished(name, "done before")
    return done


def _result(cell: Cell, stores: Stores, run: Path, options: Options, progress: Progress) -> CellResult:
    """Run a cell, and return what it came to."""
    folder = cells_folder(run) / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    progress.cell_started(cell.name)
    try:
        result = run_cell(cell, stores.of(cell), folder, options, progress)
    except Exception as error:  # one cell that fails never takes the others with it
        write_atomic(folder / "error.txt", traceback.format_exc())
        result = failed(cell, folder, reason(error))
    else:
        (folder / "error.txt").unlink(missing_ok=True)
    progress.cell_finished(cell.name, _line(result))
    try:
        write_tables(run, read_run(cells_folder(run)))
    except UserError as error:  # raised at the end of the run, when every cell has had its turn
        progress.note(f"the tables are not written: {error}")
    return result


def reason(error: Exception) -> str:
    """Return one sentence on why a cell failed."""
    if out_of_memory(error):
        return "out of memory; set a smaller --micro-batch: under exact accumulation the gradient stays the same"
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, UserError | TrainingError):
        return text
    return f"{type(error).__name__}: {text} (traceback: error.txt in the cell's folder)"


def _line(result: CellResult) -> str:
    if result.status == "failed":
        return f"failed: {result.reason}"
    aucs = [f"{name} AUC {score.metrics['auc']:.3f}" for name, score in result.scores.items() if score.metrics["auc"]]
    return ", ".join(aucs) or "done"
