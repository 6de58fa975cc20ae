"""A learning rate chosen from a grid: by a linear probe of trial encoders, on inner folds of the training cases."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ssl3d.data.store import Store
from ssl3d.errors import RunError
from ssl3d.evaluate.rate import best_factor, mean_score, probe_score
from ssl3d.protocol import FeatureProblem
from ssl3d.results.folder import FAILURE, WEIGHTS
from ssl3d.results.lease import Lease, Leases
from ssl3d.results.model import EncoderRecord, FailureRecord, PlannedRate
from ssl3d.results.provenance import made_by
from ssl3d.results.rate_record import RateRecord, Trial
from ssl3d.results.records import find_record, read_model, read_record, write_record
from ssl3d.run.artifact import Artifact, Context
from ssl3d.run.encoder import Encoder
from ssl3d.run.features import Features, loaded_features
from ssl3d.task import Task

NOT_FINITE = "the features of some training volumes are not finite"


@dataclass(frozen=True)
class TrainingCases:
    """The training cases of a task: test cases are not among them, whatever their labels.

    Attributes:
        task: the task.
        fingerprint: hash of these cases.
        indices: their indices in the store.
        y: their targets.
        patients: their patients.
    """

    task: Task
    fingerprint: str
    indices: list[int]
    y: np.ndarray
    patients: np.ndarray

    @classmethod
    def of(cls, store: Store, name: str) -> TrainingCases:
        """Return the training cases of a task.

        Raises:
            DataError: the task is unknown.
        """
        found = store.labelled("train", name)
        fingerprint = store.evaluation_fingerprint(name, splits=("train",))
        patients = np.array(store.patients(found), np.str_)
        return cls(store.task(name), fingerprint, found, store.targets(name, found), patients)


@dataclass(frozen=True)
class Tried:
    """A trial encoder, and its features of the data set of each part of the choice."""

    encoder: Encoder
    features: tuple[Features, ...]


@dataclass(frozen=True)
class Rate:
    """A choice of a learning rate that a run needs.

    Attributes:
        planned: its key, name and recipe, and the trial encoders.
        label: name in messages.
        tried: trial encoders in the order of the factors, with their features.
        cases: training cases of each part of the recipe.
    """

    planned: PlannedRate
    label: str
    tried: tuple[Tried, ...]
    cases: tuple[TrainingCases, ...]
    kind: ClassVar[Literal["rate"]] = "rate"

    @property
    def key(self) -> str:
        """Hash of everything that decides it."""
        return self.planned.key

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.planned.name

    @property
    def needs(self) -> Sequence[Artifact]:
        """The trial encoders, and their features."""
        encoders: list[Artifact] = [tried.encoder for tried in self.tried]
        features = {one.key: one for tried in self.tried for one in tried.features}
        return [*encoders, *features.values()]

    def folder(self, context: Context) -> Path:
        """Return the folder in which it is kept."""
        return context.folder.folder_of(RateRecord, self.name)

    def leases(self, context: Context) -> Leases:
        """Return the leases of choices of learning rates."""
        return context.leases(context.folder.shared_leases)

    def record(self, context: Context) -> RateRecord | None:
        """Return its record; None if nothing is chosen yet."""
        return find_record(self.folder(context), RateRecord, key=self.key)

    def is_complete(self, context: Context) -> bool:
        """Return whether the rate is chosen: it remains chosen if the trial encoders are deleted or made again."""
        return self.record(context) is not None

    def make(self, context: Context, lease: Lease) -> str:
        """Score every trial on the training cases, choose, and write the choice."""
        started = time.monotonic()
        context.progress.phase(self.label, "probing", len(self.tried), "trials")
        trials = []
        for factor, tried in zip(self.planned.recipe.factors, self.tried, strict=True):
            trials.append(self._trial(factor, tried, context))
            context.progress.advance(len(trials), {})
        if all(trial.problem for trial in trials):
            raise RunError(f"training diverges with every learning rate of the grid; lower pretrain.lr ({self.label})")
        factor = best_factor({trial.factor: trial.score for trial in trials if not trial.problem})
        record = RateRecord(
            key=self.key,
            name=self.name,
            made_by=made_by({}),
            notes=tuple(_notes(trials, factor)),
            recipe=self.planned.recipe,
            data=tuple(cases.fingerprint for cases in self.cases),
            trials=tuple(trials),
            factor=factor,
            probe_seconds=time.monotonic() - started,
        )
        lease.require()
        write_record(self.folder(context), record)
        return f"lr {record.lr:.6g}, {factor:g} times the recipe's"

    def _trial(self, factor: float, tried: Tried, context: Context) -> Trial:
        """Return a trial with its scores, or with the reason why its training diverged."""
        diverged = _divergence(tried.encoder, context)
        if diverged:
            return Trial(factor=factor, encoder=tried.encoder.key, problem=diverged)
        encoder = read_record(tried.encoder.folder(context), EncoderRecord)
        made = Trial(
            factor=factor,
            encoder=tried.encoder.key,
            encoder_sha256=encoder.files[WEIGHTS],
            seconds=encoder.price.pretrain_seconds,
            flops=encoder.price.flops,
        )
        scores = []
        for features, cases in zip(tried.features, self.cases, strict=True):
            problems = self._problems(loaded_features(features, context), cases)
            if not all(np.isfinite(problem.train_x).all() for problem in problems.values()):
                return made.model_copy(update={"problem": NOT_FINITE})
            scores.append(probe_score(problems, self.planned.recipe.readouts))
        return made.model_copy(update={"scores": tuple(scores), "score": mean_score(scores)})

    def _problems(self, found: Mapping[str, np.ndarray], cases: TrainingCases) -> dict[str, FeatureProblem]:
        """Return the training cases by read-out, without any test cases."""
        recipe = self.planned.recipe
        return {
            name: FeatureProblem(
                x[cases.indices], cases.y, x[:0], cases.task, cases.patients, recipe.inner_folds, recipe.seed
            )
            for name, x in found.items()
        }


def _divergence(encoder: Encoder, context: Context) -> str:
    """Return why the training of an encoder diverged; empty if it is complete."""
    path = encoder.folder(context) / FAILURE
    if encoder.record(context) is not None or not path.is_file():
        return ""
    failure = read_model(path, FailureRecord)
    return failure.reason if failure.diverged else ""


def _notes(trials: Sequence[Trial], factor: float) -> list[str]:
    """Return what a reader of the choice has to know."""
    factors, notes = [trial.factor for trial in trials], []
    lost = [f"{trial.factor:g}" for trial in trials if trial.problem]
    if all(trial.score is None for trial in trials):
        notes.append(
            "nothing could be held out to choose the learning rate by: the one nearest to the recipe's is used"
        )
    elif factor in (min(factors), max(factors)):
        notes.append(
            f"the chosen learning rate, {factor:g} times the recipe's, is at the edge of the grid; a better one may "
            "lie beyond"
        )
    if lost:
        notes.append(f"training diverged with {', '.join(lost)} times the recipe's learning rate")
    return notes
