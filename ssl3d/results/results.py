"""What a run has come to, as read from its records: the only input of tables, report and audit. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ssl3d.results.model import EncoderRecord, EvaluationRecord, PlannedEncoder, PlannedEvaluation


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that is complete.

    Attributes:
        record: of the evaluation.
        encoder: record of the encoder that was evaluated.
        predictions: a row per test case: case, patient, label, p_0 .. p_{K-1}.
        training: out-of-fold predictions of the training cases, in the same form; None without any.
        folder: of the evaluation; None of a derived one (planes combined), which is not an artifact.
        encoder_folder: of the encoder.
    """

    record: EvaluationRecord
    encoder: EncoderRecord
    predictions: pd.DataFrame
    training: pd.DataFrame | None = None
    folder: Path | None = None
    encoder_folder: Path | None = None


@dataclass(frozen=True)
class Failed:
    """An evaluation that was planned and could not be made, with one sentence on why."""

    evaluation: PlannedEvaluation
    encoder: PlannedEncoder
    reason: str


@dataclass(frozen=True)
class Results:
    """Everything that a run, or several, has come to.

    Attributes:
        evaluated: in the order of the plan.
        failed: likewise.
        pending: evaluations that are planned and neither made nor failed.
        encoders: every complete encoder by key, also those without an evaluation.
    """

    evaluated: tuple[Evaluated, ...] = ()
    failed: tuple[Failed, ...] = ()
    pending: tuple[PlannedEvaluation, ...] = ()
    encoders: Mapping[str, EncoderRecord] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.evaluated or self.failed)
