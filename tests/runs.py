"""Small experiments on small files, and what they leave. No test is in here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from ssl3d.data.sets.demo import write_demo
from ssl3d.experiment import read_experiment
from ssl3d.progress import Progress
from ssl3d.run.execute import Outcome, execute
from ssl3d.run.options import Options
from ssl3d.run.plan import make_plan

SMALL = {  # as small as they come: seconds for a run
    "data.name": "mrnet",
    "view_size": [4, 16, 17],
    "pretrain.epochs": 2,
    "pretrain.batch_size": 4,
    "method.byol.hidden_dim": 8,
    "method.moco.queue_size": 16,
    "evaluate.inner_folds": 2,
}
TIMES = ("finished_at", "price", "content_sha256")  # of result.json


def write_knees(root: Path, cases: tuple[int, int] = (12, 8)) -> Path:
    """Write generated knees of 4 to 6 slices of 18 x 18 in MRNet's layout, and return their folder."""
    write_demo(root, size=18, cases=cases, slices=(4, 6))
    return root


def arguments(root: Path, out: Path, *more: str, methods: str = "byol", **changes: Any) -> list[str]:
    """Return the command line of a small run."""
    sets = [f"--set={name}={json.dumps(value)}" for name, value in {**SMALL, **changes}.items()]
    return ["bench", f"--methods={methods}", f"--root={root}", f"--out={out}", "--device=cpu", *sets, *more]


def small_run(
    root: Path, out: Path, methods: Sequence[str] = ("byol",), progress: Progress | None = None, **changes: Any
) -> Outcome:
    """Execute a small experiment; ``changes`` are fields of it (dots as double underscores), or options."""
    options = {name: changes.pop(name) for name in list(changes) if name in Options.__dataclass_fields__}
    fields = {name.replace("__", "."): value for name, value in changes.items()}
    experiment = read_experiment(None, {**SMALL, "methods": methods, **fields})
    return execute(
        make_plan(experiment, root), Options(**{"root": root, "out": out, "device": "cpu", **options}), progress
    )


class Listener(Progress):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: dict[str, str] = {}
        self.notes: list[str] = []
        self.phases: list[str] = []

    def cell_started(self, cell: str) -> None:
        self.started.append(cell.split("-", maxsplit=1)[0])

    def phase(self, cell: str, what: str, total: int, unit: str, done: int = 0) -> None:
        self.phases.append(f"{cell.split('-', maxsplit=1)[0]} {what}".strip())

    def note(self, text: str) -> None:
        self.notes.append(text)

    def cell_finished(self, cell: str, outcome: str) -> None:
        self.finished[cell.split("-", maxsplit=1)[0]] = outcome


def cell_folder(run: Path, method: str, seed: int = 0) -> Path:
    (folder,) = (run / "cells").glob(f"{method}-*-s{seed}-*")
    return folder


def left_behind(cell: Path) -> dict[str, Any]:
    """Everything that a cell leaves, times left out: comparable with ``==`` between two runs."""
    result = json.loads((cell / "result.json").read_text())
    for name in TIMES:
        result.pop(name)
    for score in [*result["scores"].values(), *(point["score"] for point in result["curve"])]:
        score.pop("seconds")
    log = cell / "log.csv"
    return {
        "files": sorted(path.name for path in cell.iterdir()),
        "result": result,
        "predictions": (cell / "predictions.csv").read_text(),
        "encoder": {name: value.tolist() for name, value in load_file(cell / "encoder.safetensors").items()},
        "log": pd.read_csv(log).drop(columns="volumes_per_second").to_dict("list") if log.exists() else None,
    }
