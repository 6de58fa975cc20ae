"""One encoder on one task under one protocol, with all or some of the training labels: predicted and scored once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ssl3d.data.store import Store
from ssl3d.evaluate.readout import predict_best
from ssl3d.evaluate.subsets import subset
from ssl3d.protocol import EncoderProblem, EncoderProtocol, FeatureProblem, FeatureProtocol, Prediction, Protocol
from ssl3d.recipe import AugmentRecipe, EvaluationRecipe
from ssl3d.results.folder import PREDICTIONS, TRAINING, WEIGHTS
from ssl3d.results.lease import Lease, Leases
from ssl3d.results.model import DataRecord, EncoderRecord, EvaluationRecord, PlannedEvaluation, Score
from ssl3d.results.predictions import predictions_frame, to_csv
from ssl3d.results.provenance import made_by
from ssl3d.results.records import find_record, read_record, sound, write_record
from ssl3d.results.scoring import score
from ssl3d.run.artifact import Artifact, Context
from ssl3d.run.devices import open_device, placed
from ssl3d.run.encoder import Encoder, loaded_encoder
from ssl3d.run.features import Features, loaded_features
from ssl3d.task import Task


@dataclass(frozen=True)
class Labelled:
    """The cases of a task in a data set, with the split of a fold.

    Attributes:
        store: volumes with that split.
        task: task to evaluate.
        fingerprint: hash of these cases.
        train, test: indices of the cases with a target.
        train_y, test_y: their targets.
        train_patients, test_patients: their patients.
        leak: a sentence on test volumes that are also in the training split; empty if there are none.
    """

    store: Store
    task: Task
    fingerprint: str
    train: list[int]
    test: list[int]
    train_y: np.ndarray
    test_y: np.ndarray
    train_patients: np.ndarray
    test_patients: np.ndarray
    leak: str = ""

    @classmethod
    def of(cls, store: Store, name: str) -> Labelled:
        """Return the cases of a task.

        Raises:
            DataError: the task is unknown.
        """
        train, test = store.labelled("train", name), store.labelled("test", name)
        return cls(
            store,
            store.task(name),
            store.evaluation_fingerprint(name),
            train,
            test,
            store.targets(name, train),
            store.targets(name, test),
            np.array(store.patients(train), np.str_),
            np.array(store.patients(test), np.str_),
            _leak(store, store.ids(test)),
        )


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that a run needs.

    Attributes:
        planned: its key, name, recipe, and the key of its encoder.
        label: name in messages.
        encoder: encoder to evaluate.
        features: features of that encoder; None for a protocol that trains it.
        cases: cases of the task.
        protocol: class of the protocol.
        sources: hashes of the protocol's sources, by role.
        distributions: packages that the protocol comes from.
        overlap: a sentence, if the encoder's initial weights may have seen the test cases; "" if not.
    """

    planned: PlannedEvaluation
    label: str
    encoder: Encoder
    features: Features | None
    cases: Labelled
    protocol: type[Protocol[Any]]
    sources: dict[str, str]
    distributions: tuple[str, ...] = ()
    overlap: str = ""
    kind: ClassVar[Literal["evaluation"]] = "evaluation"

    @property
    def key(self) -> str:
        """Hash of everything that decides it."""
        return self.planned.key

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.planned.name

    @property
    def recipe(self) -> EvaluationRecipe:
        """Its recipe."""
        return self.planned.recipe

    @property
    def needs(self) -> Sequence[Artifact]:
        """The encoder, and its features."""
        return (self.encoder,) if self.features is None else (self.encoder, self.features)

    def folder(self, context: Context) -> Path:
        """Return the folder in which it is kept."""
        return context.folder.folder_of(EvaluationRecord, self.name)

    def leases(self, context: Context) -> Leases:
        """Return the leases of evaluations."""
        return context.leases(context.folder.leases)

    def is_complete(self, context: Context) -> bool:
        """Return whether it is complete, undamaged, and made with the current encoder."""
        encoder, folder = self.encoder.record(context), self.folder(context)
        record = find_record(folder, EvaluationRecord, key=self.key)
        if encoder is None or record is None or record.encoder_sha256 != encoder.files[WEIGHTS]:
            return False
        return PREDICTIONS in record.files and sound(folder, record)

    def make(self, context: Context, lease: Lease) -> str:
        """Learn from the training cases, predict the test cases, score and write."""
        started, cases = time.monotonic(), self.cases
        context.progress.phase(self.label, "evaluating", 1, "protocols")
        chosen = subset(cases.train_y, cases.train_patients, cases.task, self.recipe)  # (n,)
        encoder = read_record(self.encoder.folder(context), EncoderRecord)
        readout, prediction = self._predict(context, chosen)
        found = score(prediction, cases.test_y, cases.task, cases.test_patients, time.monotonic() - started)
        record = self._record(encoder.files[WEIGHTS], chosen, readout, found, prediction.notes)
        lease.require()
        write_record(self.folder(context), record, self._tables(prediction, chosen))
        return _outcome(found)

    def _predict(self, context: Context, chosen: np.ndarray) -> tuple[str, Prediction]:
        """Return the read-out, and the protocol's predictions after learning from the chosen (n,) training cases."""
        recipe, cases = self.recipe, self.cases
        protocol = self.protocol(self.protocol.Config.checked(recipe.protocol_config, f"protocol.{recipe.protocol}"))
        train, y, patients = [cases.train[i] for i in chosen], cases.train_y[chosen], cases.train_patients[chosen]
        if isinstance(protocol, FeatureProtocol):
            assert self.features is not None  # the graph gives it some
            problems = {
                name: FeatureProblem(x[train], y, x[cases.test], cases.task, patients, recipe.inner_folds, recipe.seed)
                for name, x in loaded_features(self.features, context).items()
            }
            return predict_best(protocol, problems, recipe.readouts)
        assert isinstance(protocol, EncoderProtocol)
        device = open_device(context.options.device, "32-true").device
        prediction = protocol.predict(
            EncoderProblem(
                encoder=loaded_encoder(self.encoder, context)[0],
                source=placed(cases.store, device),
                train=train,
                test=cases.test,
                train_y=y,
                task=cases.task,
                patients=patients,
                augment=recipe.augment or AugmentRecipe(),
                view_size=recipe.view_size,
                batch_size=recipe.batch_size,
                device=device,
                folds=recipe.inner_folds,
                seed=recipe.seed,
                progress=lambda epoch, of: context.progress.advance(0, {"epoch": epoch, "epochs": of}),
            )
        )
        return protocol.readout, prediction

    def _tables(self, prediction: Prediction, chosen: np.ndarray) -> dict[str, str]:
        """Return the predictions of the test cases, and the out-of-fold ones of the training cases if there are any."""
        cases = self.cases
        ids = cases.store.ids(cases.test)
        test = predictions_frame(ids, list(cases.test_patients), cases.test_y, prediction.probabilities, cases.task)
        if prediction.out_of_fold is None:
            return {PREDICTIONS: to_csv(test)}
        ids, patients = cases.store.ids([cases.train[i] for i in chosen]), list(cases.train_patients[chosen])
        train = predictions_frame(ids, patients, cases.train_y[chosen], prediction.out_of_fold, cases.task)
        return {PREDICTIONS: to_csv(test), TRAINING: to_csv(train)}

    def _record(
        self, encoder_sha256: str, chosen: np.ndarray, readout: str, found: Score, notes: tuple[str, ...]
    ) -> EvaluationRecord:
        cases, y = self.cases, self.cases.train_y[chosen]
        return EvaluationRecord(
            key=self.key,
            name=self.name,
            made_by=made_by(self.sources, self.distributions),
            notes=(*filter(None, (cases.leak, self.overlap)), *notes),
            recipe=self.recipe,
            encoder=self.encoder.key,
            encoder_sha256=encoder_sha256,
            data=DataRecord(
                name=cases.store.name,
                synthetic=cases.store.synthetic,
                fingerprint=cases.fingerprint,
                task=cases.task,
                plane=self.recipe.plane or "",
                n_train=len(cases.train),
                n_test=len(cases.test),
                n_test_patients=len(set(cases.test_patients)),
                patients_known=cases.store.knows_patients,
            ),
            n_labels=len(chosen),
            n_positive=int((y == 1).sum()) if cases.task.kind == "binary" else None,
            readout=readout,
            score=found,
        )


def _outcome(found: Score) -> str:
    """Return the first metric with a value: "auc 0.812"."""
    known = [f"{name} {value:.3f}" for name, value in found.metrics.items() if value is not None]
    return known[0] if known else "no metric is defined; see reasons in its record"


def _leak(store: Store, tested: list[str]) -> str:
    """Return a sentence on test volumes whose voxels are also in the training split, which protocols learn from."""
    cases = set(tested)
    found = [f"{train} = {test}" for train, test in store.duplicates() if test in cases]
    if not found:
        return ""
    are, pairs = "volume is" if len(found) == 1 else "volumes are", ", ".join(found[:3])
    return f"{store.name}: {len(found)} test {are} in the training split, too ({pairs}): scores are too high"
