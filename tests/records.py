"""Records made by hand, with simulated predictions, for tests of results, tables, report and audit. No test is in here.

>>> results(evaluated("byol", strength=2.0), evaluated("random", strength=0.0, noise=1), failed("moco"))
>>> write_run(folder, results(...))    # the same, as the files of a run folder
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl3d.protocol import Prediction
from ssl3d.recipe import AugmentRecipe, CorpusPart, EncoderRecipe, EvaluationRecipe, PretrainRecipe
from ssl3d.results.folder import FAILURE, PLAN, PREDICTIONS, SHORT, TRAINING, WEIGHTS, RunFolder
from ssl3d.results.keys import NUMERICS, encoder_key, evaluation_key
from ssl3d.results.model import (
    CorpusRecord,
    DataRecord,
    EncoderRecord,
    EvaluationRecord,
    FailureRecord,
    PlannedEncoder,
    PlannedEvaluation,
    PlanRecord,
    Price,
    Primary,
    Provenance,
)
from ssl3d.results.predictions import predictions_frame, to_csv
from ssl3d.results.records import sha256, write_model, write_record
from ssl3d.results.results import Evaluated, Failed, Results
from ssl3d.results.scoring import score
from ssl3d.task import Kind, Task

LABELS = np.array([0, 1] * 60)
N_TRAIN = 300
FINISHED = "2026-01-01T00:00:00+00:00"
VERSIONS = {"python": "3.11.0", "torch": "2.8.0", "scikit-learn": "1.7.0", "numpy": "2.3.0"}
Fields = dict[str, Any]


def task(name: str = "acl", K: int = 2, kind: Kind | None = None) -> Task:
    """Return a task of K classes."""
    return Task(name=name, kind=kind or ("binary" if K == 2 else "multiclass"), classes=tuple(map(str, range(K))))


def encoder(
    method: str = "byol",
    seed: int = 0,
    *,
    plane: str | None = "sagittal",
    recipe: Fields | None = None,
    sources: Fields | None = None,
    versions: Fields | None = None,
    **fields: Any,
) -> EncoderRecord:
    """Return the record of an encoder that was pretrained on ``plane`` of the demonstration data.

    Args:
        method: its name.
        seed: of the recipe.
        plane: of its corpus.
        recipe: further fields of the recipe; ``pretrain=None`` and ``corpus=()`` for one that was not trained.
        sources: hashes of the plugins' sources by role, in place of the usual.
        versions: of packages, in place of the usual.
        fields: further ones of the record.
    """
    corpus = CorpusPart(data="demo", plane=plane)
    planned: Fields = {"method": method, "seed": seed, "corpus": (corpus,), "augment": AugmentRecipe()}
    made = EncoderRecipe(**{**planned, "pretrain": PretrainRecipe(), **(recipe or {})})
    hashes = {"method": sha256(method.encode())[:8], "backbone": "1f", **(sources or {})}
    trained = made.pretrain is not None
    name = f"demo {plane}" if plane else "demo"
    values = {
        "recipe": made,
        "made_by": _made_by(hashes, versions),
        "corpus": CorpusRecord(name=name, synthetic=True, fingerprint="c0", volumes=N_TRAIN) if trained else None,
        "exactness": "exact" if trained else "not trained",
        "gradient_error": 1.5e-7 if trained else None,
        "price": Price(pretrain_seconds=10.0 + seed, volumes_per_second=99.5, device="cpu"),
        **fields,
    }
    corpus_hash = values["corpus"].fingerprint + str(plane).encode().hex() if values["corpus"] else None
    key = encoder_key(made, corpus=corpus_hash, sources=hashes, weights=values.get("weights"))
    return EncoderRecord(key=key, name=f"{_stem(made)}-{key[:SHORT]}", **values)


def evaluated(
    method: str = "byol",
    seed: int = 0,
    strength: float = 1.0,
    *,
    protocol: str = "linear",
    labels: np.ndarray = LABELS,
    K: int = 2,
    noise: int = 0,
    order: np.ndarray | None = None,
    ids: list[str] | None = None,
    patients: list[str] | None = None,
    target: Task | str = "acl",
    plane: str | None = "sagittal",
    recipe: Fields | None = None,
    data: Fields | None = None,
    of: EncoderRecord | None = None,
    training: bool = False,
    encoder_recipe: Fields | None = None,
    encoder_fields: Fields | None = None,
    sources: Fields | None = None,
    versions: Fields | None = None,
    **fields: Any,
) -> Evaluated:
    """Return a complete evaluation: the test cases' scores are ``strength`` times the label plus noise.

    ``labels`` (N,), ``ids`` and ``patients`` are those of the test cases, and ``order`` that of their rows in the file;
    ``noise`` is a seed, equal for methods whose predictions are correlated. ``seed`` is of the encoder and of the
    evaluation, ``plane`` of the evaluation and of the encoder's corpus; ``target`` is a task or its name. With
    ``training`` there are out-of-fold predictions, too. ``of`` is the encoder; else :func:`encoder` makes one, with
    ``encoder_recipe`` and further ``encoder_fields``. ``recipe``, ``data`` and ``fields`` are further fields of the
    recipe, of the data record and of the record; ``sources`` and ``versions`` stand in for the usual ones of the
    evaluation.
    """
    of = of or encoder(method, seed, plane=plane, recipe=encoder_recipe, **(encoder_fields or {}))
    predicted = target if isinstance(target, Task) else task(target, K)
    named = {"plane": plane, "task": predicted.name, "protocol": protocol, "seed": seed}
    made = EvaluationRecipe(**named | (recipe or {}))
    ids = ids or [f"{i:04d}" for i in range(len(labels))]
    patients = patients or ids
    order = np.arange(len(labels)) if order is None else order
    p = simulated(labels, K, strength, noise, seed)
    found = {
        "data": _data(made, predicted, len(labels), len(set(patients)), data or {}),
        "score": score(Prediction(p, 0.5 if K == 2 else None, {"C": 1.0}), labels, predicted, np.array(patients), 1.5),
        "made_by": _made_by({"protocol": sha256(protocol.encode())[:8], **(sources or {})}, versions),
        **fields,
    }
    return Evaluated(
        _evaluation_record(of, made, found),
        of,
        predictions_frame([ids[i] for i in order], [patients[i] for i in order], labels[order], p[order], predicted),
        _training(predicted, K, strength, noise, seed) if training else None,
    )


def failed(
    method: str = "moco",
    seed: int = 0,
    reason: str = "out of memory",
    *,
    protocol: str = "linear",
    target: str = "acl",
    plane: str | None = "sagittal",
    recipe: Fields | None = None,
    encoder_recipe: Fields | None = None,
) -> Failed:
    """Return an evaluation that was planned and could not be made."""
    of = encoder(method, seed, plane=plane, recipe=encoder_recipe)
    named = {"plane": plane, "task": target, "protocol": protocol, "seed": seed}
    made = EvaluationRecipe(**named | (recipe or {}))
    key = evaluation_key(made, encoder=of.key, data="f00d", sources={})
    planned = PlannedEvaluation(key=key, name=_evaluation_name(of.recipe, made, key), recipe=made, encoder=of.key)
    return Failed(planned, PlannedEncoder(key=of.key, name=of.name, recipe=of.recipe), reason)


def with_prediction(one: Evaluated, task: Task, targets: np.ndarray, p: np.ndarray) -> Evaluated:
    """Return an evaluation with other predictions, (N, K), of another task's targets, (N,) or (N, L)."""
    record = one.record.model_copy(
        update={
            "recipe": one.record.recipe.model_copy(update={"task": task.name}),
            "data": one.record.data.model_copy(update={"task": task}),
            "score": score(Prediction(p, None), targets, task),
        }
    )
    ids = list(one.predictions["case"])
    return Evaluated(record, one.encoder, predictions_frame(ids, ids, targets, p, task))


def results(*found: Evaluated | Failed, pending: Iterable[PlannedEvaluation] = ()) -> Results:
    """Return evaluations as what a run has come to."""
    whole = tuple(one for one in found if isinstance(one, Evaluated))
    broken = tuple(one for one in found if isinstance(one, Failed))
    primary = primary_of([one.record.recipe for one in whole] or [one.evaluation.recipe for one in broken])
    return Results(whole, broken, tuple(pending), {one.encoder.key: one.encoder for one in whole}, primary)


def primary_of(recipes: list[EvaluationRecipe]) -> Primary | None:
    """Return the primary comparison of a request for these evaluations."""
    first = [recipe for recipe in recipes if recipe.data == recipes[0].data]
    if not first:
        return None
    tasks, planes = (dict.fromkeys(values) for values in zip(*((one.task, one.plane) for one in first), strict=True))
    given = tuple(plane for plane in planes if plane)
    return Primary(data=first[0].data, protocol=first[0].protocol, tasks=tuple(tasks), planes=given)


def write_run(folder: Path, of: Results, base: Fields | None = None) -> Path:
    """Write results as the files of a run folder, and return it. Encoders get a weights file without weights."""
    run = RunFolder(folder)
    encoders = {}
    for made in of.encoders.values():
        write_record(run.folder_of(EncoderRecord, made.name), made, {WEIGHTS: b"no weights"})
        encoders[made.key] = PlannedEncoder(key=made.key, name=made.name, recipe=made.recipe)
    evaluations = {}
    for one in of.evaluated:
        record = one.record
        files: dict[str, str | bytes] = {PREDICTIONS: to_csv(one.predictions)}
        files |= {} if one.training is None else {TRAINING: to_csv(one.training)}
        write_record(run.folder_of(EvaluationRecord, record.name), record, files)
        evaluations[record.key] = PlannedEvaluation(
            key=record.key, name=record.name, recipe=record.recipe, encoder=record.encoder
        )
    for broken in of.failed:
        planned = broken.evaluation
        failure = FailureRecord(
            kind="evaluation", key=planned.key, name=planned.name, reason=broken.reason, finished_at=FINISHED
        )
        write_model(run.folder_of(EvaluationRecord, planned.name) / FAILURE, failure)
        encoders.setdefault(broken.encoder.key, broken.encoder)
        evaluations[planned.key] = planned
    evaluations |= {planned.key: planned for planned in of.pending}
    write_model(
        folder / PLAN, PlanRecord(base=base or {}, encoders=encoders, evaluations=evaluations, primary=of.primary)
    )
    return folder


def by_column(table: pd.DataFrame, column: str = "method") -> dict[str, dict[str, Any]]:
    """Return the rows of a table as plain values, by the text in a column of theirs."""
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    return {str(row[column]): row for row in rows}


def aucs(found: Iterable[Evaluated]) -> list[float]:
    """Return the AUC in the record of each evaluation."""
    return [float(auc) for one in found if (auc := one.record.score.metrics["auc"]) is not None]


def simulated(labels: np.ndarray, K: int, strength: float, *key: int) -> np.ndarray:
    """Return probabilities (N, K): the softmax of ``strength`` at the true class plus normal noise of a keyed seed."""
    logits = np.random.default_rng(key).standard_normal((len(labels), K)) + strength * np.eye(K)[labels]
    e = np.exp(logits)
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _evaluation_record(of: EncoderRecord, made: EvaluationRecipe, found: Fields) -> EvaluationRecord:
    binary = found["data"].task.kind == "binary"
    share = made.labels * (made.positives or 0.5)
    values = {
        "recipe": made,
        "encoder": of.key,
        "encoder_sha256": "e0",
        "n_labels": round(N_TRAIN * made.labels),
        "n_positive": round(N_TRAIN * share) if binary else None,
        **found,
    }
    key = evaluation_key(made, encoder=of.key, data=values["data"].fingerprint, sources=values["made_by"].sources)
    return EvaluationRecord(key=key, name=_evaluation_name(of.recipe, made, key), **values)


def _training(predicted: Task, K: int, strength: float, *key: int) -> pd.DataFrame:
    y = (np.arange(N_TRAIN) % 3 == 0).astype(int) if K == 2 else np.arange(N_TRAIN) % K
    ids = [f"t{i:03d}" for i in range(N_TRAIN)]
    return predictions_frame(ids, ids, y, simulated(y, K, strength, *key, 99), predicted)


def _data(made: EvaluationRecipe, predicted: Task, n_test: int, n_patients: int, data: Fields) -> DataRecord:
    name = f"{made.data} {made.plane}" if made.plane else made.data
    values = {"name": name, "synthetic": True, "fingerprint": "f00d", "plane": made.plane or "", "n_train": N_TRAIN}
    return DataRecord(**values | {"task": predicted, "n_test": n_test, "n_test_patients": n_patients} | data)


def _made_by(sources: Fields, versions: Fields | None) -> Provenance:
    return Provenance(
        numerics=NUMERICS, sources=sources, versions={**VERSIONS, **(versions or {})}, finished_at=FINISHED
    )


def _stem(made: EncoderRecipe) -> str:
    return f"{_plain(made.method)}-{_plain(made.backbone)}-s{made.seed}"


def _evaluation_name(of: EncoderRecipe, made: EvaluationRecipe, key: str) -> str:
    return f"{_plain(made.data)}-{_plain(made.task)}/{_stem(of)}-{_plain(made.protocol)}-{key[:SHORT]}"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_." else "_" for letter in name)
