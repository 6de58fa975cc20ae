"""From a plan to artifacts and tables: claim the folder, pack the volumes, and let a worker make what is missing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ssl3d.errors import RunError, UserError
from ssl3d.progress import Progress
from ssl3d.results.folder import FAILURE
from ssl3d.results.model import PlanRecord, Primary
from ssl3d.results.read import open_run
from ssl3d.run.artifact import Context
from ssl3d.run.claim import claimed, default_folder, publish
from ssl3d.run.graph import Graph, make_graph
from ssl3d.run.launch.command import code_allowed
from ssl3d.run.launch.jobs import check_jobs, jobs_here
from ssl3d.run.options import Options
from ssl3d.run.planning.fit import packed_misfits
from ssl3d.run.planning.plan import Plan
from ssl3d.run.planning.preflight import check_inputs
from ssl3d.run.pretraining import train_along
from ssl3d.run.processes import check_devices, in_processes
from ssl3d.run.table_writer import TableWriter
from ssl3d.run.volumes import PackedVolumes, damage_marked, pack_volumes
from ssl3d.run.worker import Worker
from ssl3d.train.interrupt import STOPPING, Interrupted, handled, interrupt
from ssl3d.train.processes import Group


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        folder: folder of the run.
        failures: reasons, by the label of the failed artifact.
    """

    folder: Path
    failures: dict[str, str]


def execute(plan: Plan, options: Options, progress: Progress | None = None) -> RunResult:
    """Make every artifact of a plan that is not complete yet, and write the tables.

    Raises:
        UserError: the data or the run's folder cannot be used, or the disk is full.
        Interrupted, KeyboardInterrupt: a signal asked to stop; the same call resumes the run.
    """
    batches = [request.recipe.pretrain.batch_size for request in plan.requests if request.recipe.pretrain]
    check_jobs(options)
    check_devices(options, min(batches, default=None))
    check_inputs(plan, options)
    return in_processes(_run, plan, options, progress or Progress())


def _run(plan: Plan, options: Options, progress: Progress) -> RunResult:
    return take_part(lambda: _lead(plan, options, progress), plan, options)


def take_part(lead: Callable[[], RunResult], plan: Plan, options: Options) -> RunResult:
    """Take part in a run, as the process that leads or as one of those that train along.

    Args:
        lead: what the first process does.
        plan: plan of the run, with the volumes that the others train on.
        options: options of this process.
    """
    group = Group.current()
    if not group.leads:
        return _follow(plan, options, group)
    try:
        outcome = lead()
    except (Exception, Interrupted):
        group.tell(None)
        raise
    group.tell(None)
    return outcome


def _lead(plan: Plan, options: Options, progress: Progress) -> RunResult:
    with claimed(plan, options, progress) as folder, handled(interrupt, *STOPPING):
        volumes = pack_volumes(plan, folder.stores, progress)
        graph = make_graph(plan, volumes, folder, options)
        leaks = dict.fromkeys(evaluation.cases.leak for evaluation in graph.evaluations.values())
        for note in filter(None, (*plan.notes, *packed_misfits(graph), *leaks)):
            progress.note(note)
        publish(folder, plan, _record(plan, volumes, graph), progress)
        if options.jobs == 0:
            return RunResult(folder.path, {})
        context = Context(folder, options, progress)
        graph = graph.to_make(context)
        progress.run_started(str(folder.path), [artifact.label for artifact in graph.artifacts])
        tables = TableWriter(folder, progress)
        if options.jobs == 1:
            work = Worker(graph, context, tables.write_now_and_then).work
        else:
            work = _jobs(plan, graph, context, tables.write_now_and_then)
        return RunResult(folder.path, finished(graph, context, work, tables.write))


def _jobs(plan: Plan, graph: Graph, context: Context, after_each: Callable[[], None]) -> Callable[[], dict[str, str]]:
    """Return what has several workers here make a graph; failures before this call are tried again."""
    run = context.folder.path
    allow_code = code_allowed(plan, run)
    for artifact in graph.artifacts:
        (artifact.folder(context) / FAILURE).unlink(missing_ok=True)
    return jobs_here(run, context.options, allow_code, context.progress, after_each).work


def finished(
    graph: Graph, context: Context, work: Callable[[], dict[str, str]], write_tables: Callable[[], None]
) -> dict[str, str]:
    """Have the artifacts of a graph made, and write the tables, also of what is there when the work is stopped.

    Args:
        graph: artifacts to make.
        context: where.
        work: makes them, and returns the reasons of failures.
        write_tables: writes the tables.

    Returns:
        The reasons.
    """
    try:
        failures = work()
    except BaseException:
        with suppress(UserError):  # the error that stopped the run is more informative
            write_tables()
        raise
    for encoder in graph.encoders.values():
        with suppress(RunError):  # a read-only cache: no number depends on a card
            encoder.restore_card(context)
    write_tables()
    return failures


def _record(plan: Plan, volumes: PackedVolumes, graph: Graph) -> PlanRecord:
    """Return the plan with its keys."""
    return PlanRecord(
        base=plan.experiment.base(),
        roots={name: str(root.resolve()) for name, root in plan.roots.items()},
        stores=volumes.folders,
        encoders={key: encoder.planned for key, encoder in graph.encoders.items()},
        rates={key: rate.planned for key, rate in graph.rates.items()},
        evaluations={key: evaluation.planned for key, evaluation in graph.evaluations.items()},
        primary=_primary(plan),
        lacking=dict(plan.lacking),
    )


def _primary(plan: Plan) -> Primary:
    """Return the primary comparison that a request asks for."""
    first = [data_plane for data_plane in plan.evaluated if data_plane.data == plan.evaluated[0].data]
    return Primary(
        data=first[0].data,
        protocol=plan.experiment.evaluate.protocols[0],
        tasks=tuple(dict.fromkeys(task.name for data_plane in first for task in data_plane.tasks)),
        planes=tuple(data_plane.plane for data_plane in first if data_plane.plane),
    )


def _follow(plan: Plan, options: Options, group: Group) -> RunResult:
    """Train the encoders that the first process announces until there are no more; only that one writes and reports."""
    run = options.out or default_folder(plan.experiment, options.roots)
    volumes = cache(lambda: pack_volumes(plan, open_run(run).stores, Progress()))
    with handled(interrupt, *STOPPING):
        while (message := _told(group)) is not None:
            # A failure here also fails in the first process, which cannot know what kind of failure it was.
            with suppress(Exception, Interrupted), damage_marked():
                train_along(message, volumes, options)
    return RunResult(run, {})


def _told(group: Group) -> Any:
    try:
        return group.told()
    except RuntimeError:  # the first process has ended, and reports the reason if there is one
        return None
