"""The folder of a run: claimed by one experiment, worked on by one process, written to nowhere else."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from ssl3d.errors import RunError
from ssl3d.runs.experiment import Experiment
from ssl3d.runs.files import write_atomic

PLAN = "plan.json"


def default_folder(experiment: Experiment, root: Path | None) -> Path:
    """Return ``runs/DATA-HASH``: the same settings, the same folder, so that the same line goes on with a run."""
    text = json.dumps([experiment.base(), str(root.resolve()) if root else None], sort_keys=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", experiment.data.name)
    return Path("runs") / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def cells_folder(run: Path) -> Path:
    """Return where a run keeps its cells."""
    return run / "cells"


@contextmanager
def claimed(run: Path, experiment: Experiment, fresh: bool) -> Iterator[None]:
    """Make a folder this experiment's, and hold it against other processes while inside.

    Args:
        run: made if absent.
        experiment: what is to run.
        fresh: delete what this folder holds of an earlier run, and begin anew.

    Raises:
        RunError: it cannot be written, holds another run or other files, or another process is working on it.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("a")
    except OSError as error:
        raise RunError(f"{run} cannot be written ({error.strerror}); choose another --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another process is working on {run}; wait for it, or choose another --out") from None
        if fresh:
            _clear(run)
        _check_same(run, experiment)
        write_atomic(run / "recipe.toml", tomli_w.dumps(_without_none(experiment.model_dump(mode="json"))))
        yield


def write_plan(run: Path, experiment: Experiment, cells: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``plan.json``: what all cells share, and the recipe of each; cells planned earlier are kept."""
    earlier = _read_plan(run) or {"cells": {}}
    plan = {"base": experiment.base(), "cells": {**earlier["cells"], **cells}}
    write_atomic(run / PLAN, json.dumps(plan, indent=2, sort_keys=True) + "\n")


def require_run(run: Path) -> None:
    """Raise RunError if a folder is not a run's."""
    if not (run / PLAN).is_file():
        raise RunError(f"{run} is not a run folder (it has no {PLAN}); name a folder that `ssl3d bench` wrote")


def _read_plan(run: Path) -> dict[str, Any] | None:
    path = run / PLAN
    if not path.exists():
        return None
    try:
        plan: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return {"base": plan["base"], "cells": plan["cells"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); choose another --out, or --fresh to begin anew") from None


def _check_same(run: Path, experiment: Experiment) -> None:
    plan = _read_plan(run)
    if plan is None:
        others = sorted(path.name for path in run.iterdir() if path.name not in {".lock", "store"})
        if others:
            raise RunError(f"{run} holds other files ({', '.join(others[:3])}) and no run; choose another --out")
        return
    difference = _first_difference(plan["base"], experiment.base(), "")
    if difference:
        raise RunError(f"{run} holds another run: {difference}; choose another --out, or --fresh to begin anew")


def _first_difference(there: Any, here: Any, name: str) -> str | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            found = _first_difference(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
            if found:
                return found
        return None
    return None if there == here else f"{name} is {there} there and {here} here"


def _clear(run: Path) -> None:
    """Delete what a run leaves, by name; a folder that no run was in is not touched."""
    if not (run / PLAN).exists():
        return
    shutil.rmtree(cells_folder(run), ignore_errors=True)
    for name in (PLAN, "recipe.toml", "leaderboard.csv", "leaderboard.md", "comparisons.csv", "cells.csv"):
        (run / name).unlink(missing_ok=True)


def _without_none(value: Any) -> Any:
    """TOML has no null: what is unset is left out."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
