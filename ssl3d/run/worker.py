"""A worker makes artifacts that are ready until none are left. Several workers share a run by means of leases."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ssl3d.errors import RunError, UserError
from ssl3d.files import FULL, GoneError, remove_partial, unwritable, write_atomic
from ssl3d.progress import BEFORE
from ssl3d.results.folder import ARTIFACT_FILES, ERROR, FAILURE
from ssl3d.results.lease import Lease, LostError
from ssl3d.results.model import FailureRecord
from ssl3d.results.provenance import now
from ssl3d.results.records import DamagedError, read_model, write_model
from ssl3d.results.sources import keep_imported
from ssl3d.run.artifact import Artifact, Context
from ssl3d.run.graph import Graph
from ssl3d.run.lease_progress import LeaseProgress
from ssl3d.run.rate import Rate
from ssl3d.run.volumes import damage_marked
from ssl3d.train.pretrain import TrainingError
from ssl3d.train.tuning.memory import out_of_memory

POLL_SECONDS = 1.0  # at most between two checks of what other workers make
FIRST_POLL = 0.02  # of an idle worker; doubled by each check that finds nothing new


class State(Enum):
    """The state of an artifact, as known to a worker."""

    COMPLETE = "complete"
    FAILED = "failed"
    WAITING = "waiting"


@dataclass
class Worker:
    """The worker on one graph.

    Attributes:
        graph: artifacts to make.
        context: where to make them.
        after_each: called after every artifact that was made or failed.
        retry: try again what failed before this worker started.
        wait: wait for what other workers make; otherwise end as soon as nothing else is left.
        one_of_many: other workers are expected: what they make is not announced one by one.
    """

    graph: Graph
    context: Context
    after_each: Callable[[], None] = lambda: None
    retry: bool = True
    wait: bool = True
    one_of_many: bool = False
    _complete: set[str] = field(default_factory=set)
    _failed: dict[str, FailureRecord] = field(default_factory=dict)
    _failed_before: dict[str, FailureRecord | None] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)
    _absent: set[str] = field(default_factory=set)

    def work(self) -> dict[str, str]:
        """Make or find every artifact; return the reasons of failures, by the label of the artifact that failed first.

        Raises:
            Interrupted: a signal asked to stop.
            RunError: the disk is full, or the run's folder was deleted or renamed.
        """
        if self.retry:
            self._failed_before = {one.key: self._failure(one) for one in self.graph.artifacts}
        try:
            self._advance_all()
        finally:
            keep_imported()
        causes = [record for record in self._failed.values() if record.caused_by is None and not self._tried(record)]
        labels = {artifact.key: artifact.label for artifact in self.graph.artifacts}
        return {labels[record.key]: record.reason for record in causes}

    def _advance_all(self) -> None:
        """Pass over the pending artifacts until none are left, or other workers hold the rest and ``wait`` is off."""
        pending, pause = list(self.graph.artifacts), FIRST_POLL
        while pending:
            left = [artifact for artifact in pending if self._advance(artifact) is State.WAITING]
            if len(left) < len(pending):
                pause = FIRST_POLL
            elif self.wait:
                time.sleep(min(pause, POLL_SECONDS))
                pause *= 2
            else:
                return
            pending = left

    def _advance(self, artifact: Artifact) -> State:
        """Take an artifact if its inputs are complete; fail it if one of them has failed."""
        if isinstance(artifact, Rate) and self._is_complete(artifact):  # whatever became of its trials
            return self._found(artifact)
        failed = [self._failed[one.key] for one in artifact.needs if one.key in self._failed]
        cause = next((one for one in failed if not (isinstance(artifact, Rate) and one.diverged)), None)
        if cause is not None:
            return self._fail(artifact, cause.reason, cause.caused_by or cause.key, cause.diverged)
        if not all(one.key in self._complete or one.key in self._failed for one in artifact.needs):
            return State.WAITING
        if self._is_complete(artifact):
            return self._found(artifact)
        failure = self._failure(artifact)
        if failure is not None and failure.caused_by is None and failure != self._failed_before.get(artifact.key):
            return self._record_failure(artifact, failure)  # by another worker
        return self._take(artifact)

    def _is_complete(self, artifact: Artifact) -> bool:
        """Return whether an artifact is complete; one that was made elsewhere meanwhile is not hashed once more."""
        if not (artifact.folder(self.context) / f"{artifact.kind}.json").is_file():
            self._absent.add(artifact.key)
            return False
        return artifact.key in self._absent or artifact.is_complete(self.context)  # a record is written last

    def _take(self, artifact: Artifact) -> State:
        """Make an artifact, unless another worker is making it or has just made it."""
        with artifact.leases(self.context).hold(artifact.key) as lease:
            if lease is None:
                self._note_waiting(artifact)
                return State.WAITING
            return self._found(artifact) if self._is_complete(artifact) else self._make(artifact, lease)

    def _make(self, artifact: Artifact, lease: Lease) -> State:
        self.context.progress.started(artifact.label)
        remove_partial(artifact.folder(self.context), *ARTIFACT_FILES)  # of a process that was killed while writing
        try:
            with damage_marked(), self._reported(artifact, lease):
                outcome = artifact.make(self.context, lease)
        except LostError as error:
            self.context.progress.note(str(error))
            return State.WAITING
        except GoneError:
            raise
        except Exception as error:  # one failed artifact must not stop the others
            if full := disk_full(error):
                raise full from error
            write_atomic(artifact.folder(self.context) / ERROR, traceback.format_exc())
            state = self._fail(artifact, reason(error), None, isinstance(error, TrainingError))
        else:
            for name in (ERROR, FAILURE):
                (artifact.folder(self.context) / name).unlink(missing_ok=True)
            self._complete.add(artifact.key)
            self.context.progress.finished(artifact.label, outcome)
            state = State.COMPLETE
        self.after_each()
        return state

    @contextmanager
    def _reported(self, artifact: Artifact, lease: Lease) -> Iterator[None]:
        """Also write the progress of an artifact into its lease inside, where `ssl3d status` finds it."""
        progress = self.context.progress
        self.context.progress = LeaseProgress(progress, lease, artifact.label)
        try:
            yield
        finally:
            self.context.progress = progress

    def _found(self, artifact: Artifact) -> State:
        self._complete.add(artifact.key)
        self.context.progress.finished(artifact.label, BEFORE)
        return State.COMPLETE

    def _tried(self, record: FailureRecord) -> bool:
        """Return whether a failure is a trial of a learning rate that diverged: it counts in the choice."""
        return record.diverged and record.key in self.graph.trials

    def _fail(self, artifact: Artifact, why: str, caused_by: str | None, diverged: bool) -> State:
        record = FailureRecord(
            kind=artifact.kind,
            key=artifact.key,
            name=artifact.name,
            reason=why,
            caused_by=caused_by,
            diverged=diverged,
            finished_at=now(),
        )
        write_model(artifact.folder(self.context) / FAILURE, record)
        return self._record_failure(artifact, record)

    def _record_failure(self, artifact: Artifact, record: FailureRecord) -> State:
        self._failed[artifact.key] = record
        if record.caused_by is None:  # consequences of it are not listed one by one
            self.context.progress.finished(artifact.label, f"failed: {record.reason}")
        return State.FAILED

    def _failure(self, artifact: Artifact) -> FailureRecord | None:
        """Return the recorded failure of an artifact, from an earlier call or another worker."""
        path = artifact.folder(self.context) / FAILURE
        try:
            return read_model(path, FailureRecord) if path.is_file() else None
        except DamagedError:
            return None

    def _note_waiting(self, artifact: Artifact) -> None:
        if artifact.key not in self._noted and not self.one_of_many:
            self._noted.add(artifact.key)
            self.context.progress.note(f"{artifact.label}: another process makes it; waiting for that where needed")


def reason(error: BaseException) -> str:
    """Return one sentence on why an artifact failed."""
    if out_of_memory(error):
        return "out of memory; set a smaller --micro-batch: under exact accumulation the gradient stays the same"
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, UserError | TrainingError):
        return text
    return f"{type(error).__name__}: {text} (traceback: {ERROR} in the artifact's folder)"


def disk_full(error: BaseException) -> RunError | None:
    """Return the error to stop a run with, if an error was caused by a full disk."""
    if isinstance(error, RunError) and isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
        return error  # its message says so
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in FULL:
            return unwritable(Path(str(cause.filename or ".")), cause)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
