"""Settings that a recipe leaves to the hardware ("auto"), chosen by short trials on the current device.

In this order: how an effective batch is split, and how many micro-batches keep their activations; bf16 or float32,
and the memory layout; torch.compile. If precision or layout changed, the split is chosen again. Each trial is a row
of the engine's ``trials``; it does not change the method or the generators.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.encode import VIEW_BYTES, VIEW_SHARE
from ssl3d.train.tuning.fallback import NOT_COMPILED
from ssl3d.train.tuning.layout import compilable, compiler_failed, first_line
from ssl3d.train.tuning.memory import budget, out_of_memory, release_memory
from ssl3d.train.tuning.trial import MOST_SECONDS, Measured, Trial

# Minimum gain of a change: its time relative to the time without it, at most.
PAYS = {"precision": 0.9, "compile": 0.95, "channels_last": 0.98}
# Cosine with float32's gradient. Features are pulled in random directions here, which cancel more than a loss does:
# sound bf16 kernels gave 0.96 to 0.99, unsound ones (thin 3D convolutions on CPUs) 0.0005 or NaN.
LEAST_COSINE = 0.9
OPTIMIZER_STATES = 2  # of AdamW, each the size of the weights


def tune(method: AnyMethod, recipe: EncoderRecipe, batch_size: int, processes: int = 1) -> Engine:
    """Return the engine for a method on its device, with a trial for each setting that the recipe leaves open.

    Args:
        method: on the device where it will train; not changed.
        recipe: recipe of the encoder.
        batch_size: number of volumes in an effective batch.
        processes: number of processes that share it.
    """
    asked = recipe.pretrain or PretrainRecipe()
    engine = Engine.of(asked, batch_size, processes)
    if "auto" not in (asked.micro_batch, asked.precision, asked.channels_last, asked.compile):
        return engine
    device = next(method.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return _Tuner(Trial(method, recipe.view_size), asked, -(-batch_size // processes), batch_size).choose(engine)


def notes(engine: Engine) -> list[str]:
    """Return the notes on an engine's trials that a reader of the result should know."""
    return list(dict.fromkeys(row["outcome"] for row in engine.trials if row["outcome"].startswith(NOT_COMPILED)))


@dataclass
class _Tuner:
    """Trials of one method, and the choices made from them.

    Attributes:
        trial: runs them.
        recipe: recipe in which open settings are "auto".
        share: number of volumes of an effective batch on this process.
        batch_size: number of volumes in an effective batch.
        rows: one per trial.
        reference: gradient of the first trial of precision, layout and compiler, which others are compared with.
    """

    trial: Trial
    recipe: PretrainRecipe
    share: int
    batch_size: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    reference: Tensor | None = None

    def choose(self, engine: Engine) -> Engine:
        """Return an engine with all settings chosen."""
        chosen = self._arranged(self._split(engine))
        if _same_arithmetic(chosen, engine):
            return chosen.model_copy(update={"trials": tuple(self.rows)})
        again = self._split(chosen.model_copy(update={"compile": False}))
        return again.model_copy(update={"compile": chosen.compile, "trials": tuple(self.rows)})

    # How an effective batch is split

    def _split(self, engine: Engine) -> Engine:
        """Return the engine with the micro-batch, and the number of them kept, that fit and are fastest.

        On a GPU that is the largest micro-batch; on a CPU it may be a small one, which stays in the caches.
        """
        if self.recipe.micro_batch != "auto":
            return engine
        left = self._memory(engine)
        fits = self._fitting(engine, left)
        if not fits:
            return engine.model_copy(update={"micro_batch": 1, "keep": 1})
        if self.trial.device.type == "cuda":
            return max(fits, key=lambda fit: fit[0].micro_batch)[0]
        return min(fits, key=lambda fit: fit[1] * self._passes(fit[0]))[0]

    def _fitting(self, engine: Engine, left: int) -> list[tuple[Engine, float]]:
        """Return the splits that fit into ``left`` bytes, and their seconds per volume without a second pass."""
        fits: list[tuple[Engine, float]] = []
        for size in self._sizes():
            tried = engine.model_copy(update={"micro_batch": size, "keep": 1})
            if fits and fits[-1][1] * size > MOST_SECONDS:
                break  # a larger one gains nothing if this takes so long
            measured = self._try(tried)
            if measured is None:
                break
            if measured.peak > left:
                self.rows[-1]["outcome"] = f"does not fit: {left / 2**20:.0f} MiB are left"
                break
            parts = -(-self.share // size)
            keep = min(parts, 1 + (left - measured.peak) // max(1, measured.held))
            fits.append((tried.model_copy(update={"keep": keep}), measured.seconds))
            if self.trial.device.type != "cuda" and 2 * measured.peak > left:
                break  # a GPU raises if it does not fit; on a CPU the process would be killed
        return fits

    def _memory(self, engine: Engine) -> int:
        """Return the bytes left for activations, after loss, optimiser and views of an effective batch."""
        trainable = sum(p.numel() * p.element_size() for p in self.trial.method.parameters() if p.requires_grad)
        left = budget(self.trial.device) // (engine.processes if self.trial.device.type == "cpu" else 1)
        views = max(VIEW_BYTES, int(VIEW_SHARE * left))
        heads = self.trial.heads(engine, self.batch_size) if self.trial.method.coupled else 0  # else in each trial
        return left - OPTIMIZER_STATES * trainable - views - heads

    def _sizes(self) -> list[int]:
        return [*(2**power for power in range(self.share.bit_length()) if 2**power < self.share), self.share]

    def _passes(self, engine: Engine) -> float:
        """Return the work of a step relative to one without a second pass; a forward pass is a third of it."""
        parts = -(-self.share // engine.micro_batch)
        again = max(0, parts - engine.keep) if self.trial.method.coupled else 0
        return 1 + again / parts / 3

    # Precision, memory layout, compiler

    def _arranged(self, engine: Engine) -> Engine:
        """Return the engine with the fastest arithmetic that reproduces float32's gradient."""
        asked, plain = self.recipe, engine.model_copy(update={"compile": False})
        if "auto" not in (asked.precision, asked.channels_last, asked.compile):
            return engine
        best = self._faster_layout(plain)
        if best is None:
            return engine
        further = [("precision", "bf16-mixed", asked.precision), ("compile", True, asked.compile)]
        for name, value in [(name, value) for name, value, choice in further if choice == "auto"]:
            other = self._faster_layout(plain.model_copy(update={"precision": best[0].precision, name: value}))
            if other is not None and other[1] <= PAYS[name] * best[1]:
                best = other
        return best[0].model_copy(update={"compile": best[0].compile or asked.compile is True})

    def _faster_layout(self, engine: Engine) -> tuple[Engine, float] | None:
        """Return the engine with the faster layout, and its seconds per volume; None without a sound gradient."""
        best: tuple[Engine, float] | None = None
        for layout in [engine.channels_last, *([True] if self.recipe.channels_last == "auto" else [])]:
            tried = engine.model_copy(update={"channels_last": layout})
            measured = self._try(tried)
            if measured is None:
                break
            if self._sound(measured.gradient) and (best is None or measured.seconds <= PAYS["channels_last"] * best[1]):
                best = tried, measured.seconds
        return best

    def _sound(self, gradient: Tensor) -> bool:
        """Return whether a gradient agrees with that of the first trial; record the agreement in the last row."""
        if self.reference is None:
            self.reference = gradient
        if not bool(gradient.isfinite().all()):
            self.rows[-1]["outcome"] = "refused: its gradient is not finite"
            return False
        cosine = float(torch.nn.functional.cosine_similarity(gradient.double(), self.reference.double(), dim=0))
        if cosine < LEAST_COSINE:
            self.rows[-1]["outcome"] = f"refused: its gradient differs (cosine {cosine:.4f})"
            return False
        if gradient is not self.reference:
            self.rows[-1]["outcome"] = f"cosine {cosine:.6f} with the gradient of the first"
        return True

    # A trial

    def _try(self, engine: Engine) -> Measured | None:
        """Run and record a trial; return None if it fails."""
        row: dict[str, Any] = {"what": _text(engine), "seconds_per_volume": None, "peak_bytes": None, "outcome": ""}
        self.rows.append(row)
        if engine.compile and not compilable(self.trial.method.backbone):
            row["outcome"] = "left out: a backbone with batch norm is not compiled"
            return None
        try:
            measured = self.trial.of(engine)
        except RuntimeError as error:
            if out_of_memory(error):
                row["outcome"] = "out of memory"
            elif engine.compile and compiler_failed(error):
                row["outcome"] = f"{NOT_COMPILED}: {first_line(error)}"
            else:
                raise
        else:
            row |= {"seconds_per_volume": measured.seconds, "peak_bytes": measured.peak, "outcome": "done"}
            return measured
        release_memory(self.trial.device)
        return None


def _text(engine: Engine) -> str:
    extras = (" channels last" if engine.channels_last else "") + (" compiled" if engine.compile else "")
    return f"{engine.micro_batch} volumes, {engine.precision}{extras}"


def _same_arithmetic(first: Engine, second: Engine) -> bool:
    return (first.precision, first.channels_last) == (second.precision, second.channels_last)
