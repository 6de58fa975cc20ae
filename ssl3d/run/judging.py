"""The protocols of a cell's recipe, with all training labels and with every part of them that it asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.evaluate.protocols.finetune import light
from ssl3d.evaluate.subsets import Subset, conditions
from ssl3d.protocol import ON_FEATURES, Prediction, protocol
from ssl3d.results.records import CurvePoint, ProtocolScore, predictions_frame
from ssl3d.run.features import Features, features
from ssl3d.run.work import Work
from ssl3d.tables.scoring import protocol_score


@dataclass
class Judgement:
    """How an encoder did.

    Attributes:
        scores: by protocol, with all training labels.
        curve: with parts of them.
        predictions: of every protocol and condition.
        training: out-of-fold predictions of the training volumes, of the protocols that have them; None if none has.
        features: file of the features, None where no protocol needed any.
    """

    scores: dict[str, ProtocolScore] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    training: pd.DataFrame | None = None
    features: str | None = None


def judge(work: Work, encoder: Backbone) -> Judgement:
    """Run every protocol of the recipe under every condition; features are extracted once, or found.

    The encoder is that of the cell's ``encoder.safetensors``, on the device.

    Raises:
        RecipeError, DataError: the labels do not bear the conditions.
    """
    return _Judge(work, encoder).judge()


class _Judge:
    """A judgement in hand."""

    def __init__(self, work: Work, encoder: Backbone) -> None:
        self.work, self.encoder, self.judged = work, encoder, work.judged
        self.everything = np.arange(len(self.judged.train))
        self.subsets = conditions(
            self.judged.train_labels, work.recipe.evaluate, seed=work.recipe.seed, classes=self.judged.classes
        )
        self.training: list[pd.DataFrame] = []
        self.done = 0  # protocols

    @cached_property
    def features(self) -> Features:
        return features(self.work, self.encoder)

    def judge(self) -> Judgement:
        protocols, progress = self.work.recipe.evaluate.protocols, self.work.progress
        if ON_FEATURES.intersection(protocols):
            _ = self.features  # their progress is told before that of the protocols
        progress.phase(self.work.cell.name, "judging", len(protocols) * (1 + len(self.subsets)), "protocols")
        found, tables, points = Judgement(), [], []
        for done, (subset, name) in enumerate([(s, p) for s in (None, *self.subsets) for p in protocols], 1):
            self.done = done - 1
            score, table = self._scored(name, subset)
            tables.append(table)
            if subset is None:
                found.scores[name] = score
            else:
                points.append(self._point(subset, name, score))
            what = f"{name} AUC" if subset is None else f"{name} AUC at {subset.condition}"
            progress.advance(done, {what: score.metrics["auc"] or float("nan")})
        found.curve, found.predictions = tuple(points), pd.concat(tables, ignore_index=True)
        found.training = pd.concat(self.training, ignore_index=True) if self.training else None
        found.features = self.features.file if ON_FEATURES.intersection(protocols) else None
        return found

    def _scored(self, name: str, subset: Subset | None) -> tuple[ProtocolScore, pd.DataFrame]:
        started = time.monotonic()
        prediction = self._predicted(name, self.everything if subset is None else subset.indices)
        score = protocol_score(prediction, self.judged.test_labels, time.monotonic() - started)
        if subset is None and prediction.out_of_fold is not None:
            ids = self.work.store.ids(self.judged.train)
            self.training.append(predictions_frame(ids, self.judged.train_labels, {name: prediction.out_of_fold}))
        ids, condition = self.work.store.ids(self.judged.test), "" if subset is None else subset.condition
        return score, predictions_frame(ids, self.judged.test_labels, {name: prediction.probabilities}, condition)

    def _predicted(self, name: str, part: np.ndarray) -> Prediction:
        """What a protocol says of the test volumes, from a part (n,) of the training labels."""
        recipe, judged = self.work.recipe, self.judged
        train, labels = [judged.train[i] for i in part], judged.train_labels[part]
        if name in ON_FEATURES:
            x = self.features.x
            folds, seed = recipe.evaluate.inner_folds, recipe.seed
            return protocol(name)(x[train], labels, x[judged.test], folds=folds, seed=seed, classes=judged.classes)
        return protocol(name)(
            self.encoder,
            self.work.store,
            train,
            judged.test,
            labels,
            recipe=recipe.evaluate,
            augment=Augment(light(recipe.augment), recipe.view_size),
            device=self.work.device,
            seed=recipe.seed,
            classes=judged.classes,
            progress=self._tell_epoch,
        )

    def _tell_epoch(self, epoch: int, of: int) -> None:
        self.work.progress.advance(self.done, {"epoch": epoch, "epochs": of})

    def _point(self, subset: Subset, name: str, score: ProtocolScore) -> CurvePoint:
        labels = self.judged.train_labels[subset.indices]
        return CurvePoint(
            condition=subset.condition,
            protocol=name,
            labels=subset.labels,
            positives=subset.positives,
            draw=subset.draw,
            n_train=len(labels),
            n_positive=int((labels == 1).sum()) if self.judged.classes == 2 else None,
            score=score,
        )
