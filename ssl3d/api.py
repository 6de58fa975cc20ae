"""The same from Python: what the commands do, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ssl3d.experiment import read_experiment
from ssl3d.progress import Progress
from ssl3d.results.folder import cells_folder
from ssl3d.run.encoders import load_encoder
from ssl3d.run.execute import execute
from ssl3d.run.options import Options
from ssl3d.run.plan import make_plan
from ssl3d.tables.combine_planes import read_run
from ssl3d.tables.leaderboard import leaderboard

__all__ = ["bench", "load_encoder"]


def bench(
    methods: Sequence[str] | None = None,
    backbones: Sequence[str] | None = None,
    *,
    seeds: Sequence[int] | None = None,
    data: str | None = None,
    task: str | Sequence[str] | None = None,
    plane: str | Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Pretrain methods, judge them, write the tables, and return the leaderboard.

    What ``ssl3d bench`` does, with the same defaults: BYOL and SimCLR with the ``tiny`` backbone on the synthetic
    ``demo`` data. Called again with the same arguments, it goes on from what is done.

    Args:
        methods: names, ``module:Class`` or ``path/to/file.py:Class``.
        backbones: likewise.
        seeds: repetitions.
        data: data set, "mrnet" or "medmnist3d:adrenalmnist3d".
        task: label to predict, several of them, or "all".
        plane: of the exam, several, or "all".
        protocols: of "linear", "knn", "finetune".
        recipe: TOML file; the other arguments win over it.
        settings: any recipe field by dotted name, ``{"pretrain.epochs": 20}``.
        root: folder of the data set's files.
        out: folder of the run.
        device: "auto", "cpu", "cuda" or "cuda:1".
        options: these three and the rest of :class:`ssl3d.run.options.Options`, which they win over.
        progress: listens.

    Returns:
        One row a method, backbone and protocol. Cells that failed are rows with their reason.

    Raises:
        UserError: bad input; nothing was run.
    """
    given = {
        "methods": methods,
        "backbones": backbones,
        "seeds": seeds,
        "data.name": data,
        "data.task": task,
        "data.plane": plane,
        "evaluate.protocols": protocols,
        **(settings or {}),
    }
    options = options or Options()
    options = replace(
        options,
        root=options.root if root is None else Path(root),
        out=options.out if out is None else Path(out),
        device=device or options.device,
    )
    experiment = read_experiment(Path(recipe) if recipe else None, given)
    outcome = execute(make_plan(experiment, options.root, options.weights), options, progress)
    return leaderboard(read_run(cells_folder(outcome.folder)))
