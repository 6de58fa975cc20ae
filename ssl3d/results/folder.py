"""The folder of a run: claimed by one experiment, worked on by one process, written to nowhere else."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from ssl3d.errors import RunError
from ssl3d.experiment import Experiment, read_experiment
from ssl3d.results.files import partial_name, write_atomic
from ssl3d.results.records import PREDICTIONS, RESULT, TRAINING
from ssl3d.run.merge_requests import grown

PLAN, RECIPE = "plan.json", "recipe.toml"
TABLES = ("leaderboard.csv", "leaderboard.md", "comparisons.csv", "cells.csv", "curves.csv", "report.html")
FEATURE_FILES = "[0-9a-f]" * 16 + ".npz"  # below features/, by the hash of what decides them
CELL_FILES = (RESULT, PREDICTIONS, TRAINING, "encoder.safetensors", "log.csv", "checkpoint.pt", "error.txt")
Cells = Mapping[str, Mapping[str, Any]]
Places = Mapping[str, Path | None]


def default_folder(experiment: Experiment, root: Path | None) -> Path:
    """Return ``runs/DATA-HASH``: the same settings, the same folder, so that the same line goes on with a run."""
    text = json.dumps([experiment.base(), str(root.resolve()) if root else None], sort_keys=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", experiment.data.name)
    return Path("runs") / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def cells_folder(run: Path) -> Path:
    """Return where a run keeps its cells."""
    return run / "cells"


def features_folder(run: Path) -> Path:
    """Return where a run keeps the features of its encoders: KEY.npz, which ``result.json`` names."""
    return run / "features"


@contextmanager
def claimed(
    run: Path, experiment: Experiment, cells: Cells, fresh: bool, places: Places | None = None
) -> Iterator[None]:
    """Make a folder this experiment's, and hold it against other processes while inside.

    Args:
        run: made if absent.
        experiment: what is to run; ``recipe.toml`` says it, with what the folder was asked for before.
        cells: recipes by the name of the cell; added to those that ``plan.json`` holds.
        fresh: delete what this folder holds of an earlier run, and begin anew.
        places: ``root`` of the data set's files, and ``store`` of packed volumes outside the run: noted for those who
            run a cell again, or show volumes.

    Raises:
        RunError: it cannot be written, holds another run or other files, or another process is working on it.
    """
    try:
        _check_ours(run)
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
        # The plan comes first: from then on the folder is this run's, wherever it is interrupted.
        asked = _asked(run, experiment, cells)
        _write_plan(run, experiment, cells, places or {})
        write_atomic(run / RECIPE, tomli_w.dumps(_without_none(_written(asked))))
        yield


def _asked(run: Path, experiment: Experiment, cells: Cells) -> Experiment:
    """Return what all calls together asked for, as far as ``recipe.toml`` still tells of the earlier ones."""
    earlier = read_plan(run)
    if earlier is None or not {*earlier["cells"]} - {*cells} or not (run / RECIPE).is_file():
        return experiment
    before = read_experiment(run / RECIPE)
    if before.base() != experiment.base():
        return experiment  # refused by the plan, or recipe.toml was edited
    return grown(before, experiment, {**earlier["cells"], **cells}.values())


def _written(experiment: Experiment) -> dict[str, Any]:
    """What was asked for, and what is spread out. Not the other defaults: written out, they would win over presets."""
    spread = experiment.model_dump(mode="json", include={"methods", "backbones", "seeds", "baselines"})
    asked = experiment.asked()
    return {**spread, **asked, "data": {"name": experiment.data.name, **asked.get("data", {})}}


def _write_plan(run: Path, experiment: Experiment, cells: Cells, places: Places) -> None:
    """Write what all cells share, and the recipe of each; cells planned earlier are kept."""
    earlier = read_plan(run) or {"base": experiment.base(), "cells": {}}
    difference = _first_difference(earlier["base"], experiment.base(), "")
    if difference:
        raise RunError(f"{run} holds another run: {difference}; choose another --out, or --fresh to begin anew")
    noted = {name: None if path is None else str(path.resolve()) for name, path in places.items()}
    plan = {"base": experiment.base(), "cells": {**earlier["cells"], **cells}, **noted}
    write_atomic(run / PLAN, json.dumps(plan, indent=2, sort_keys=True) + "\n")


def require_run(run: Path) -> None:
    """Raise RunError if a folder is not a run's."""
    if not (run / PLAN).is_file():
        raise RunError(f"{run} is not a run folder (it has no {PLAN}); name a folder that `ssl3d bench` wrote")


def read_plan(run: Path) -> dict[str, Any] | None:
    """Return what plan.json holds: ``base``, ``cells`` (recipes by name), ``root``, ``store``; None without a plan.

    Raises:
        RunError: it is damaged.
    """
    path = run / PLAN
    if not path.exists():
        return None
    try:
        plan: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found = {"base": dict(plan["base"]), "cells": dict(plan["cells"])}
        return {**found, "root": plan.get("root"), "store": plan.get("store")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); choose another --out, or --fresh to begin anew") from None


def _check_ours(run: Path) -> None:
    """Raise RunError if a folder holds files and no run: nothing is written into it, not even a lock."""
    if not run.is_dir() or (run / PLAN).exists():
        return
    others = sorted(path.name for path in run.iterdir() if path.name not in {".lock", "store", partial_name(PLAN)})
    if others:
        raise RunError(f"{run} holds other files ({', '.join(others[:3])}) and no run; choose another --out")


def _first_difference(there: Any, here: Any, name: str) -> str | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            found = _first_difference(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
            if found:
                return found
        return None
    return None if there == here else f"{name} is {there} there and {here} here"


def _clear(run: Path) -> None:
    """Delete what a run leaves, by name; what else is there stays. A folder that no run was in is not touched."""
    if not (run / PLAN).exists():
        return
    for cell in cells_folder(run).glob("*"):
        for path in [cell / name for name in CELL_FILES] + list(cell.glob(".*")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # something of the user's is in it
            cell.rmdir()
    for pattern in (FEATURE_FILES, partial_name(FEATURE_FILES)):
        for path in features_folder(run).glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        features_folder(run).rmdir()
    for name in (RECIPE, *TABLES, PLAN):  # the plan last: interrupted here, it can be done again
        (run / name).unlink(missing_ok=True)


def _without_none(value: Any) -> Any:
    """TOML has no null: what is unset is left out."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
