"""Checks of one artifact against its own record: names, key, files, and links to its inputs. Writes nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from ssl3d.audit.scores import check_predictions
from ssl3d.audit.verdict import Findings
from ssl3d.evaluate.rate import best_factor, mean_score
from ssl3d.results.feature_file import unpack_features
from ssl3d.results.folder import FEATURES, PREDICTIONS, RECORDS, SHORT, WEIGHTS
from ssl3d.results.keys import NUMERICS, encoder_key, evaluation_key, rate_key
from ssl3d.results.model import (
    ArtifactRecord,
    EncoderRecord,
    EvaluationRecord,
    FeaturesRecord,
    PlannedEncoder,
    PlannedEvaluation,
    PlannedRate,
)
from ssl3d.results.rate_record import RateRecord
from ssl3d.results.records import CONTENT, DamagedError, file_sha256, read_file, read_json, read_record

R = TypeVar("R", bound=ArtifactRecord)
FindEncoder = Callable[[str], EncoderRecord | None]  # by key
FindRate = Callable[[str], RateRecord | None]  # by key
REFERENCES = {"method", "backbone", "corpus", "task"}  # of an encoder's recipe: names that are not part of its key


def checked_record(folder: Path, kind: type[R], name: str, found: Findings) -> R | None:
    """Check the record of an artifact and the hashes of its files; return the record if it can be read.

    Args:
        folder: folder of the artifact.
        kind: type of its record.
        name: name that the record should have.
        found: collects the faults.
    """
    found.attempt(read_record, folder, kind)
    try:
        content = read_json(folder / RECORDS[kind])
        record = kind.model_validate({key: value for key, value in content.items() if key != CONTENT})
    except (DamagedError, ValidationError):
        return None  # reported by read_record
    found.compare(RECORDS[kind], "name", record.name, name)
    found.compare(RECORDS[kind], "end of the name", record.name.rpartition("-")[2], record.key[:SHORT])
    for file, digest in record.files.items():
        there = found.attempt(file_sha256, folder / file)
        if there is not None:
            found.compare(file, "SHA-256", digest, there)
    return record


def check_encoder(
    folder: Path, name: str, planned: PlannedEncoder | None, rate: FindRate, found: Findings
) -> EncoderRecord | None:
    """Check an encoder against its record, its recipe and the plan; return its record if it can be read."""
    record = checked_record(folder, EncoderRecord, name, found)
    if record is None:
        return None
    _require(record, EncoderRecord, WEIGHTS, found)
    if record.recipe.pretrain is not None and record.corpus is None:
        found.faults.append(f"{RECORDS[EncoderRecord]} of {name} names no corpus, and its recipe pretrains on one")
    if record.weights is not None and record.weights_sha256 is None:
        found.notes.append("its key is not recomputed: the hash of the weights that it started from is not recorded")
    elif _same_numerics(record, found):
        made = encoder_key(
            record.recipe,
            corpus=record.corpus.fingerprint if record.corpus else None,
            sources=record.made_by.sources,
            weights=record.weights_sha256,
            rate=record.rate.key if record.rate else None,
        )
        found.compare(RECORDS[EncoderRecord], "key", record.key, made)
    _check_chosen(record, rate, found)
    if planned is not None:
        found.compare("plan.json", f"encoders.{planned.key}.key", planned.key, record.key)
        ours, theirs = (
            one.recipe.model_dump(mode="json", exclude=REFERENCES) for one in (planned, record)
        )  # another run with the same cache may have used another name for a plugin
        found.compare("plan.json", f"encoders.{planned.key}.recipe", ours, theirs)
    return record


def check_features(folder: Path, name: str, encoder: FindEncoder, found: Findings) -> None:
    """Check features against their record, and that they come from the current encoder."""
    record = checked_record(folder, FeaturesRecord, name, found)
    if record is None:
        return
    _require(record, FeaturesRecord, FEATURES, found)
    _check_link(record, FeaturesRecord, encoder, found)
    try:
        with np.load(io.BytesIO(read_file(folder, record, FEATURES)), allow_pickle=False) as arrays:
            shapes = {name: list(x.shape) for name, x in unpack_features(arrays).items()}
    except DamagedError:
        return  # reported with the hashes
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        found.faults.append(f"{folder / FEATURES} cannot be read ({str(error).splitlines()[0]}); delete the folder")
        return
    file = RECORDS[FeaturesRecord]
    expected = {name: [record.volumes, width] for name, width in record.widths.items()}
    found.compare(file, "volumes, widths", expected, shapes)


def check_rate(
    folder: Path, name: str, planned: PlannedRate | None, encoder: FindEncoder, found: Findings
) -> RateRecord | None:
    """Check a choice of a learning rate: its key, that it follows from its scores, and its trial encoders."""
    record = checked_record(folder, RateRecord, name, found)
    if record is None:
        return None
    file = RECORDS[RateRecord]
    if _same_numerics(record, found):
        made = rate_key(record.recipe, trials=[trial.encoder for trial in record.trials], data=record.data)
        found.compare(file, "key", record.key, made)
    found.compare(file, "factors", [trial.factor for trial in record.trials], list(record.recipe.factors))
    for number, trial in enumerate(record.trials):
        found.compare(file, f"trials.{number}.score", trial.score, mean_score(trial.scores))
        made_with = encoder(trial.encoder)
        if made_with is not None:  # trial encoders may be deleted once the rate is chosen
            there = made_with.files.get(WEIGHTS)
            found.compare(file, f"trials.{number}.encoder_sha256", trial.encoder_sha256, there)
    sound = {trial.factor: trial.score for trial in record.trials if not trial.problem}
    best = best_factor(sound) if sound else None
    found.compare(file, "factor", record.factor, best)
    if planned is not None:
        found.compare("plan.json", f"rates.{planned.key}.key", planned.key, record.key)
    return record


def check_evaluation(
    folder: Path, name: str, planned: PlannedEvaluation | None, encoder: FindEncoder, found: Findings
) -> EvaluationRecord | None:
    """Check an evaluation against its record, its encoder, its predictions and the plan; return its record."""
    record = checked_record(folder, EvaluationRecord, name, found)
    if record is None:
        return None
    file = RECORDS[EvaluationRecord]
    _require(record, EvaluationRecord, PREDICTIONS, found)
    _check_link(record, EvaluationRecord, encoder, found)
    if _same_numerics(record, found):
        made = evaluation_key(
            record.recipe, encoder=record.encoder, data=record.data.fingerprint, sources=record.made_by.sources
        )
        found.compare(file, "key", record.key, made)
    found.compare(file, "data.task.name", record.data.task.name, record.recipe.task)
    if planned is not None:
        for field in ("key", "recipe", "encoder"):
            ours, theirs = (one.model_dump(mode="json")[field] for one in (planned, record))
            found.compare("plan.json", f"evaluations.{planned.key}.{field}", ours, theirs)
    check_predictions(folder, record, found)
    return record


def _require(record: ArtifactRecord, kind: type[ArtifactRecord], file: str, found: Findings) -> None:
    if file not in record.files:
        found.faults.append(f"{RECORDS[kind]} of {record.name} names no {file}")


def _same_numerics(record: ArtifactRecord, found: Findings) -> bool:
    """Return whether this version of the core computes keys as the record's did."""
    version = record.made_by.numerics
    if version != NUMERICS:
        found.notes.append(f"its key is not recomputed: it was made by numerics version {version}, this is {NUMERICS}")
    return version == NUMERICS


def _check_chosen(record: EncoderRecord, rate: FindRate, found: Findings) -> None:
    """Check that an encoder was pretrained with the rate that was chosen for it."""
    if record.rate is None:
        if record.recipe.pretrain is not None and record.recipe.pretrain.tune_lr:
            found.faults.append(f"{RECORDS[EncoderRecord]} of {record.name} names no choice of its learning rate")
        return
    chosen = rate(record.rate.key)
    if chosen is None:
        found.notes.append(f"the choice of its learning rate, {record.rate.key[:SHORT]}, is not there to compare with")
        return
    for field in ("factor", "lr"):
        found.compare(RECORDS[EncoderRecord], f"rate.{field}", getattr(record.rate, field), getattr(chosen, field))


def _check_link(
    record: FeaturesRecord | EvaluationRecord, kind: type[ArtifactRecord], encoder: FindEncoder, found: Findings
) -> None:
    """Check that the encoder that was used is the existing one."""
    made_from = encoder(record.encoder)
    if made_from is None:
        found.notes.append(f"its encoder {record.encoder[:SHORT]} is not there, so the link to it is not checked")
        return
    expected: Mapping[str, str] = made_from.files
    found.compare(RECORDS[kind], "encoder_sha256", record.encoder_sha256, expected.get(WEIGHTS))
