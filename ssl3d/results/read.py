"""Reading runs: every planned evaluation, complete, failed or pending. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from ssl3d.errors import RunError
from ssl3d.results.folder import FAILURE, PLAN, PREDICTIONS, RECORDS, TRAINING, RunFolder, require_run
from ssl3d.results.model import (
    EncoderRecord,
    EvaluationRecord,
    FailureRecord,
    PlannedEvaluation,
    PlanRecord,
)
from ssl3d.results.predictions import parse_predictions
from ssl3d.results.records import DamagedError, find_record, read_file, read_model, read_record
from ssl3d.results.results import Evaluated, Failed, Results


def read_plan(run: Path) -> PlanRecord:
    """Return the plan of a run.

    Raises:
        RunError: the folder is not a run's, or its plan is damaged.
    """
    require_run(run)
    try:
        return read_model(run / PLAN, PlanRecord)
    except DamagedError as error:
        raise RunError(f"{error}; choose another --out, or --fresh to start again") from None


def open_run(run: Path) -> RunFolder:
    """Return the folder of a run, with the cache that its plan names.

    Raises:
        RunError: the folder is not a run's, or its plan is damaged.
    """
    cache = read_plan(run).cache
    return RunFolder(run, Path(cache) if cache else None)


def read_results(run: Path, *more: Path) -> Results:
    """Return the results of one or several runs. An evaluation in several runs counts once.

    Raises:
        RunError: a folder is not a run's, or (:class:`ssl3d.results.records.DamagedError`) a file of it is damaged.
    """
    readers = [_Reader(folder) for folder in (run, *more)]
    for reader in readers:
        reader.read()
    evaluated = {one.record.key: one for reader in readers for one in reader.evaluated}
    failed = {one.evaluation.key: one for reader in readers for one in reader.failed}
    pending = {one.key: one for reader in readers for one in reader.pending}
    return Results(
        tuple(evaluated.values()),
        tuple(one for key, one in failed.items() if key not in evaluated),
        tuple(one for key, one in pending.items() if key not in evaluated and key not in failed),
        {key: record for reader in readers for key, record in reader.encoders.items()},
        readers[0].plan.primary,
        readers[0].plan.lacking,
    )


def read_evaluation(folder: Path) -> tuple[EvaluationRecord, dict[str, bytes]]:
    """Return the record of an evaluation, and its verified files by name.

    Raises:
        DamagedError: the record or a file is damaged or missing.
    """
    record = read_record(folder, EvaluationRecord)
    return record, {name: read_file(folder, record, name) for name in record.files}


class _Reader:
    """Reader of one run that reads each encoder's record once."""

    def __init__(self, run: Path) -> None:
        self.plan = read_plan(run)
        self.folder = RunFolder(run, Path(self.plan.cache) if self.plan.cache else None)
        self.evaluated: list[Evaluated] = []
        self.failed: list[Failed] = []
        self.pending: list[PlannedEvaluation] = []
        self.encoders: dict[str, EncoderRecord] = {}

    def read(self) -> None:
        """Read every planned artifact."""
        for planned in self.plan.encoders.values():
            record = find_record(self.folder.folder_of(EncoderRecord, planned.name), EncoderRecord, key=planned.key)
            if record is not None:
                self.encoders[planned.key] = record
        for evaluation in self.plan.evaluations.values():
            self._read(evaluation)

    def _read(self, planned: PlannedEvaluation) -> None:
        folder = self.folder.folder_of(EvaluationRecord, planned.name)
        if (folder / RECORDS[EvaluationRecord]).is_file() and planned.encoder in self.encoders:
            self.evaluated.append(self._evaluated(planned, folder))
        elif (folder / FAILURE).is_file():
            reason = read_model(folder / FAILURE, FailureRecord).reason
            self.failed.append(Failed(planned, self.plan.encoders[planned.encoder], reason))
        else:
            self.pending.append(planned)

    def _evaluated(self, planned: PlannedEvaluation, folder: Path) -> Evaluated:
        record, files = read_evaluation(folder)
        if record.key != planned.key:
            raise DamagedError(f"{folder} holds another evaluation than the plan says; delete the folder and run again")
        tables = {name: parse_predictions(data, str(folder / name)) for name, data in files.items()}
        if PREDICTIONS not in tables:
            raise DamagedError(f"{folder} has no {PREDICTIONS}; delete the folder and run again")
        encoder = self.encoders[planned.encoder]
        encoder_folder = self.folder.folder_of(EncoderRecord, encoder.name)
        return Evaluated(record, encoder, tables[PREDICTIONS], tables.get(TRAINING), folder, encoder_folder)
