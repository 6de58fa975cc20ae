"""Merging the records of several planes into one, for derived evaluations. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssl3d.recipe import digest
from ssl3d.results.model import (
    DataRecord,
    EncoderRecord,
    EvaluationRecord,
    PlannedEncoder,
    PlannedEvaluation,
    Score,
)
from ssl3d.tables.comparable import version_note
from ssl3d.tables.entry import PLUS

_EXACTNESS = ("exact", "exact up to random layers", "not exact", "plain", "not trained")  # the weakest one is reported


def merge_evaluations(
    records: Sequence[EvaluationRecord], planned: PlannedEvaluation, score: Score, patients: Sequence[str]
) -> EvaluationRecord:
    """Return the record of an evaluation derived from those of several planes.

    Args:
        records: one per plane.
        planned: its key, name, recipe and encoder.
        score: score on the test cases that the planes share.
        patients: patient of each of these cases.
    """
    return records[0].model_copy(
        update={
            **{"key": planned.key, "name": planned.name, "recipe": planned.recipe, "encoder": planned.encoder},
            "data": _data([record.data for record in records], str(planned.recipe.plane), patients),
            "readout": PLUS.join(dict.fromkeys(record.readout for record in records)),
            "score": score,
            "notes": _notes(records),
            "files": {},
        }
    )


def merge_encoders(records: Sequence[EncoderRecord], planned: PlannedEncoder) -> EncoderRecord:
    """Return one record for the encoders of several planes.

    Args:
        records: one per plane; an encoder shared by several planes counts once.
        planned: its key, name and recipe.
    """
    first, distinct = records[0], list({record.key: record for record in records}.values())
    flags = [record.collapse.collapsed for record in distinct if record.collapse.collapsed is not None]
    errors = [record.gradient_error for record in distinct if record.gradient_error is not None]
    corpora = list({part.corpus.name: part.corpus for part in distinct if part.corpus}.values())
    corpus = first.corpus and first.corpus.model_copy(
        update={
            "name": PLUS.join(part.name for part in corpora),
            "volumes": sum(part.volumes for part in corpora),
            "excluded": sum(part.excluded for part in corpora),
        }
    )
    return first.model_copy(
        update={
            **{"key": planned.key, "name": planned.name, "recipe": planned.recipe, "corpus": corpus, "files": {}},
            "exactness": max((record.exactness for record in distinct), key=_EXACTNESS.index),
            "gradient_error": max(errors, default=None),
            "departures": tuple(dict.fromkeys(text for record in distinct for text in record.departures)),
            "collapse": first.collapse.model_copy(update={"collapsed": any(flags) if flags else None}),
            "price": first.price.model_copy(update=_price(distinct)),
            "notes": _notes(distinct),
        }
    )


def _data(records: Sequence[DataRecord], plane: str, patients: Sequence[str]) -> DataRecord:
    return records[0].model_copy(
        update={
            "name": records[0].name.removesuffix(records[0].plane).strip(),
            "fingerprint": digest([record.fingerprint for record in records]),
            "plane": plane,
            "n_train": min(record.n_train for record in records),
            "n_test": len(patients),
            "n_test_patients": len(set(patients)),
        }
    )


def _price(records: Sequence[EncoderRecord]) -> Mapping[str, float | None]:
    """Return the total cost of all planes."""
    found: dict[str, float | None] = {"volumes_per_second": None}
    for name, put in (("pretrain_seconds", sum), ("flops", sum), ("peak_memory_bytes", max)):
        values = [getattr(record.price, name) for record in records]
        found[name] = None if None in values else put(values)
    rates = {record.rate.key: record.price for record in records if record.rate}  # planes may share a choice
    for name in ("tuning_seconds", "tuning_flops"):
        found[name] = sum(getattr(price, name) for price in rates.values()) if rates else None
    return found


def _notes(records: Sequence[EncoderRecord] | Sequence[EvaluationRecord]) -> tuple[str, ...]:
    notes = [*(note for record in records for note in record.notes), version_note(one.made_by for one in records)]
    return tuple(dict.fromkeys(note for note in notes if note))
