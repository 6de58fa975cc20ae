"""The evaluations: one row each, complete or failed, with all known values. Loads no torch."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from ssl3d.recipe import EncoderRecipe, EvaluationRecipe
from ssl3d.results.results import Evaluated, Failed, Results
from ssl3d.tables.columns import METRICS, Columns, ColumnType, joined, typed
from ssl3d.tables.entries import key_of

COLUMNS: Columns = {
    "evaluation": ColumnType("str", "name of the evaluation: its folder below evaluations/"),
    "key": ColumnType("str", "hash of what decides the evaluation"),
    "status": ColumnType("str", "done or failed"),
    "reason": ColumnType("str", "why it failed"),
    "method": ColumnType("str", "name of the method"),
    "backbone": ColumnType("str", "name of the backbone"),
    "seed": ColumnType("Int64", "seed of the encoder"),
    "encoder": ColumnType("str", "name of the encoder: its folder below encoders/"),
    "protocol": ColumnType("str", "how the encoder was evaluated: linear, knn, attentive, finetune, or another plugin"),
    "readout": ColumnType("str", "which features of the encoder were evaluated: last, multi, max, ..."),
    "data": ColumnType("str", "data set that it was evaluated on, with its variant"),
    "task": ColumnType("str", "target that is predicted"),
    "plane": ColumnType("str", "plane of the exam"),
    "folds": ColumnType("Int64", "outer folds; missing: the data set's own split"),
    "fold": ColumnType("Int64", "which of them is the test set"),
    "labels": ColumnType("float64", "share of the training labels that was used"),
    "positives": ColumnType("float64", "share of positives among them, where that was set"),
    "draw": ColumnType("Int64", "which draw of the labels"),
    "metric": ColumnType("str", "what ranks methods on this kind of task: auc, quadratic_kappa (ordinal) or mae"),
    "score": ColumnType("float64", "that metric on the test cases"),
    "ci_low": ColumnType("float64", "lower 95% limit of score, over patients"),
    "ci_high": ColumnType("float64", "upper 95% limit of score"),
    **{name: ColumnType("float64", meaning) for name, meaning in METRICS.items()},
    "by_label": ColumnType("str", "JSON: metrics of each label of a multi-label task"),
    "threshold": ColumnType("float64", "of the probability of class 1, chosen on training data"),
    "chosen": ColumnType("str", "JSON: what the protocol chose inside the training data"),
    "protocol_seconds": ColumnType("float64", "time of the protocol"),
    "labels_used": ColumnType("boolean", "whether the method saw labels of the training volumes in pretraining"),
    "exactness": ColumnType("str", "what accumulation did to the gradient, as measured before training"),
    "gradient_error": ColumnType("float64", "relative error of the accumulated gradient; missing if not split"),
    "collapsed": ColumnType("boolean", "whether the features have collapsed"),
    "feature_std": ColumnType("float64", "deviation of the normalised features, times sqrt(F); near 0: collapsed"),
    "rankme": ColumnType("float64", "effective rank of the features"),
    "pretrain_seconds": ColumnType("float64", "time of pretraining"),
    "volumes_per_second": ColumnType("float64", "speed of pretraining"),
    "peak_memory_bytes": ColumnType("Int64", "peak memory on the device"),
    "flops": ColumnType("float64", "floating-point operations of pretraining"),
    "lr": ColumnType("float64", "base learning rate of pretraining, the chosen one if tuned"),
    "tuning_seconds": ColumnType("float64", "time of choosing the learning rate, once for all seeds"),
    "tuning_flops": ColumnType("float64", "floating-point operations of its trials"),
    "device": ColumnType("str", "hardware"),
    "corpus": ColumnType("str", "what the encoder was pretrained on; missing if it was not trained"),
    "corpus_volumes": ColumnType("Int64", "volumes pretrained on"),
    "corpus_excluded": ColumnType("Int64", "volumes left out because their patient, or their bytes, are tested on"),
    "synthetic": ColumnType("boolean", "whether the data are generated"),
    "fingerprint": ColumnType("str", "hash of the data: bytes, targets, patients and splits"),
    "n_train": ColumnType("Int64", "training volumes with a target"),
    "n_labels": ColumnType("Int64", "training volumes whose target was used"),
    "n_positive": ColumnType("Int64", "positives among those"),
    "n_test": ColumnType("Int64", "test volumes with a target"),
    "n_test_patients": ColumnType("Int64", "number of patients that these are of"),
    "patients_known": ColumnType("boolean", "false: patients are unknown, and every volume is taken for one"),
    "kind": ColumnType("str", "of the task: binary, multiclass, multilabel, ordinal or regression"),
    "classes": ColumnType("Int64", "number of classes or labels; 0 for a regression"),
    "settings": ColumnType("str", "hash of everything that decides the numbers, code included, but seed and fold"),
    "numerics": ColumnType("Int64", "version of the core's arithmetic"),
    "sources": ColumnType("str", "JSON: hashes of the sources of the plugins, by role"),
    "versions": ColumnType("str", "JSON: versions of packages in the evaluation"),
    "departures": ColumnType("str", "what this implementation does differently from the paper"),
    "notes": ColumnType("str", "what was adjusted, and why a score is missing"),
    "finished_at": ColumnType("str", "time, ISO 8601 in UTC"),
}


def evaluations(results: Results) -> pd.DataFrame:
    """Return one row per evaluation, failed ones last; see :data:`COLUMNS`."""
    return typed([*map(_row, results.evaluated), *map(_failed_row, results.failed)], COLUMNS)


def _row(one: Evaluated) -> dict[str, Any]:
    record, encoder, score, data = one.record, one.encoder, one.record.score, one.record.data
    low, high = score.interval or (None, None)
    by_label = {name: value for name, value in score.metrics.items() if ":" in name}
    reasons = [f"no {name}: {reason}" for name, reason in score.reasons.items()]
    return {
        **{"evaluation": record.name, "key": record.key, "status": "done", "encoder": encoder.name},
        **_planned(encoder.recipe, record.recipe),
        **{"metric": score.metric, "score": score.metrics.get(score.metric), "ci_low": low, "ci_high": high},
        **{**score.metrics, "threshold": score.threshold},
        "by_label": _json(by_label) if by_label else None,
        "chosen": _json(score.chosen),
        "protocol_seconds": score.seconds,
        **encoder.model_dump(include={"labels_used", "exactness", "gradient_error"}),
        **encoder.collapse.model_dump(),
        **encoder.price.model_dump(),
        "lr": encoder.lr,
        **_corpus(one),
        **data.model_dump(include={"synthetic", "fingerprint", "n_train", "n_test", "n_test_patients"}),
        **{"patients_known": data.patients_known, "kind": data.task.kind, "classes": len(data.task.classes)},
        **record.model_dump(include={"n_labels", "n_positive", "readout"}),
        "settings": key_of(one).settings,
        "numerics": record.made_by.numerics,
        "sources": _json({**encoder.made_by.sources, **record.made_by.sources}),
        "versions": _json(record.made_by.versions),
        "departures": joined(encoder.departures),
        "notes": joined([*encoder.notes, *record.notes, *reasons]),
        "finished_at": record.made_by.finished_at,
    }


def _failed_row(one: Failed) -> dict[str, Any]:
    return {
        **{"evaluation": one.evaluation.name, "key": one.evaluation.key, "encoder": one.encoder.name},
        **{"status": "failed", "reason": one.reason},
        **_planned(one.encoder.recipe, one.evaluation.recipe),
    }


def _planned(encoder: EncoderRecipe, evaluation: EvaluationRecipe) -> dict[str, Any]:
    named = {"protocol", "data", "task", "plane", "folds", "labels", "positives"}
    return {
        **encoder.model_dump(include={"method", "backbone", "seed"}),
        **evaluation.model_dump(include=named),
        "fold": evaluation.fold if evaluation.folds else None,
        "draw": evaluation.draw if evaluation.condition else None,
    }


def _corpus(one: Evaluated) -> dict[str, Any]:
    corpus = one.encoder.corpus
    if corpus is None:
        return {}
    return {"corpus": corpus.name, "corpus_volumes": corpus.volumes, "corpus_excluded": corpus.excluded}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
