"""From a plan to artifacts and tables: claim the folder, pack the volumes, and let a worker make what is missing."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ssl3d.errors import RunError, UserError
from ssl3d.progress import Progress
from ssl3d.results.folder import RunFolder
from ssl3d.results.model import PlanRecord, Primary
from ssl3d.results.read import open_run, read_results
from ssl3d.run.artifact import Context
from ssl3d.run.claim import claimed, default_folder, publish
from ssl3d.run.graph import Graph, make_graph
from ssl3d.run.options import Options
from ssl3d.run.planning.fit import packed_misfits
from ssl3d.run.planning.plan import Plan
from ssl3d.run.planning.preflight import check_inputs
from ssl3d.run.pretraining import train_along
from ssl3d.run.processes import check_devices, in_processes
from ssl3d.run.volumes import PackedVolumes, damage_marked, pack_volumes
from ssl3d.run.worker import Worker
from ssl3d.train.interrupt import STOPPING, Interrupted, handled, interrupt
from ssl3d.train.processes import Group

TABLE_SECONDS = 30.0  # minimum time between two updates of the tables during a run


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
    check_devices(options, min(batches, default=None))
    check_inputs(plan, options)
    return in_processes(_run, plan, options, progress or Progress())


def _run(plan: Plan, options: Options, progress: Progress) -> RunResult:
    """Take part in a run, as the leading process or as one of those that train along."""
    group = Group.current()
    if not group.leads:
        return _follow(plan, options, group)
    try:
        outcome = _lead(plan, options, progress)
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
        tables, context = _TableWriter(folder, progress), Context(folder, options, progress)
        graph = graph.to_make(context)
        progress.run_started(str(folder.path), [artifact.label for artifact in graph.artifacts])
        try:
            failures = Worker(graph, context, tables.write_now_and_then).work()
        except BaseException:
            with suppress(UserError):  # the error that stopped the run is more informative
                tables.write()
            raise
        for encoder in graph.encoders.values():
            with suppress(RunError):  # a read-only cache: no number depends on a card
                encoder.restore_card(context)
        tables.write()
        return RunResult(folder.path, failures)


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


class _TableWriter:
    """Writer of a run's tables, at the end and periodically before."""

    def __init__(self, folder: RunFolder, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._written = time.monotonic()

    def write(self) -> None:
        """Write the tables.

        Raises:
            UserError: a record is damaged, or the folder cannot be written.
        """
        from ssl3d.tables.tables import Tables  # noqa: PLC0415  # scipy and pandas: a dry run needs neither
        from ssl3d.tables.write import write_tables  # noqa: PLC0415

        write_tables(self._folder.path, Tables(read_results(self._folder.path)))
        self._written = time.monotonic()

    def write_now_and_then(self) -> None:
        """Write the tables if they are old enough; a failure is reported, and raised at the end."""
        if time.monotonic() - self._written < TABLE_SECONDS:
            return
        try:
            self.write()
        except Exception as error:  # an error in the tables must not stop the run
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._progress.note(f"the tables are not written yet: {why}")


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
