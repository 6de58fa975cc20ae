"""Verification of a run against its own files: scores from predictions, tables from records. Writes nothing.

Loads scikit-learn, not torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from ssl3d.audit.artifacts import check_encoder, check_evaluation, check_features, check_rate
from ssl3d.audit.tables import verify_tables
from ssl3d.audit.verdict import Findings, Verdict
from ssl3d.errors import RunError
from ssl3d.results.folder import FAILURE, PLAN, RECORDS, RunFolder
from ssl3d.results.model import (
    ArtifactRecord,
    EncoderRecord,
    EvaluationRecord,
    FailureRecord,
    FeaturesRecord,
    PlannedEncoder,
    PlannedEvaluation,
    PlannedRate,
    PlanRecord,
)
from ssl3d.results.rate_record import RateRecord
from ssl3d.results.read import read_plan
from ssl3d.results.records import DamagedError, find_record, read_model

FOLDERS: dict[type[ArtifactRecord], str] = {
    EncoderRecord: "encoders",
    FeaturesRecord: "features",
    RateRecord: "rates",
    EvaluationRecord: "evaluations",
}
P = TypeVar("P", PlannedEncoder, PlannedRate, PlannedEvaluation)
FROM_NONE = (FeaturesRecord, RateRecord)  # no table is made from them
NAMED = "name a folder that `ssl3d bench` wrote: of a run, or of an encoder or evaluation in it"


def verify(folder: Path) -> Iterator[Verdict]:
    """Check a run, or one of its artifacts, and yield each verdict as it is reached.

    Args:
        folder: folder of a run, an encoder, features, a chosen learning rate, or an evaluation.

    Raises:
        RunError: it is none of these.
    """
    folder = folder.resolve()
    kinds = [kind for kind, name in RECORDS.items() if (folder / name).is_file()]
    if (folder / PLAN).is_file():
        yield from _Run.of(folder).verdicts()
    elif kinds:
        run = _Run.of(_run_of(folder, kinds[0]))
        yield run.verdict(kinds[0], run.name_of(folder, kinds[0]), folder)
    else:
        records = ", ".join([PLAN, *RECORDS.values()])
        raise RunError(f"{folder} holds nothing to verify (none of {records}); {NAMED}")


def _run_of(folder: Path, kind: type[ArtifactRecord]) -> Path:
    """Return the folder of the run that contains an artifact; for encoders and features it may be a cache."""
    up = 2 if kind is EvaluationRecord else 1  # evaluations/DATASET-TASK/NAME, encoders/NAME
    return folder.parents[up] if len(folder.parents) > up else folder.parent


class _Run:
    """A run to verify.

    Attributes:
        folder: folder of the run.
        plan: its plan; None if it is missing or damaged.
        damage: a sentence on a damaged plan.
    """

    def __init__(self, folder: RunFolder, plan: PlanRecord | None, damage: str = "") -> None:
        self.folder, self.plan, self.damage = folder, plan, damage
        self.encoder, self.rate = cache(self._encoder), cache(self._rate)  # each record is read once
        rates = plan.rates if plan else {}
        trials = {one.key: one for rate in rates.values() for one in rate.trials}
        self.encoders = {**trials, **(plan.encoders if plan else {})}  # as planned

    @classmethod
    def of(cls, path: Path) -> _Run:
        try:
            plan = read_plan(path) if (path / PLAN).is_file() else None
        except RunError as error:
            return cls(RunFolder(path), None, str(error))
        return cls(RunFolder(path, Path(plan.cache) if plan and plan.cache else None), plan)

    def verdicts(self) -> Iterator[Verdict]:
        """Check every artifact that is planned or exists, then the tables."""
        found = [self.damage] if self.damage else []
        yield Verdict(PLAN, faults=tuple(found))
        sound = not found
        for kind, name in self._artifacts():
            verdict = self.verdict(kind, name)
            sound = sound and (verdict.sound or kind in FROM_NONE)
            yield verdict
        yield from verify_tables(self.folder.path, sound)

    def verdict(self, kind: type[ArtifactRecord], name: str, folder: Path | None = None) -> Verdict:
        """Check one artifact."""
        found = Findings()
        folder = folder or found.attempt(self.folder.folder_of, kind, name)
        path = f"{FOLDERS[kind]}/{name}"
        if folder is None:
            return found.verdict(path)
        if not (folder / RECORDS[kind]).is_file():
            return _absent(folder, path)
        if kind is EncoderRecord:
            check_encoder(folder, name, _planned(self.encoders, name), self.rate, found)
        elif kind is FeaturesRecord:
            check_features(folder, name, self.encoder, found)
        elif kind is RateRecord:
            check_rate(folder, name, _planned(self.plan.rates if self.plan else {}, name), self.encoder, found)
        else:
            planned = _planned(self.plan.evaluations if self.plan else {}, name)
            check_evaluation(folder, name, planned, self.encoder, found)
        return found.verdict(path)

    def name_of(self, folder: Path, kind: type[ArtifactRecord]) -> str:
        """Return the name that the artifact in a folder should have."""
        return f"{folder.parent.name}/{folder.name}" if kind is EvaluationRecord else folder.name

    def _artifacts(self) -> Iterator[tuple[type[ArtifactRecord], str]]:
        """Yield kind and name of every artifact, in the order in which they are made."""
        own = self.folder.cache is None or self.plan is None  # a cache also holds artifacts of other runs
        encoders = dict.fromkeys(one.name for one in self.encoders.values())
        rates = dict.fromkeys(one.name for one in (self.plan.rates.values() if self.plan else ()))
        if own:
            encoders |= dict.fromkeys(_names(self.folder.encoders, EncoderRecord))
            rates |= dict.fromkeys(_names(self.folder.rates, RateRecord))
        yield from ((EncoderRecord, name) for name in encoders)
        for path in sorted(self.folder.features.glob(f"*/{RECORDS[FeaturesRecord]}")):
            record = find_record(path.parent, FeaturesRecord)
            if own or (record is not None and record.encoder in self.encoders):
                yield FeaturesRecord, path.parent.name
        yield from ((RateRecord, name) for name in rates)
        evaluations = dict.fromkeys(one.name for one in (self.plan.evaluations.values() if self.plan else ()))
        evaluations |= dict.fromkeys(_names(self.folder.evaluations, EvaluationRecord))
        yield from ((EvaluationRecord, name) for name in evaluations)

    def _encoder(self, key: str) -> EncoderRecord | None:
        """Return the record of an encoder by its key; None if it does not exist."""
        planned = self.encoders.get(key)
        folders = (
            [self.folder.encoders / planned.name] if planned else sorted(self.folder.encoders.glob(f"*-{key[:10]}"))
        )
        records = (find_record(folder, EncoderRecord, key=key) for folder in folders)
        return next((record for record in records if record is not None), None)

    def _rate(self, key: str) -> RateRecord | None:
        """Return the record of a chosen learning rate by its key; None if it does not exist."""
        records = (find_record(folder, RateRecord, key=key) for folder in self.folder.rates.glob(f"*-{key[:10]}"))
        return next((record for record in records if record is not None), None)


def _names(folder: Path, kind: type[ArtifactRecord]) -> list[str]:
    """Return the names of the artifacts in a folder, including those one level deeper."""
    paths = sorted({*folder.glob(f"*/{RECORDS[kind]}"), *folder.glob(f"*/*/{RECORDS[kind]}")})
    return [path.parent.relative_to(folder).as_posix() for path in paths]


def _planned(planned: Mapping[str, P], name: str) -> P | None:
    return next((one for one in planned.values() if one.name == name), None)


def _absent(folder: Path, path: str) -> Verdict:
    """Return the verdict on an artifact without a record."""
    if not (folder / FAILURE).is_file():
        return Verdict(path, "not finished" if folder.is_dir() else "not started")
    try:
        return Verdict(path, f"failed: {read_model(folder / FAILURE, FailureRecord).reason}")
    except DamagedError as error:
        return Verdict(path, faults=(str(error),))
