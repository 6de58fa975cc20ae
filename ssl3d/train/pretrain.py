"""The pretraining loop: effective batches in a keyed order, one optimiser step each, with checkpoints in between."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from ssl3d.data.rng import Stream, mix
from ssl3d.engine import Engine
from ssl3d.errors import RunError
from ssl3d.files import CHECKPOINT, remove_partial
from ssl3d.train import checkpoint
from ssl3d.train.collapse import measure
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Part
from ssl3d.train.interrupt import Interrupted, deferred
from ssl3d.train.job import Job, State, TrainingError
from ssl3d.train.log import epoch_row, lost, step_figures, write_log
from ssl3d.train.optimizer import build_optimizer, clip_gradient, finite_gradients, prepare_step
from ssl3d.train.processes import Group
from ssl3d.train.schedule import Schedule
from ssl3d.train.tuning.fallback import fallback
from ssl3d.train.tuning.layout import arrange
from ssl3d.train.tuning.memory import release_memory
from ssl3d.train.window import Window, WindowResult

__all__ = ["Job", "State", "TrainingError", "pretrain"]


def pretrain(job: Job) -> State:
    """Train the method of a job from its last checkpoint, or from scratch, to the end of its recipe.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint holds the last complete step.
        TrainingError: the loss or a gradient is not finite; the weights are those of the step before.
        RunError: the checkpoint cannot be read, or belongs to another encoder.
        PluginError: the method violates its contract, or nothing in it is trainable.
    """
    loop = _Loop(job)
    try:
        with deferred() as stop, loop.prefetching():
            while loop.state.step < loop.schedule.steps:
                loop.step()
                stopped = loop.group.any(stop.requested)
                loop.save(0.0 if stopped else job.checkpoint_seconds)
                if stopped:
                    raise Interrupted
            loop.save()
            if loop.group.any(stop.requested):  # a signal that arrived while the last step was being saved
                raise Interrupted
    finally:
        arrange(job.method)
    return loop.state


class _Loop:
    """Optimiser, schedule, window and state of a job, and the training step."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.group = Group.current()
        with self.group.together():
            self._build()
        job.progress.phase(job.name, "pretraining", self.schedule.steps, "steps", self.state.step)

    def _build(self) -> None:
        job, recipe = self.job, self.job.pretraining
        self.schedule = Schedule.of(recipe, len(job.indices))
        if recipe.precision == "64-true":
            job.method.double()
        job.method.to(job.fabric.device).train()
        self.optimizer = build_optimizer(job.method, recipe)
        self.scaler = torch.amp.GradScaler(job.fabric.device.type, enabled=recipe.precision == "16-mixed")
        engine = job.engine or Engine.of(recipe, self.schedule.batch_size, self.group.size)
        # Fabric's 64-true would change the default dtype of all threads, and so of views made in another.
        mixed = engine.precision.endswith("mixed")
        self.window = Window(
            BatchEncoder(job.method, job.source, job.recipe.seed, job.fabric.autocast if mixed else nullcontext),
            engine.micro_batch,
            recipe.accumulation == "exact",
            self.group,
            self.scaler.scale,
            engine.keep,
        )
        self.state = self._resume()
        begun = self.engine if self.state.engine else engine
        self._carry_out(begun.model_copy(update={"processes": self.group.size}))
        self.saved_at = time.monotonic()

    @property
    def engine(self) -> Engine:
        """How steps are currently executed."""
        return Engine.model_validate(self.state.engine)

    @contextmanager
    def prefetching(self) -> Iterator[None]:
        """Make views ahead of the steps that need them."""
        encoder = self.window.encoder
        try:
            encoder.prefetch(self._requests())
            yield
        finally:
            encoder.close()

    def _requests(self) -> Iterator[tuple[EffectiveBatch, Part]]:
        for step in range(self.state.step, self.schedule.steps):
            yield from self.window.requests(self._batch(step))

    def step(self) -> None:
        """Take one optimiser step."""
        started, step = time.monotonic(), self.state.step
        batch = self._batch(step)
        outcome = self._backward(batch)
        self._check(outcome, step)
        with self.group.together():
            stepped = self._optimise(step)
        if stepped:
            outcome.statistics.commit()
        with self.group.together():
            if stepped:
                self.job.method.after_step(batch.progress, outcome.kept)
            self._record(batch, outcome, time.monotonic() - started)

    def _record(self, batch: EffectiveBatch, outcome: WindowResult, seconds: float) -> None:
        """Count and log a finished step, and close the epoch if it was the last one."""
        step = batch.step
        self.state.step += 1
        self.state.seconds += seconds
        self.state.epoch.append({**outcome.scalars, "volumes": len(batch), "seconds": seconds})
        if self.schedule.is_last_whole(step):
            self.state.measures = measure(outcome.features)
        figures = {**outcome.scalars, **step_figures(self.schedule, step, len(batch) / seconds)}
        self.job.progress.advance(self.state.step, figures)
        if self.state.step % self.schedule.steps_per_epoch == 0:
            self._close_epoch()

    def _carry_out(self, engine: Engine) -> None:
        """Execute the following steps as an engine says."""
        self.state.engine = engine.model_dump(mode="json")
        self.window.micro_batch, self.window.keep = engine.micro_batch, engine.keep
        self.window.encoder.channels_last = engine.channels_last
        arrange(self.job.method, engine.channels_last, engine.compile)

    def _backward(self, batch: EffectiveBatch) -> WindowResult:
        """Compute the gradient of a batch; if memory or the compiler fails, in a less demanding way.

        The state has not moved by then: views depend on the step alone, and the window restores running statistics.
        """
        while True:
            try:
                return self.window.backward(batch)
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError and torch.compile's are the former
                other = fallback(self.engine, self.job.pretraining, error)
                if other is None:
                    raise
            # Outside the handler, which keeps the frames, and so the memory, of the failed call alive.
            with self.group.together():
                self._go_on_with(other[0], f"step {batch.step + 1}: {other[1]}")

    def _go_on_with(self, engine: Engine, note: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        release_memory(self.job.fabric.device)
        self._carry_out(engine)
        self.window.encoder.prefetch(self._requests())
        self.state.notes.append(note)
        self.job.progress.note(f"{self.job.name}: {note}")

    def _optimise(self, step: int) -> bool:
        """Step the optimiser; return whether it moved. With fp16, the scaler skips a step that overflowed."""
        prepare_step(self.optimizer, self.schedule, step)
        if not self.scaler.is_enabled() and not finite_gradients(self.job.method):
            raise self._lost("a gradient is not finite", step)
        if self.job.pretraining.clip_gradient is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradient(self.job.method, self.job.pretraining.clip_gradient)
        if all(parameter.grad is None for parameter in self.job.method.parameters()):
            return True  # no volume had any weight (none is labelled, for example), or all parameters are frozen
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return not self.scaler.is_enabled() or self.scaler.get_scale() >= before

    def _batch(self, step: int) -> EffectiveBatch:
        """Return the volumes of a step: a slice of the epoch's order, which depends on seed and epoch alone."""
        key = int(mix(Stream.ORDER, self.job.recipe.seed, step // self.schedule.steps_per_epoch))
        order = np.random.Generator(np.random.Philox(key)).permutation(len(self.job.indices))
        taken = self.schedule.batch(step)
        indices = [self.job.indices[position] for position in order[taken.start : taken.stop]]
        return EffectiveBatch(indices, step, self.schedule.progress(step))

    def _check(self, outcome: WindowResult, step: int) -> None:
        if not math.isfinite(outcome.scalars["loss"]):
            raise self._lost(f"the loss is {outcome.scalars['loss']}", step)

    def _lost(self, what: str, step: int) -> TrainingError:
        precise = self.engine.precision == "32-true"
        return TrainingError(lost(what, step, self.schedule, self.job.folder / CHECKPOINT, precise))

    def _close_epoch(self) -> None:
        state = self.state
        lr = self.schedule.lr(state.step - 1)
        state.rows.append(epoch_row(len(state.rows) + 1, state.step, state.epoch, lr, state.measures))
        state.epoch.clear()

    def save(self, least_seconds: float = 0.0) -> None:
        """Write the checkpoint and the log, unless the last checkpoint is younger than ``least_seconds``."""
        with self.group.together():
            if self.group.leads and time.monotonic() - self.saved_at >= least_seconds:
                self._write()

    def _write(self) -> None:
        remove_partial(self.job.folder, CHECKPOINT)  # left by a process that was killed while writing
        checkpoint.save(
            self.job.folder,
            {
                "key": self.job.key,
                "method": self.job.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                **vars(self.state),
            },
        )
        write_log(self.job.folder, self.state.rows)
        self.saved_at = time.monotonic()

    def _resume(self) -> State:
        """Load the last checkpoint, if there is one."""
        saved = checkpoint.load(self.job.folder, self.job.fabric.device)
        if saved is None:
            return State()
        if saved["key"] != self.job.key:
            raise RunError(
                f"{self.job.folder / CHECKPOINT} belongs to another encoder; delete it, or use another --out"
            )
        self.job.method.load_state_dict(saved["method"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        kept: dict[str, Any] = {name: saved[name] for name in vars(State())}
        self.job.progress.note(f"{self.job.name}: continues after step {kept['step']}")
        return State(**kept)
