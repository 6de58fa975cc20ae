"""The state of a run, from its plan, records, failures and leases: nothing is computed. Loads no torch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from ssl3d.results.folder import FAILURE, RECORDS, RunFolder
from ssl3d.results.lease import LOCK, WORKER, lives, parsed
from ssl3d.results.model import (
    ArtifactRecord,
    EncoderRecord,
    EvaluationRecord,
    FailureRecord,
    PlannedEncoder,
    PlannedEvaluation,
    PlannedRate,
    PlanRecord,
)
from ssl3d.results.rate_record import RateRecord
from ssl3d.results.read import read_plan
from ssl3d.results.records import DamagedError, read_model
from ssl3d.run.names import encoder_label, evaluation_label, features_label, rate_label

Planned = PlannedEncoder | PlannedRate | PlannedEvaluation
Like = tuple[str, ...]  # artifacts that cost about the same


@dataclass(frozen=True)
class Running:
    """An artifact that a worker holds.

    Attributes:
        label: name of the artifact in messages.
        host: name of the worker's machine.
        pid: number of its process there.
        alive: whether it is; None if it is on another machine.
        doing: ``phase``, ``done``, ``total``, ``unit`` and ``left`` (seconds), as far as known, a few seconds ago.
    """

    label: str
    host: str
    pid: int | None
    alive: bool | None
    doing: dict[str, Any]


@dataclass
class Status:
    """The state of a run.

    Attributes:
        folder: folder of the run.
        planned, done: numbers of artifacts, by kind; features are not planned, and not counted.
        running: what workers hold.
        failed: reason by label, of what failed first.
        dependants: number of artifacts that cannot be made because of those.
        workers: number of workers that are registered.
        spent: seconds that what is done took to pretrain and evaluate.
        to_come: seconds that the rest will take, as far as something like it is done; None if nothing is.
        unknown: number of pretrainings and evaluations of which nothing like them is done.
    """

    folder: Path
    planned: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    dependants: int = 0
    workers: int = 0
    spent: float = 0.0
    to_come: float | None = None
    unknown: int = 0

    @property
    def waiting(self) -> int:
        """Number of artifacts that are neither done nor failed; those that are being made are among them."""
        return sum(self.planned.values()) - sum(self.done.values()) - len(self.failed) - self.dependants


def read_status(run: Path) -> Status:
    """Return the state of a run.

    Raises:
        RunError: the folder is not a run's, or its plan is damaged.
    """
    plan = read_plan(run)
    folder, status = RunFolder(run, Path(plan.cache) if plan.cache else None), Status(run)
    costs: defaultdict[Like, list[float]] = defaultdict(list)
    left: list[Like] = []
    for kind, planned in _planned(plan):
        name = planned_kind(kind)
        status.planned[name] = status.planned.get(name, 0) + 1
        place, like = folder.folder_of(kind, planned.name), _like(plan, planned)
        record = _json(place / RECORDS[kind])
        if record is not None:
            status.done[name] = status.done.get(name, 0) + 1
            costs[like].append(_seconds(record))
        elif (place / FAILURE).is_file():
            _fail(status, plan, planned, place / FAILURE)
        else:
            left.append(like)
    _sum_up(status, costs, left)
    _leases(status, plan, folder)
    return status


def planned_kind(kind: type[ArtifactRecord]) -> str:
    """Return the word for artifacts of a kind, as it is in plan.json."""
    return {EncoderRecord: "encoders", RateRecord: "rates", EvaluationRecord: "evaluations"}[kind]


def label_of(plan: PlanRecord, planned: Planned) -> str:
    """Return the name of an artifact in messages."""
    if isinstance(planned, PlannedEncoder):
        return encoder_label(planned.recipe)
    if isinstance(planned, PlannedRate):
        return rate_label(planned.trials[0].recipe, planned.recipe) if planned.trials else planned.name
    return evaluation_label(plan.encoders[planned.encoder].recipe, planned.recipe)


def _planned(plan: PlanRecord) -> Iterator[tuple[type[ArtifactRecord], Planned]]:
    yield from ((RateRecord, one) for one in plan.rates.values())
    yield from ((EncoderRecord, one) for one in plan.encoders.values())
    yield from ((EvaluationRecord, one) for one in plan.evaluations.values())


def _like(plan: PlanRecord, planned: Planned) -> Like:
    """Return what artifacts of about the same cost share."""
    if isinstance(planned, PlannedEncoder):
        made = planned.recipe
        return "encoder", made.method, made.backbone, *(f"{part.data} {part.plane}" for part in made.corpus)
    if isinstance(planned, PlannedRate):
        return ("rate",)
    encoder, recipe = plan.encoders[planned.encoder].recipe, planned.recipe
    return "evaluation", encoder.backbone, recipe.data, recipe.plane or "", recipe.protocol, recipe.condition[:6]


def _seconds(record: dict[str, Any]) -> float:
    """Return how long an artifact took, from its record."""
    places = (record.get("price"), record.get("score"), record, *record.get("trials", ()))
    names = ("pretrain_seconds", "seconds", "probe_seconds")
    found = [place.get(name) for place in places if isinstance(place, dict) for name in names]
    return sum(float(one) for one in found if isinstance(one, int | float))


def _fail(status: Status, plan: PlanRecord, planned: Planned, path: Path) -> None:
    try:
        failure = read_model(path, FailureRecord)
    except DamagedError:
        return  # it will be tried again
    if failure.caused_by is None:
        status.failed[label_of(plan, planned)] = failure.reason
    else:
        status.dependants += 1


def _sum_up(status: Status, costs: dict[Like, list[float]], left: Iterable[Like]) -> None:
    status.spent = sum(sum(found) for found in costs.values())
    known = {like: mean(found) for like, found in costs.items()}
    for like in left:
        if like in known:
            status.to_come = (status.to_come or 0.0) + known[like]
        else:
            status.unknown += 1


def _leases(status: Status, plan: PlanRecord, folder: RunFolder) -> None:
    """Read which artifacts are held, and by whom; those of other runs in a shared cache are left out."""
    own = folder.leases.glob("*.lease")
    shared = set(folder.shared_leases.glob("*.lease")) if folder.cache else set()
    ours = _keys_and_labels(plan) if shared else frozenset()
    for path in sorted({*own, *shared}):
        if path.stem.startswith(f"{WORKER}-"):
            status.workers += path not in shared
        elif path.stem != LOCK:
            running = _running(path)
            if running and (path not in shared or ours & {path.stem, running.label}):
                status.running.append(running)


def _keys_and_labels(plan: PlanRecord) -> frozenset[str]:
    """Return the keys of what is planned, and the labels of the features that it is made from."""
    pairs = ((plan.encoders[one.encoder].recipe, one.recipe) for one in plan.evaluations.values())
    keys = {*plan.encoders, *plan.rates, *plan.evaluations}
    keys |= {trial.key for rate in plan.rates.values() for trial in rate.trials}
    return frozenset(keys | {features_label(*pair) for pair in pairs})


def _running(path: Path) -> Running | None:
    try:
        owner = parsed(path.read_bytes())
    except OSError:  # released meanwhile
        return None
    doing = owner.get("doing")
    doing = dict(doing) if isinstance(doing, dict) else {}
    pid, host = owner.get("pid"), str(owner.get("host", "")).partition(" ")[0]
    label = str(doing.pop("label", path.stem))
    return Running(label, host, pid if isinstance(pid, int) else None, lives(owner), doing)


def _json(path: Path) -> dict[str, Any] | None:
    """Return a record as plain values, without checking it; None if there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
