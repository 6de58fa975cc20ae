"""The encoder of a cell, and what it took to get it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ssl3d.backbone import Backbone
from ssl3d.data.store import Store
from ssl3d.engine import Engine
from ssl3d.method import Method
from ssl3d.results.folder import cells_folder
from ssl3d.results.records import Collapse, Exactness, Price
from ssl3d.run.devices import device_name, open_device, placed
from ssl3d.run.exactness import exactness, random_layers
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell
from ssl3d.run.work import Work
from ssl3d.train import checkpoint
from ssl3d.train.build import build_method
from ssl3d.train.collapse import collapsed
from ssl3d.train.cost import pretrain_flops
from ssl3d.train.pretrain import Job, State, pretrain
from ssl3d.train.processes import Group
from ssl3d.train.schedule import Schedule
from ssl3d.train.tuning.layout import compilable
from ssl3d.train.tuning.tune import notes as tuning_notes
from ssl3d.train.tuning.tune import tune


@dataclass(frozen=True)
class Pretrained:
    """An encoder that is ready to be judged, with its record.

    Attributes:
        encoder: float32, in evaluation mode, on the device.
        exactness: of its accumulation.
        departures: of its method from the paper.
        engine: how it was trained; None if it was not.
        collapse: measures and verdict.
        price: what it cost.
        notes: what happened otherwise than the recipe alone would make a reader think.
        encoder_from: the cell that it was pretrained for, None if for this one.
    """

    encoder: Backbone
    exactness: Exactness
    departures: tuple[str, ...] = ()
    engine: Engine | None = None
    collapse: Collapse = field(default_factory=Collapse)
    price: Price = field(default_factory=Price)
    notes: tuple[str, ...] = ()
    encoder_from: str | None = None


def pretrained(work: Work) -> Pretrained:
    """Build the method of a cell and train it, if it trains.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is there to go on from.
        TrainingError: the loss or a gradient is not finite.
    """
    method = build_method(work.recipe, work.options.weights)
    method.to(work.device)
    loaded = (method.backbone.loaded,) if method.backbone.loaded else ()
    if not method.trains:
        price = Price(device=device_name(work.device))
        encoder = method.encoder().float().eval()
        return Pretrained(encoder, "not trained", method.card.departures, price=price, notes=loaded)
    train = work.store.indices("train")
    schedule = Schedule.of(work.recipe.pretrain, len(train))
    group = Group.current()
    engine = _engine(work, method, schedule, group.size)
    group.tell((work.cell.name, engine.model_dump(mode="json")))
    state, price = _train(work, method, train, engine)
    engine = Engine.model_validate(state.engine)  # a step may have had to change it
    return Pretrained(
        encoder=method.encoder().float().eval(),
        exactness=exactness(method, work.recipe.pretrain.accumulation, engine, schedule.batch_size),
        departures=method.card.departures,
        engine=engine,
        collapse=_collapse(state, schedule),
        price=price,
        notes=(*loaded, *_notes(work, method, schedule, engine), *tuning_notes(engine), *state.notes),
    )


def train_along(cell: Cell, store: Callable[[], Store], run: Path, options: Options, engine: dict[str, Any]) -> None:
    """Train a cell that another process leads: the same steps, and nothing is written or reported here.

    Args:
        cell: that the first process told of.
        store: opens the packed volumes.
        run: the run's folder, where a checkpoint may lie.
        options: of this process.
        engine: as the first process has chosen it, in plain values.
    """
    with Group.current().together():
        fabric = open_device(options.device, str(engine["precision"]))
        volumes = placed(store(), fabric.device)
        method = build_method(cell.recipe, options.weights)
        method.to(fabric.device)
    folder = cells_folder(run) / cell.name
    job = Job(method, volumes, volumes.indices("train"), cell.recipe, fabric, folder, cell.name)
    job.checkpoint_seconds, job.engine = options.checkpoint_seconds, Engine.model_validate(engine)
    pretrain(job)


def _engine(work: Work, method: Method, schedule: Schedule, processes: int) -> Engine:
    """Return how a cell is to be trained: as it was begun, or else as trials on the device have it."""
    begun = checkpoint.engine(work.folder)
    if begun is not None:
        return Engine.model_validate(begun).model_copy(update={"processes": processes})
    engine = tune(method, work.recipe, schedule.batch_size, processes)
    if engine.compile and not compilable(method.backbone):
        engine = engine.model_copy(update={"compile": False})
    if engine.trials:
        work.progress.note(f"{work.cell.name}: {engine.sentence()}, after {len(engine.trials)} trials")
    return engine


def _train(work: Work, method: Method, train: list[int], engine: Engine) -> tuple[State, Price]:
    """Train a method, and say what that cost."""
    device = work.device
    with Group.current().together():  # the others get ready meanwhile
        flops = pretrain_flops(method, work.recipe, len(train), engine)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        fabric = open_device(work.options.device, engine.precision)
    job = Job(method, work.store, train, work.recipe, fabric, work.folder, work.cell.name, work.progress)
    job.checkpoint_seconds, job.engine = work.options.checkpoint_seconds, engine
    state = pretrain(job)
    price = Price(
        pretrain_seconds=state.seconds,
        volumes_per_second=len(train) * work.recipe.pretrain.epochs / state.seconds,
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        flops=flops,
        device=device_name(device) if engine.processes == 1 else f"{engine.processes} x {device_name(device)}",
    )
    return state, price


def _collapse(state: State, schedule: Schedule) -> Collapse:
    if not state.rows:
        return Collapse()
    last = state.rows[-1]
    verdict = collapsed(last, schedule.batch_size)
    return Collapse(feature_std=last["feature_std"], rankme=last["effective_rank"], collapsed=verdict)


def _notes(work: Work, method: Method, schedule: Schedule, engine: Engine) -> list[str]:
    pretraining, volumes, notes = work.recipe.pretrain, schedule.volumes, []
    if schedule.batch_size < pretraining.batch_size:
        notes.append(f"the effective batch is {volumes}, all training volumes: fewer than {pretraining.batch_size}")
    if pretraining.warmup_epochs is not None and pretraining.warmup_epochs > pretraining.epochs:
        notes.append(f"warm-up of {pretraining.warmup_epochs:g} epochs cut to the run's {pretraining.epochs}")
    if volumes % schedule.batch_size == 1:
        notes.append("the last volume of each epoch's order is left out: a window of one has nothing to contrast")
    if pretraining.compile is True and not compilable(method.backbone):
        notes.append("torch.compile was left out: it would drop the statistics of the backbone's batch norm")
    layers = random_layers(method)
    if layers and engine.micro_batch < schedule.batch_size:
        notes.append(f"{', '.join(layers)}: the same in both passes; across splits equal in distribution only")
    return notes
