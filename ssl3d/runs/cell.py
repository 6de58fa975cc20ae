"""One cell, from recipe to result."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.store import Store
from ssl3d.errors import DataError
from ssl3d.evaluate.features import extract
from ssl3d.evaluate.finetune import light
from ssl3d.evaluate.protocol import ON_FEATURES, Prediction, protocol
from ssl3d.method import Method
from ssl3d.progress import Progress
from ssl3d.recipe import Recipe
from ssl3d.registry import plugins, split_variant
from ssl3d.runs.devices import device_name, open_device, placed
from ssl3d.runs.encoders import save_encoder
from ssl3d.runs.exactness import exactness, random_layers
from ssl3d.runs.options import Options
from ssl3d.runs.plan import Cell
from ssl3d.runs.results import (
    CellResult,
    Collapse,
    DataRecord,
    Price,
    ProtocolScore,
    predictions_frame,
    write_result,
)
from ssl3d.runs.scoring import protocol_score
from ssl3d.train import checkpoint
from ssl3d.train.build import build_method
from ssl3d.train.collapse import collapsed
from ssl3d.train.cost import pretrain_flops
from ssl3d.train.pretrain import Job, State, pretrain
from ssl3d.train.schedule import Schedule

PACKAGES = ("ssl3d", "torch", "torchvision", "lightly", "timm", "pytorchvideo", "scikit-learn", "numpy", "pandas")


@dataclass(frozen=True)
class Judged:
    """A task's volumes: numbers in the store and labels, for training heads and for the one test."""

    train: list[int]
    test: list[int]
    train_labels: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def of(cls, store: Store, task: str) -> Judged:
        """Return the labelled volumes of a task.

        Raises:
            DataError: a split has no volume with a label of this task.
        """
        train, test = store.labelled("train", task), store.labelled("test", task)
        for split, found in (("train", train), ("test", test)):
            if not found:
                raise DataError(f"{store.name}: no volume of the {split} split has a label for {task!r}")
        return cls(train, test, store.labels(task, train), store.labels(task, test))

    @property
    def classes(self) -> int:
        """K: the largest label of either split, and one."""
        return int(max(2, self.train_labels.max() + 1, self.test_labels.max() + 1))


@dataclass(frozen=True)
class _Work:
    """A cell in hand: what to do, on which volumes, where, and who hears of it."""

    cell: Cell
    store: Store
    judged: Judged
    folder: Path
    fabric: Fabric
    options: Options
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        return self.cell.recipe


def run_cell(cell: Cell, store: Store, folder: Path, options: Options, progress: Progress) -> CellResult:
    """Pretrain and judge a cell, and write what it leaves into its folder.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is there to go on from.
        Exception: whatever else goes wrong; nothing that looks like a result is left.
    """
    fabric = open_device(options.device, cell.recipe.pretrain.precision)
    store = placed(store, fabric.device)
    work = _Work(cell, store, Judged.of(store, str(cell.recipe.data.task)), folder, fabric, options, progress)
    method = build_method(cell.recipe, options.weights)
    method.to(fabric.device)
    state, price = _pretrain(work, method)
    encoder = method.encoder().float().eval()
    save_encoder(folder, encoder, cell.recipe)
    predictions, scores = _judge(work, encoder)
    result = CellResult(
        cell=cell.name,
        status="done",
        recipe=cell.recipe,
        data=_data_record(work),
        exactness=exactness(method, cell.recipe, _schedule(work).batch_size),
        departures=method.card.departures,
        scores=scores,
        collapse=_collapse(work, state),
        price=price,
        versions=_versions(cell.recipe),
        notes=tuple(_notes(work, method)),
        finished_at=now(),
    )
    probabilities = {name: prediction.probabilities for name, prediction in predictions.items()}
    frame = predictions_frame(store.ids(work.judged.test), work.judged.test_labels, probabilities)
    write_result(folder, result, frame)
    checkpoint.remove(folder)
    return result


def failed(cell: Cell, folder: Path, reason: str) -> CellResult:
    """Record that a cell failed, and why."""
    result = CellResult(
        cell=cell.name,
        status="failed",
        reason=reason,
        recipe=cell.recipe,
        versions=_versions(cell.recipe),
        finished_at=now(),
    )
    write_result(folder, result, None)
    return result


def _schedule(work: _Work) -> Schedule:
    return Schedule.of(work.recipe.pretrain, len(work.store.indices("train")))


def _pretrain(work: _Work, method: Method) -> tuple[State | None, Price]:
    """Train the method, if it trains, and say what that cost."""
    device = work.fabric.device
    if not method.trains:
        return None, Price(device=device_name(device))
    train = work.store.indices("train")
    flops = pretrain_flops(method, work.recipe, len(train))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    job = Job(method, work.store, train, work.recipe, work.fabric, work.folder, work.cell.name, work.progress)
    job.checkpoint_seconds = work.options.checkpoint_seconds
    state = pretrain(job)
    price = Price(
        pretrain_seconds=state.seconds,
        volumes_per_second=len(train) * work.recipe.pretrain.epochs / state.seconds,
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        flops=flops,
        device=device_name(device),
    )
    return state, price


def _judge(work: _Work, encoder: Backbone) -> tuple[dict[str, Prediction], dict[str, ProtocolScore]]:
    """Run every protocol of the recipe; features are extracted once for those that need nothing else."""
    judged, settings = work.judged, work.recipe.evaluate
    work.progress.phase(work.cell.name, "judging", len(settings.protocols), "protocols")
    predictions: dict[str, Prediction] = {}
    scores: dict[str, ProtocolScore] = {}
    features = cache(lambda: _features(work, encoder))
    for done, name in enumerate(settings.protocols, 1):
        started = time.monotonic()
        if name in ON_FEATURES:
            train_x, test_x = features()
            predictions[name] = protocol(name)(
                train_x,
                judged.train_labels,
                test_x,
                folds=settings.folds,
                seed=work.recipe.seed,
                classes=judged.classes,
            )
        else:
            predictions[name] = _finetune(work, encoder)
        scores[name] = protocol_score(predictions[name], judged.test_labels, time.monotonic() - started)
        work.progress.advance(done, {f"{name} AUC": scores[name].metrics["auc"] or float("nan")})
    return predictions, scores


def _features(work: _Work, encoder: Backbone) -> tuple[np.ndarray, np.ndarray]:
    train, test = (
        extract(
            encoder,
            work.store,
            indices,
            size=work.recipe.view_size,
            batch_size=work.recipe.evaluate.batch_size,
            device=work.fabric.device,
        )
        for indices in (work.judged.train, work.judged.test)
    )
    return train, test


def _finetune(work: _Work, encoder: Backbone) -> Prediction:
    return protocol("finetune")(
        encoder,
        work.store,
        work.judged.train,
        work.judged.test,
        work.judged.train_labels,
        recipe=work.recipe.evaluate,
        augment=Augment(light(work.recipe.augment), work.recipe.view_size),
        device=work.fabric.device,
        seed=work.recipe.seed,
        classes=work.judged.classes,
    )


def _data_record(work: _Work) -> DataRecord:
    return DataRecord(
        name=work.store.name,
        synthetic=work.store.synthetic,
        fingerprint=work.store.fingerprint,
        task=str(work.recipe.data.task),
        plane=work.recipe.data.plane or "",
        n_train=len(work.judged.train),
        n_test=len(work.judged.test),
        classes=work.judged.classes,
    )


def _collapse(work: _Work, state: State | None) -> Collapse:
    if state is None or not state.rows:
        return Collapse()
    last = state.rows[-1]
    verdict = collapsed(last, _schedule(work).batch_size)
    return Collapse(feature_std=last["feature_std"], rankme=last["effective_rank"], collapsed=verdict)


def _notes(work: _Work, method: Method) -> list[str]:
    """What happened otherwise than the recipe's words alone would make a reader think."""
    loaded = [method.backbone.loaded] if method.backbone.loaded else []
    if not method.trains:
        return loaded
    schedule, pretraining = _schedule(work), work.recipe.pretrain
    volumes = schedule.volumes
    notes = loaded
    if schedule.batch_size < pretraining.batch_size:
        notes.append(f"the effective batch is {volumes}, all training volumes: fewer than {pretraining.batch_size}")
    if pretraining.warmup_epochs is not None and pretraining.warmup_epochs > pretraining.epochs:
        notes.append(f"warm-up of {pretraining.warmup_epochs:g} epochs cut to the run's {pretraining.epochs}")
    if volumes % schedule.batch_size == 1:
        notes.append("the last volume of each epoch's order is left out: a window of one has nothing to contrast")
    layers = random_layers(method)
    if layers and (pretraining.micro_batch or schedule.batch_size) < schedule.batch_size:
        notes.append(f"{', '.join(layers)}: the same in both passes; across splits equal in distribution only")
    return notes


def _versions(recipe: Recipe) -> dict[str, str]:
    """Versions of Python, of the packages that decide numbers, and of those that the plugins come from."""
    named = (
        plugins("methods").get(recipe.method),
        plugins("backbones").get(split_variant("backbones", recipe.backbone)[0]),
    )
    owners = {plugin.distribution for plugin in named if plugin is not None}
    return {"python": sys.version.split()[0], **{name: version(name) for name in (*PACKAGES, *sorted(owners))}}


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
