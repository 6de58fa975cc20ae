"""The results of a run, read from its records: the only input of tables, report and audit. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ssl3d.results.model import EncoderRecord, EvaluationRecord, PlannedEncoder, PlannedEvaluation, Primary


@dataclass(frozen=True)
class Evaluated:
    """A complete evaluation.

    Attributes:
        record: record of the evaluation.
        encoder: record of the evaluated encoder.
        predictions: one row per test case: case, patient, label, p_0 .. p_{K-1}.
        training: out-of-fold predictions of the training cases, in the same form; None if there are none.
        folder: folder of the evaluation; None for a derived one (planes combined), which is not an artifact.
        encoder_folder: folder of the encoder.
    """

    record: EvaluationRecord
    encoder: EncoderRecord
    predictions: pd.DataFrame
    training: pd.DataFrame | None = None
    folder: Path | None = None
    encoder_folder: Path | None = None


@dataclass(frozen=True)
class Failed:
    """A planned evaluation that could not be made, with the reason in one sentence."""

    evaluation: PlannedEvaluation
    encoder: PlannedEncoder
    reason: str


@dataclass(frozen=True)
class Results:
    """All results of one or several runs.

    Attributes:
        evaluated: complete evaluations in the order of the plan.
        failed: failed evaluations in the order of the plan.
        pending: planned evaluations that are neither complete nor failed.
        encoders: all complete encoders by key, including those without an evaluation.
        primary: the primary comparison of the first run, as its first request fixed it.
        lacking: controls that the table of the first run lacks, by the reason.
    """

    evaluated: tuple[Evaluated, ...] = ()
    failed: tuple[Failed, ...] = ()
    pending: tuple[PlannedEvaluation, ...] = ()
    encoders: Mapping[str, EncoderRecord] = field(default_factory=dict)
    primary: Primary | None = None
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.evaluated or self.failed)
