"""The Python API: the main commands as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ssl3d.experiment import read_experiment
from ssl3d.progress import Progress
from ssl3d.results.read import read_results
from ssl3d.run.execute import execute
from ssl3d.run.load import load_encoder
from ssl3d.run.options import ONLY, Options
from ssl3d.run.planning.plan import make_plan
from ssl3d.tables.tables import Tables
from ssl3d.weights.portable import portable_state

__all__ = ["bench", "load_encoder", "portable_state"]


def bench(
    methods: Sequence[str] | None = None,
    backbones: Sequence[str] | None = None,
    *,
    seeds: Sequence[int] | None = None,
    controls: Sequence[str] | None = None,
    data: str | Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    plane: str | Sequence[str] | None = None,
    corpus: str | Sequence[str] | None = None,
    init: str | Path | None = None,
    protocols: Sequence[str] | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    root: str | Path | Mapping[str, str | Path] | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Pretrain methods, evaluate their encoders, write the tables, and return the leaderboard.

    Do what ``ssl3d bench`` does, with the same defaults: BYOL and SimCLR with the ``tiny`` backbone on the synthetic
    ``demo`` data. A second call with the same arguments resumes the run.

    Args:
        methods: names, ``module:Class`` or ``path/to/file.py:Class``.
        backbones: likewise.
        seeds: repetitions.
        controls: controls to add, such as "random"; ("all",) if None, ("none",) for no control.
        data: data sets to evaluate on, such as "mrnet" or "medmnist3d:adrenalmnist3d".
        task: target to predict, several targets, or "all".
        plane: plane of the exam, several planes, or "all".
        corpus: data sets to pretrain on; if None, the training split of each evaluated data set.
        init: what all training starts from: a name of the backbones' published weights, or a file; at random if None.
        protocols: names, such as "linear", "knn", "finetune".
        recipe: TOML file; the other arguments override it.
        settings: any recipe field by dotted name, ``{"pretrain.epochs": 20}``.
        root: folder of the data set's files, or a mapping from data set names to folders.
        out: folder of the run.
        device: "auto", "cpu", "cuda" or "cuda:1".
        options: these three and the rest of :class:`ssl3d.run.options.Options`; overrides them.
        progress: receives the progress.

    Returns:
        One row per method, backbone, task and protocol. A failure is a row with its reason.

    Raises:
        UserError: bad input; nothing was run.
    """
    given = {
        "methods": methods,
        "backbones": backbones,
        "seeds": seeds,
        "controls": controls,
        "data.name": data,
        "data.task": task,
        "data.plane": plane,
        "corpus": corpus,
        "init.weights": None if init is None else str(init),
        "evaluate.protocols": protocols,
        **(settings or {}),
    }
    options = options or Options()
    options = replace(
        options,
        roots=options.roots if root is None else _roots(root),
        out=options.out if out is None else Path(out),
        device=device or options.device,
    )
    experiment = read_experiment(Path(recipe) if recipe else None, given)
    outcome = execute(make_plan(experiment, options), options, progress)
    return Tables(read_results(outcome.folder)).leaderboard


def _roots(root: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    if isinstance(root, Mapping):
        return {name: Path(folder) for name, folder in root.items()}
    return {ONLY: Path(root)}
