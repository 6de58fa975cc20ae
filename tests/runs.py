"""Small experiments on small files, and what they leave. No test is in here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ssl3d.data.sets.demo import write_demo
from ssl3d.experiment import read_experiment
from ssl3d.progress import BEFORE, Progress
from ssl3d.run.execute import RunResult, execute
from ssl3d.run.options import ONLY, Options
from ssl3d.run.planning.plan import make_plan

SMALL = {  # as small as they come: seconds for a run
    "data.name": "mrnet",
    "view_size": [4, 16, 17],
    "pretrain.epochs": 2,
    "pretrain.batch_size": 4,
    "method.byol.hidden_dim": 8,
    "method.moco.queue_size": 16,
    "evaluate.inner_folds": 2,
    "seeds": [0],
    "controls": ["random", "voxels", "statistics"],
}
TIMES = ("finished_at", "seconds", "price", "content_sha256")  # of records: they differ between two equal runs


def write_knees(root: Path, cases: tuple[int, int] = (12, 8)) -> Path:
    """Write generated knees of 4 to 6 slices of 18 x 18 in MRNet's layout, and return their folder."""
    write_demo(root, size=18, cases=cases, slices=(4, 6))
    return root


def arguments(root: Path, out: Path, *more: str, methods: str = "byol", **changes: Any) -> list[str]:
    """Return the command line of a small run."""
    given = {**SMALL, **changes}
    if any(part.startswith("--controls") for part in more):
        del given["controls"]  # --set would win
    sets = [f"--set={name}={json.dumps(value)}" for name, value in given.items()]
    where = [f"--root={root}", f"--out={out}", "--device=cpu", "--no-report"]  # a report takes longer than the rest
    return ["bench", f"--methods={methods}", *where, *sets, *more]


def small_run(
    root: Path, out: Path, methods: Sequence[str] = ("byol",), progress: Progress | None = None, **changes: Any
) -> RunResult:
    """Execute a small experiment; ``changes`` are fields of it (dots as double underscores), or options."""
    given = {name: changes.pop(name) for name in list(changes) if name in Options.__dataclass_fields__}
    options = Options(**{"roots": {ONLY: root}, "out": out, "cache": None, "device": "cpu", **given})
    fields = {name.replace("__", "."): value for name, value in changes.items()}
    experiment = read_experiment(None, {**SMALL, "methods": methods, **fields})
    return execute(make_plan(experiment, options), options, progress)


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m COMMAND``, with one thread: on a small machine, other tests run too."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    env.pop("SSL3D_CACHE", None)
    return subprocess.Popen(
        [sys.executable, "-m", *command], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its exit code, and what it printed that was not read yet."""
    out, err = process.communicate(timeout=600)  # machines that run other jobs, too, are slow at times
    return process.returncode, out, err


class Listener(Progress):
    """Remembers what it hears.

    Attributes:
        started_list: labels of artifacts, in order.
        outcomes: by label.
        notes: sentences.
        phases: parts of the work, with the label in front.
    """

    def __init__(self) -> None:
        self.started_list: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.notes: list[str] = []
        self.phases: list[str] = []

    def started(self, artifact: str) -> None:
        self.started_list.append(artifact)

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
        self.phases.append(f"{artifact} {what}".strip())

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finished(self, artifact: str, outcome: str) -> None:
        self.outcomes[artifact] = outcome

    @property
    def pretrained(self) -> list[str]:
        """Methods of the encoders that were pretrained, in order."""
        return [phase.partition(" ")[0] for phase in self.phases if phase.endswith(" pretraining")]

    @property
    def made(self) -> list[str]:
        """Labels of what was made or failed in this call."""
        return [label for label, outcome in self.outcomes.items() if outcome != BEFORE]


def encoder_folder(run: Path, method: str, seed: int = 0) -> Path:
    (folder,) = (run / "encoders").glob(f"{method}-*-s{seed}-*")
    return folder


def evaluation_folder(run: Path, method: str, protocol: str = "linear", task: str = "acl", seed: int = 0) -> Path:
    (folder,) = (run / "evaluations").glob(f"*-{task}/{method}-*-s{seed}-{protocol}-*")
    return folder


def record(folder: Path, kind: str) -> dict[str, Any]:
    """Return a record, as plain values."""
    found: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text())
    return found


def left_behind(run: Path) -> dict[str, Any]:
    """Return everything that artifacts of a run hold, times left out: comparable with ``==`` between two runs."""
    found: dict[str, Any] = {}
    for kind in ("encoders", "features", "evaluations"):
        for path in sorted((run / kind).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(run))] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.name == "log.csv":
        return pd.read_csv(path).drop(columns="volumes_per_second").to_dict("list")
    return "" if path.name == "README.md" else path.read_bytes()  # a model card has the time in it


def _without_times(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    left_out = (*TIMES, "log.csv")  # whose hash follows from times
    return {name: _without_times(inner) for name, inner in value.items() if name not in left_out}
