"""Comparison of two artifacts with one recipe: differences of numbers, and possible explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssl3d.errors import RunError
from ssl3d.results.folder import PREDICTIONS, TRAINING, WEIGHTS
from ssl3d.results.model import ArtifactRecord, EncoderRecord, EvaluationRecord
from ssl3d.results.predictions import TEXTS, parse_predictions
from ssl3d.results.records import read_file

Found = tuple[Path, EncoderRecord]  # folder and record
FoundEvaluation = tuple[Path, EvaluationRecord]


@dataclass(frozen=True)
class Compared:
    """The comparison of one part of two artifacts.

    Attributes:
        part: "encoder", "predictions", "training predictions" or "scores".
        same: whether they are bitwise equal.
        largest: largest difference of two numbers; None if they cannot be compared.
        where: number with the largest difference, or why they cannot be compared.
    """

    part: str
    same: bool
    largest: float | None = None
    where: str = ""

    def __str__(self) -> str:
        if self.same:
            return f"{self.part}: {self.where or 'same'}"
        how = self.where if self.largest is None else f"largest difference {self.largest:.3g}, {self.where}"
        return f"{self.part}: different ({how})"


def compare_encoders(recorded: Found, again: Found) -> Compared:
    """Compare the weights of an encoder with those of its reproduction.

    Raises:
        RunError: a weights file is damaged.
    """
    if not (recorded[0] / WEIGHTS).is_file():
        return Compared("encoder", same=True, where=f"not compared, {recorded[0] / WEIGHTS} is not there")
    return _compare("encoder", _tensors(*recorded), _tensors(*again))


def compare_evaluations(recorded: FoundEvaluation, again: FoundEvaluation) -> Iterator[Compared]:
    """Compare predictions and scores of an evaluation with those of its reproduction.

    Raises:
        RunError: a file of predictions is damaged.
    """
    for part, name in (("predictions", PREDICTIONS), ("training predictions", TRAINING)):
        if name in recorded[1].files or name in again[1].files:
            yield _compare(part, _rows(*recorded, name), _rows(*again, name))
    yield _compare("scores", _numbers(recorded[1]), _numbers(again[1]))


def circumstances(recorded: ArtifactRecord, again: ArtifactRecord) -> Iterator[str]:
    """Yield a sentence for each circumstance that differs between two artifacts."""
    then, now = recorded.made_by, again.made_by
    for name in dict.fromkeys([*then.versions, *now.versions]):
        yield from _change(name, then.versions.get(name, "absent"), now.versions.get(name, "absent"))
    for role in dict.fromkeys([*then.sources, *now.sources]):
        was, is_now = (made.sources.get(role, "absent")[:10] for made in (then, now))
        yield from _change(f"hash of the {role}'s source", was, is_now)
    yield from _change("numerics version of the core", then.numerics, now.numerics)
    if isinstance(recorded, EncoderRecord) and isinstance(again, EncoderRecord):
        yield from _training_changes(recorded, again)
    if isinstance(recorded, EvaluationRecord) and isinstance(again, EvaluationRecord):
        was, is_now = (one.data.fingerprint[:10] for one in (recorded, again))
        yield from _change("fingerprint of the evaluated cases", was, is_now)


def _training_changes(recorded: EncoderRecord, again: EncoderRecord) -> Iterator[str]:
    if again.price.device is not None:
        yield from _change("hardware", recorded.price.device, again.price.device)
    was, is_now = (one.corpus.fingerprint[:10] if one.corpus else None for one in (recorded, again))
    yield from _change("fingerprint of the corpus", was, is_now)
    if recorded.engine and again.engine:
        before, after = (engine.model_dump(exclude={"trials"}) for engine in (recorded.engine, again.engine))
        for name, value in before.items():
            yield from _change(name, value, after[name])


def _change(what: str, was: object, is_now: object) -> Iterator[str]:
    if was != is_now:
        yield f"{what} was {was} and is {is_now}"


def _tensors(folder: Path, record: EncoderRecord) -> dict[str, np.ndarray]:
    """Return weights and buffers by name, as float64, which represents all of them exactly."""
    read_file(folder, record, WEIGHTS)  # verifies the hash
    try:
        return {name: value.double().numpy() for name, value in load_file(folder / WEIGHTS).items()}
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{folder / WEIGHTS} is damaged ({reason}); nothing can be compared with it") from None


def _rows(folder: Path, record: EvaluationRecord, name: str) -> dict[str, np.ndarray]:
    """Return targets and predictions by case; empty if the file is missing."""
    if name not in record.files:
        return {}
    table: pd.DataFrame = parse_predictions(read_file(folder, record, name), str(folder / name))
    values = table.drop(columns=list(TEXTS)).to_numpy(np.float64)
    return {f"case {case}": row for case, row in zip(table["case"], values, strict=True)}


def _numbers(record: EvaluationRecord) -> dict[str, np.ndarray]:
    """Return all numbers of a score; NaN if undefined."""
    score = record.score
    low, high = score.interval or (None, None)
    found = {**score.metrics, "interval low": low, "interval high": high, "threshold": score.threshold}
    return {name: np.array(value, np.float64) for name, value in found.items()}


def _compare(part: str, recorded: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray]) -> Compared:
    """Compare arrays by name, bitwise."""
    odd = sorted(set(recorded) ^ set(again))
    if odd:
        return Compared(part, same=False, where=f"{odd[0]} is on one side only")
    largest, where, same = 0.0, "", True
    for name, was in recorded.items():
        now = again[name]
        if was.shape != now.shape or (np.isnan(was) != np.isnan(now)).any():
            return Compared(part, same=False, where=f"{name} has another shape, or is undefined on one side")
        same = same and np.array_equal(was, now, equal_nan=True)
        difference = float(np.nanmax(np.abs(was - now), initial=0.0))
        if difference > largest:
            largest, where = difference, name
    return Compared(part, same) if same else Compared(part, same, largest, where)
