"""The protocols of a cell's recipe, one after the other."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.evaluate.features import extract
from ssl3d.evaluate.finetune import light
from ssl3d.evaluate.protocol import ON_FEATURES, Prediction, protocol
from ssl3d.runs.results import ProtocolScore
from ssl3d.runs.scoring import protocol_score
from ssl3d.runs.work import Work


def judge(work: Work, encoder: Backbone) -> tuple[dict[str, Prediction], dict[str, ProtocolScore]]:
    """Run every protocol of the recipe; features are extracted once for those that need nothing else."""
    judged, settings = work.judged, work.recipe.evaluate
    work.progress.phase(work.cell.name, "judging", len(settings.protocols), "protocols")
    predictions: dict[str, Prediction] = {}
    scores: dict[str, ProtocolScore] = {}
    features = cache(lambda: _features(work, encoder))
    for done, name in enumerate(settings.protocols, 1):
        started = time.monotonic()
        if name in ON_FEATURES:
            train_x, test_x = features()
            predictions[name] = protocol(name)(
                train_x,
                judged.train_labels,
                test_x,
                folds=settings.inner_folds,
                seed=work.recipe.seed,
                classes=judged.classes,
            )
        else:
            predictions[name] = _finetune(work, encoder)
        scores[name] = protocol_score(predictions[name], judged.test_labels, time.monotonic() - started)
        work.progress.advance(done, {f"{name} AUC": scores[name].metrics["auc"] or float("nan")})
    return predictions, scores


def _features(work: Work, encoder: Backbone) -> tuple[np.ndarray, np.ndarray]:
    train, test = (
        extract(
            encoder,
            work.store,
            indices,
            size=work.recipe.view_size,
            batch_size=work.recipe.evaluate.batch_size,
            device=work.device,
        )
        for indices in (work.judged.train, work.judged.test)
    )
    return train, test


def _finetune(work: Work, encoder: Backbone) -> Prediction:
    return protocol("finetune")(
        encoder,
        work.store,
        work.judged.train,
        work.judged.test,
        work.judged.train_labels,
        recipe=work.recipe.evaluate,
        augment=Augment(light(work.recipe.augment), work.recipe.view_size),
        device=work.device,
        seed=work.recipe.seed,
        classes=work.judged.classes,
    )
