"""The pretraining of one encoder: tuned, checked for exactness, trained, priced. Other processes train along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ssl3d.data.corpus import Corpus
from ssl3d.engine import Engine
from ssl3d.method import AnyMethod
from ssl3d.progress import Progress
from ssl3d.recipe import PretrainRecipe
from ssl3d.results.model import Collapse, PlannedEncoder, Price
from ssl3d.run.devices import device_name, open_device, placed
from ssl3d.run.options import Options
from ssl3d.run.volumes import PackedVolumes
from ssl3d.train import checkpoint
from ssl3d.train.build import build_method, method_class, misfits
from ssl3d.train.collapse import collapsed
from ssl3d.train.cost import pretrain_flops
from ssl3d.train.exactness import Measured, measure
from ssl3d.train.pretrain import Job, State, pretrain
from ssl3d.train.processes import Group
from ssl3d.train.schedule import Schedule
from ssl3d.train.tuning.layout import compilable
from ssl3d.train.tuning.tune import notes as tuning_notes
from ssl3d.train.tuning.tune import tune


@dataclass(frozen=True)
class Pretraining:
    """The encoder to pretrain, its data, and the location of its checkpoint."""

    planned: PlannedEncoder
    fold: int
    corpus: Corpus
    folder: Path
    label: str

    @property
    def recipe(self) -> PretrainRecipe:
        """The ``pretrain`` part of the encoder's recipe."""
        assert self.planned.recipe.pretrain is not None  # the plan has one for every method that trains
        return self.planned.recipe.pretrain

    @property
    def schedule(self) -> Schedule:
        """The schedule of its steps."""
        return Schedule.of(self.recipe, len(self.corpus))


@dataclass(frozen=True)
class Made:
    """The report on an encoder that is ready to be written.

    Attributes:
        price: what it cost.
        measured: exactness of its accumulation; None if it was not trained.
        engine: how it was trained; None if it was not.
        collapse: measures and verdict.
        notes: deviations from the recipe.
    """

    price: Price
    measured: Measured | None = None
    engine: Engine | None = None
    collapse: Collapse = field(default_factory=Collapse)
    notes: tuple[str, ...] = ()


def pretrained(what: Pretraining, method: AnyMethod, fabric: Fabric, options: Options, progress: Progress) -> Made:
    """Train a method in place, from its last checkpoint or from scratch.

    With several processes, this is the first one; it notifies the others, which follow in :func:`train_along`.

    Args:
        what: the encoder to pretrain.
        method: method on the device.
        fabric: the device, in the precision of the recipe.
        options: how the run is executed.
        progress: receives the steps.

    Raises:
        Interrupted: a signal asked to stop; the run can be resumed from the checkpoint.
        TrainingError: the loss or a gradient is not finite.
    """
    group, recipe, schedule = Group.current(), what.planned.recipe, what.schedule
    engine = _threaded(_engine(what, method, group.size, progress), fabric.device, what.label, progress)
    measured = measure(method, recipe, engine, schedule.batch_size)
    message = {"planned": what.planned.model_dump(mode="json"), "fold": what.fold, "folder": str(what.folder)}
    group.tell({**message, "label": what.label, "engine": engine.model_dump(mode="json")})
    with group.together():  # the others get ready meanwhile
        flops = pretrain_flops(method, recipe, schedule.volumes, engine)
        if fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(fabric.device)
        job = _job(what, method, engine, options, progress)
    with _threads(engine.threads):
        state = pretrain(job)
    engine = Engine.model_validate(state.engine)  # a step may have changed it
    return Made(
        price=_price(state, schedule, flops, engine, fabric.device),
        measured=measured,
        engine=engine,
        collapse=_collapse(state, schedule),
        notes=(*_notes(what, method), *tuning_notes(engine), *state.notes),
    )


def train_along(message: dict[str, Any], volumes: Callable[[], PackedVolumes], options: Options) -> None:
    """Train an encoder along with the leading process: the same steps, but nothing is written or reported here.

    Args:
        message: message of the first process; see :func:`pretrained`.
        volumes: opens the packed volumes.
        options: options of this process.
    """
    with Group.current().together():
        planned = PlannedEncoder.model_validate(message["planned"])
        corpus = volumes().corpus(planned.recipe, message["fold"], method_class(planned.recipe.method).needs)
        what = Pretraining(planned, message["fold"], corpus, Path(message["folder"]), message["label"])
        method = build_method(planned.recipe, options.weights, task=corpus.task, volumes=len(corpus))
        job = _job(what, method, Engine.model_validate(message["engine"]), options, Progress())
        engine = Engine.model_validate(message["engine"])
    with _threads(engine.threads):
        pretrain(job)


def _threaded(engine: Engine, device: torch.device, label: str, progress: Progress) -> Engine:
    """Return an engine with the number of threads, taken from the checkpoint if there is one."""
    if device.type != "cpu":
        return engine.model_copy(update={"threads": None})
    now = torch.get_num_threads()
    if engine.threads not in (None, now):
        progress.note(f"{label}: goes on with {engine.threads} threads, as it was begun, and not with {now}")
    return engine.model_copy(update={"threads": engine.threads or now})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Use this number of threads inside; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None and count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _job(what: Pretraining, method: AnyMethod, engine: Engine, options: Options, progress: Progress) -> Job:
    fabric = open_device(options.device, engine.precision)
    method.to(fabric.device)
    return Job(
        method=method,
        source=placed(what.corpus, fabric.device),
        indices=range(len(what.corpus)),
        recipe=what.planned.recipe,
        key=what.planned.key,
        fabric=fabric,
        folder=what.folder,
        name=what.label,
        progress=progress,
        checkpoint_seconds=options.checkpoint_seconds,
        engine=engine,
    )


def _engine(what: Pretraining, method: AnyMethod, processes: int, progress: Progress) -> Engine:
    """Return the engine to train an encoder with: the checkpoint's, or else the result of trials on the device."""
    begun = checkpoint.engine(what.folder)
    if begun is not None:
        return Engine.model_validate(begun).model_copy(update={"processes": processes})
    engine = tune(method, what.planned.recipe, what.schedule.batch_size, processes)
    if engine.compile and not compilable(method.backbone):
        engine = engine.model_copy(update={"compile": False})
    if engine.trials:
        progress.note(f"{what.label}: {engine.sentence()}, after {len(engine.trials)} trials")
    return engine


def _price(state: State, schedule: Schedule, flops: float, engine: Engine, device: torch.device) -> Price:
    return Price(
        pretrain_seconds=state.seconds,
        volumes_per_second=schedule.volumes * schedule.epochs / state.seconds,
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        flops=flops,
        device=device_name(device) if engine.processes == 1 else f"{engine.processes} x {device_name(device)}",
    )


def _collapse(state: State, schedule: Schedule) -> Collapse:
    if not state.rows:
        return Collapse()
    last = state.rows[-1]
    verdict = collapsed(last, schedule.batch_size)
    return Collapse(feature_std=last["feature_std"], rankme=last["effective_rank"], collapsed=verdict)


def _notes(what: Pretraining, method: AnyMethod) -> list[str]:
    recipe, schedule, notes = what.recipe, what.schedule, []
    if not any(parameter.requires_grad for parameter in method.backbone.parameters()):
        notes.append("no parameter of the backbone was trained: all of them are frozen")
    notes += misfits(what.planned.recipe, schedule.volumes)
    if recipe.warmup_epochs is not None and recipe.warmup_epochs > recipe.epochs:
        notes.append(f"warm-up of {recipe.warmup_epochs:g} epochs cut to the {recipe.epochs} of the training")
    if schedule.volumes % schedule.batch_size == 1:
        notes.append("the last volume of each epoch's order is left out: one volume alone has nothing to contrast with")
    if recipe.compile is True and not compilable(method.backbone):
        notes.append("torch.compile was left out: it would drop the statistics of the backbone's batch norm")
    return notes
