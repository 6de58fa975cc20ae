"""Claiming a run's folder for one experiment: its plan, merged over repeated calls, and what `--fresh` deletes."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from ssl3d.errors import RunError
from ssl3d.experiment import Experiment, read_experiment
from ssl3d.files import make_folder, partial_prefix, watched, write_atomic
from ssl3d.progress import Progress
from ssl3d.recipe import digest
from ssl3d.results.folder import ARTIFACT_FILES, PLAN, RECIPE, TABLES, RunFolder
from ssl3d.results.lease import LOCK, WORKER, Lease, Leases
from ssl3d.results.model import PlanRecord
from ssl3d.results.read import open_run, read_plan
from ssl3d.results.records import write_model
from ssl3d.run.options import Options
from ssl3d.run.planning.merge_requests import merge_plans, merge_requests
from ssl3d.run.planning.plan import Plan

LOCK_SECONDS = 0.05  # between two attempts to lock plan.json
PATIENCE_SECONDS = 2.0  # of waiting for that lock before it is reported
LOOK_SECONDS = 0.5  # between two checks of workers that may be dead


def default_folder(experiment: Experiment, roots: Mapping[str, Path]) -> Path:
    """Return ``runs/DATA-HASH``: equal settings give the same folder, so that a repeated command resumes its run."""
    places = {name: str(root.resolve()) for name, root in roots.items()}
    name = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(experiment.data.name)).strip("-")
    return Path("runs") / f"{name}-{digest([experiment.base(), places], 8)}"


@contextmanager
def claimed(plan: Plan, options: Options, progress: Progress | None = None) -> Iterator[RunFolder]:
    """Claim a folder for an experiment, and count as one of the processes that work on it inside.

    Args:
        plan: plan of the run.
        options: ``out``, ``cache`` and ``fresh``.
        progress: notified if the call has to wait.

    Raises:
        RunError: it cannot be written; holds another run, other files, or a symbolic link in place of one of its
            folders; or is to be deleted while other processes work on it.
    """
    run = options.out or default_folder(plan.experiment, options.roots)
    _check_ours(run)
    if options.cache is not None and (options.fresh or not (run / PLAN).exists()):
        make_folder(options.cache)  # before the run's folder: an unusable cache leaves nothing behind
    make_folder(run)
    RunFolder(run).require_real()
    leases, progress = Leases(RunFolder(run).leases), progress or Progress()
    with _plan_lock(run, leases, progress):
        if options.fresh:
            _require_idle(run, leases, progress)
            _clear(run)
        folder = _claim(run, plan, options)
        folder.require_real()
        make_folder(folder.shared)
        worker = leases.acquire(f"{WORKER}-{uuid.uuid4().hex}")
    with _counted(folder, worker):
        yield folder


@contextmanager
def joined(run: Path, progress: Progress) -> Iterator[RunFolder]:
    """Count as one of the processes that work on a planned run inside.

    Args:
        run: folder of the run.
        progress: notified if the call has to wait.

    Raises:
        RunError: the folder is not a run, cannot be written, or has a symbolic link in place of one of its folders.
    """
    RunFolder(run).require_real()
    leases = Leases(RunFolder(run).leases)
    with _plan_lock(run, leases, progress):
        folder = open_run(run)
        folder.require_real()
        worker = leases.acquire(f"{WORKER}-{uuid.uuid4().hex}")
    with _counted(folder, worker):
        yield folder


@contextmanager
def _counted(folder: RunFolder, worker: Lease | None) -> Iterator[None]:
    """Keep the lease of a worker inside, and refuse to write into folders that are gone."""
    try:
        with watched(folder.path, folder.shared):
            yield
    finally:
        if worker is not None:
            worker.release()


def publish(folder: RunFolder, plan: Plan, now: PlanRecord, progress: Progress | None = None) -> None:
    """Add the artifacts of a call to plan.json and recipe.toml.

    Args:
        folder: claimed folder of the run.
        plan: plan of this call.
        now: its artifacts with their keys.
        progress: notified if the call has to wait.

    Raises:
        RunError: the folder cannot be written.
    """
    with _plan_lock(folder.path, Leases(folder.leases), progress or Progress()):
        record = merge_plans(read_plan(folder.path), now)
        asked = plan.experiment
        if folder.recipe.is_file():
            asked = merge_requests(read_experiment(folder.recipe), asked, record)
        write_atomic(folder.recipe, tomli_w.dumps(_without_none(_written(asked))))
        write_model(folder.plan, record)


def _claim(run: Path, plan: Plan, options: Options) -> RunFolder:
    """Write the plan of a new run, without its artifacts yet, or compare with the existing plan."""
    base = plan.experiment.base()
    if (run / PLAN).exists():
        earlier = read_plan(run)
        difference = _first_difference(earlier.base, base, "")
        if difference:
            raise RunError(f"{run} holds another run: {difference}; choose another --out, or --fresh to start again")
        return RunFolder(run, Path(earlier.cache) if earlier.cache else None)
    cache = None if options.cache is None else options.cache.resolve()
    write_model(run / PLAN, PlanRecord(base=base, cache=None if cache is None else str(cache)))
    return RunFolder(run, cache)


@contextmanager
def _plan_lock(run: Path, leases: Leases, progress: Progress) -> Iterator[None]:
    """Hold the lease on plan.json; wait if another process holds it."""
    started, noted = time.monotonic(), False
    while True:
        with leases.hold(LOCK) as lease:
            if lease is not None:
                yield
                return
        if not noted and time.monotonic() - started > PATIENCE_SECONDS:
            noted = True
            progress.note(
                f"waiting for another process that locks {run / PLAN}; if it is no longer there, this goes on after "
                f"{leases.expires:.0f} s at the most"
            )
        time.sleep(LOCK_SECONDS)


def _check_ours(run: Path) -> None:
    """Raise RunError if a folder holds files but no run, since nothing may be written into it."""
    if run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file, and a run is a folder; choose another --out")
    if not run.is_dir() or (run / PLAN).exists():
        return
    ours = (RunFolder(run).leases.name, RunFolder(run).stores.name)
    names = sorted(path.name for path in run.iterdir())
    others = [name for name in names if name not in ours and not name.startswith(partial_prefix(PLAN))]
    if others:
        raise RunError(f"{run} holds other files ({', '.join(others[:3])}) and no run; choose another --out")


def _first_difference(there: Any, here: Any, name: str) -> str | None:
    """Return the first field in which two nested values differ, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            found = _first_difference(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
            if found:
                return found
        return None
    return None if there == here else f"{name} is {there} there and {here} here"


def _require_idle(run: Path, leases: Leases, progress: Progress) -> None:
    """Wait until no other process works on a run; a process elsewhere is given time to show that it is alive.

    Raises:
        RunError: another process works on it.
    """
    left, noted = sorted(path.stem for path in leases.folder.glob(f"{WORKER}-*.lease")), False
    while left := [key for key in left if not _is_gone(leases, key)]:
        if any(leases.owner_lives(key) for key in left):
            raise RunError(f"another process works on {run}; wait for it, stop it, or choose another --out")
        if not noted:
            noted = True
            progress.note(
                f"a process on another machine, or on this one before it was restarted, is registered as working on "
                f"{run}; waiting up to {leases.expires:.0f} s for a sign of life before anything is deleted"
            )
        time.sleep(LOOK_SECONDS)


def _is_gone(leases: Leases, key: str) -> bool:
    """Take over the lease of a worker that has ended, and release it, which removes its file."""
    with leases.hold(key) as lease:
        return lease is not None


def _clear(run: Path) -> None:
    """Delete the files of a run by name; packed volumes, other files, and a shared cache are kept."""
    if not (run / PLAN).exists():
        return
    own = RunFolder(run)
    own.require_real()
    shared = (own.encoders, own.features, own.rates)
    artifacts = [*(path for parent in shared for path in parent.glob("*")), *own.evaluations.glob("*/*")]
    for folder in (path for path in artifacts if path.is_dir() and not _linked(path, run)):
        for name in ARTIFACT_FILES:
            for path in (folder / name, *folder.glob(f"{partial_prefix(name)}*")):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # it contains other files
            folder.rmdir()
    for folder in own.evaluations.glob("*"):
        with suppress(OSError):
            folder.rmdir()
    for name in (RECIPE, *TABLES, PLAN):  # the plan last, so that an interrupted deletion can be repeated
        (run / name).unlink(missing_ok=True)


def _linked(path: Path, run: Path) -> bool:
    """Return whether a path contains a symbolic link below the run's folder."""
    return any(part.is_symlink() for part in (path, *path.parents) if part != run and part.is_relative_to(run))


def _written(experiment: Experiment) -> dict[str, Any]:
    """Return the settings that were given, and the expanded ones; other defaults would override presets."""
    spread = experiment.model_dump(mode="json", include={"methods", "backbones", "seeds", "controls"})
    asked = experiment.asked()
    return {**spread, **asked, "data": {"name": list(experiment.data.name), **asked.get("data", {})}}


def _without_none(value: Any) -> Any:
    """Return nested values without unset ones: TOML has no null."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
