"""The log of a training: values per step, one row per epoch in ``log.csv``, and a loss that is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ssl3d.files import LOG, write_atomic
from ssl3d.train.schedule import Schedule

COLUMNS = ("epoch", "step", "loss", "lr", "volumes_per_second")  # of an empty log


def step_figures(schedule: Schedule, step: int, rate: float) -> dict[str, float]:
    """Return the values that describe a step: its place in the training, and volumes per second."""
    return {
        "volumes/s": rate,
        "epoch": step // schedule.steps_per_epoch + 1,
        "epochs": schedule.epochs,
        "epoch step": step % schedule.steps_per_epoch + 1,
        "epoch steps": schedule.steps_per_epoch,
    }


def epoch_means(steps: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], float]:
    """Return the means of the steps' scalars, weighted by volumes, and the volumes per second.

    Args:
        steps: scalars of each step, including ``volumes`` and ``seconds``.
    """
    table = pd.DataFrame(steps)
    volumes, seconds = table.pop("volumes"), table.pop("seconds")
    means = {str(name): float(np.average(column, weights=volumes)) for name, column in table.items()}
    return means, float(volumes.sum() / seconds.sum())


def epoch_row(
    epoch: int, step: int, steps: Sequence[Mapping[str, float]], lr: float, measures: Mapping[str, float]
) -> dict[str, float]:
    """Return the row of a complete epoch: means over its steps, the last learning rate, measures of collapse."""
    means, rate = epoch_means(steps)
    return {"epoch": float(epoch), "step": float(step), **means, "lr": lr, **measures, "volumes_per_second": rate}


def write_log(folder: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write ``log.csv``: one row per epoch."""
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(COLUMNS))
    write_atomic(folder / LOG, table.to_csv(index=False))


def lost(what: str, step: int, schedule: Schedule, kept: Path, precise: bool) -> str:
    """Return the message for a loss or gradient that is not finite: where, at which rate, and what to do.

    Args:
        what: what is not finite.
        step: step at which it happened; the weights are from before it.
        schedule: schedule of the pretraining.
        kept: file of the last checkpoint, if any.
        precise: whether arithmetic is already float32; some kernels (thin convolutions on CPUs) give NaN in bf16.
    """
    or_precision = "" if precise else " or --precision 32-true"
    if step == 0:
        return f"{what} at the first step, before any update; examine the method with `ssl3d check`{or_precision}"
    return (
        f"{what} at step {step + 1} of {schedule.steps} (learning rate {schedule.lr(step):.3g}); try a smaller "
        f"--set pretrain.lr{or_precision}. Last good checkpoint: {kept if kept.exists() else 'none yet'}"
    )
