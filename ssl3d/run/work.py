"""One worker of a planned run: it takes whatever is ready until nothing is left. Any number share a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ssl3d.errors import RunError
from ssl3d.progress import Progress
from ssl3d.results.folder import RunFolder
from ssl3d.results.read import read_plan
from ssl3d.run.artifact import Context
from ssl3d.run.claim import joined
from ssl3d.run.execute import RunResult, finished, take_part
from ssl3d.run.graph import Graph, make_graph
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import Plan
from ssl3d.run.planning.plan_of_run import plan_of_run
from ssl3d.run.planning.preflight import check_device
from ssl3d.run.processes import check_devices, in_processes
from ssl3d.run.table_writer import TableWriter
from ssl3d.run.trust import named_by_run, require_trusted
from ssl3d.run.volumes import PackedVolumes, open_packed, pack_volumes
from ssl3d.run.worker import Worker
from ssl3d.train.interrupt import STOPPING, handled, interrupt

CHANGED = "their data, plugins or weights were changed since; run their `ssl3d bench` command again"


@dataclass(frozen=True)
class WorkOptions:
    """How one of several workers behaves.

    Attributes:
        wait: wait for what other workers make; otherwise end as soon as nothing else is left.
        retry: try again what has failed.
        tables: write the tables at the end.
        allow_code: also import plugins that plan.json names by file or module.
    """

    wait: bool = True
    retry: bool = False
    tables: bool = True
    allow_code: bool = False


@dataclass(frozen=True)
class _Part:
    """What each process of one worker is given."""

    run: Path
    plan: Plan
    keys: frozenset[str]
    behaviour: WorkOptions


def work(
    run: Path, options: Options, behaviour: WorkOptions | None = None, progress: Progress | None = None
) -> RunResult:
    """Make what a run's plan.json names and nobody has made yet, as one of any number of workers.

    What is made is equal, to the bit, to what one worker makes with the same number of threads on the same hardware.

    Args:
        run: folder of the run.
        options: ``device``, ``devices`` and ``weights``; the rest is in plan.json.
        behaviour: see :class:`WorkOptions`.
        progress: receives progress reports.

    Raises:
        RunError: the folder is not a run, is not planned yet, or names code that is not allowed.
        UserError: the device or the folder cannot be used.
        Interrupted, KeyboardInterrupt: a signal asked to stop; any worker goes on from the checkpoint.
    """
    behaviour, record = behaviour or WorkOptions(), read_plan(run)
    if not record.evaluations:
        raise RunError(f"{run} is not planned yet; run `ssl3d bench`, which plans it and packs its volumes")
    require_trusted(named_by_run(record), behaviour.allow_code, "--allow-code")
    plan = plan_of_run(record)
    options = replace(options, out=run, cache=Path(record.cache) if record.cache else None, fresh=False)
    batches = [request.recipe.pretrain.batch_size for request in plan.requests if request.recipe.pretrain]
    check_devices(options, min(batches, default=None))
    check_device(plan, options)
    part = _Part(run, plan, frozenset({*record.encoders, *record.evaluations}), behaviour)
    return in_processes(_run, part, options, progress or Progress())


def _run(part: _Part, options: Options, progress: Progress) -> RunResult:
    return take_part(lambda: _lead(part, options, progress), part.plan, options)


def _lead(part: _Part, options: Options, progress: Progress) -> RunResult:
    behaviour = part.behaviour
    with joined(part.run, progress) as folder, handled(interrupt, *STOPPING):
        graph = _planned(part, folder, options, progress)
        context = Context(folder, options, progress)
        graph = graph.to_make(context)
        progress.run_started(str(folder.path), [artifact.label for artifact in graph.artifacts])
        worker = Worker(graph, context, retry=behaviour.retry, wait=behaviour.wait, one_of_many=True)
        write = TableWriter(folder, progress).write if behaviour.tables else lambda: None
        return RunResult(folder.path, finished(graph, context, worker.work, write))


def _planned(part: _Part, folder: RunFolder, options: Options, progress: Progress) -> Graph:
    """Return the planned artifacts that can be made here as they are planned; the others are announced."""
    graph = make_graph(part.plan, _volumes(part.plan, folder, progress), folder, options)
    here = {artifact.key for artifact in graph.artifacts} & part.keys
    if not here:
        raise RunError(f"nothing can be made as {folder.plan} says: {CHANGED}")
    if len(here) < len(part.keys):
        progress.note(f"{len(part.keys) - len(here)} of {len(part.keys)} planned artifacts are left out: {CHANGED}")
    return graph.only(here)


def _volumes(plan: Plan, folder: RunFolder, progress: Progress) -> PackedVolumes:
    """Return the volumes as they were packed for the plan; they are packed again only if some are missing."""
    return open_packed(plan, folder.stores) or pack_volumes(plan, folder.stores, progress)
