"""What is said of a training as it goes on, and what is left of it: figures of a step, a row an epoch, ``log.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ssl3d.train.schedule import Schedule


def step_figures(schedule: Schedule, step: int, rate: float) -> dict[str, float]:
    """Return how far a step is, and how fast: in volumes a second."""
    return {
        "volumes/s": rate,
        "epoch": step // schedule.steps_per_epoch + 1,
        "epochs": schedule.epochs,
        "epoch step": step % schedule.steps_per_epoch + 1,
        "epoch steps": schedule.steps_per_epoch,
    }


def epoch_means(steps: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], float]:
    """Return the means of the steps' scalars, weighted by their volumes, and the volumes a second.

    Args:
        steps: scalars of each, with its ``volumes`` and ``seconds``.
    """
    table = pd.DataFrame(steps)
    volumes, seconds = table.pop("volumes"), table.pop("seconds")
    means = {str(name): float(np.average(column, weights=volumes)) for name, column in table.items()}
    return means, float(volumes.sum() / seconds.sum())


def epoch_row(
    epoch: int, step: int, steps: Sequence[Mapping[str, float]], lr: float, measures: Mapping[str, float]
) -> dict[str, float]:
    """Return the row of an epoch that is complete: means over its steps, the last learning rate, measures of collapse."""
    means, rate = epoch_means(steps)
    return {"epoch": float(epoch), "step": float(step), **means, "lr": lr, **measures, "volumes_per_second": rate}


def write_log(folder: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write ``log.csv``: one row an epoch."""
    temporary = folder / ".log.csv"
    pd.DataFrame(rows).to_csv(temporary, index=False)
    temporary.replace(folder / "log.csv")


def lost(what: str, step: int, schedule: Schedule, kept: Path, precise: bool) -> str:
    """Return the sentence for a loss or gradient that is not finite: where, at which rate, and what to do.

    Args:
        what: happened.
        step: before which the weights are sound.
        schedule: of the run.
        kept: file of the last checkpoint, if there is one.
        precise: whether arithmetic is float32 already; some kernels give NaN in bf16, thin convolutions on CPUs do.
    """
    or_precision = "" if precise else " or --precision 32-true"
    if step == 0:
        return f"{what} at the first step, before any update: look at the method with `ssl3d check`{or_precision}"
    return (
        f"{what} at step {step + 1} of {schedule.steps} (learning rate {schedule.lr(step):.3g}); try a smaller "
        f"--set pretrain.lr{or_precision}. Last good checkpoint: {kept if kept.exists() else 'none yet'}"
    )
