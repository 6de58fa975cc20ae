"""One cell, from recipe to result."""

from __future__ import annotations

from pathlib import Path

from ssl3d.data.store import Store
from ssl3d.progress import Progress
from ssl3d.results.provenance import data_record, now, versions
from ssl3d.results.records import CellResult, write_result
from ssl3d.run.devices import open_device, placed
from ssl3d.run.encoders import save_encoder
from ssl3d.run.judging import judge
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell
from ssl3d.run.pretraining import pretrained
from ssl3d.run.reuse import reused
from ssl3d.run.stores import LEAKS, leaks
from ssl3d.run.work import Judged, Work
from ssl3d.train import checkpoint


def run_cell(cell: Cell, store: Store, folder: Path, options: Options, progress: Progress) -> CellResult:
    """Pretrain and judge a cell, and write what it leaves into its folder; an encoder that is there is not made again.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is there to go on from.
        Exception: whatever else goes wrong; nothing that looks like a result is left.
    """
    fabric = open_device(options.device, cell.recipe.pretrain.precision)
    store = placed(store, fabric.device)
    work = Work(cell, store, Judged.of(store, str(cell.recipe.data.task)), folder, fabric, options, progress)
    found = reused(work)
    if found is None:
        found = pretrained(work)
        save_encoder(folder, found.encoder, cell.recipe)
    judgement = judge(work, found.encoder)
    result = CellResult(
        cell=cell.name,
        status="done",
        recipe=cell.recipe,
        data=data_record(work),
        exactness=found.exactness,
        departures=found.departures,
        scores=judgement.scores,
        curve=judgement.curve,
        features=judgement.features,
        engine=found.engine,
        encoder_from=found.encoder_from,
        collapse=found.collapse,
        price=found.price,
        versions=versions(cell.recipe),
        notes=_notes(work, found.notes),
        finished_at=now(),
    )
    write_result(folder, result, judgement.predictions, judgement.training)
    checkpoint.remove(folder)
    return result


def _notes(work: Work, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Notes on the encoder (which may be another task's cell's), and on test volumes that it was trained on."""
    leaking = leaks(work.store, work.recipe.data)
    return (*(note for note in notes if LEAKS not in note), *([leaking] if leaking else []))


def failed(cell: Cell, folder: Path, reason: str) -> CellResult:
    """Record that a cell failed, and why."""
    result = CellResult(
        cell=cell.name,
        status="failed",
        reason=reason,
        recipe=cell.recipe,
        versions=versions(cell.recipe),
        finished_at=now(),
    )
    write_result(folder, result, None)
    return result
