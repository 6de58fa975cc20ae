"""Two cells of one recipe: what came out the same, by how much the rest differs, and what may explain that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssl3d.errors import RunError
from ssl3d.results.records import ENCODER, CellResult, ProtocolScore

Left = tuple[Path, CellResult, pd.DataFrame | None]  # folder, result and predictions of a cell
ROW = ["protocol", "condition", "case"]


@dataclass(frozen=True)
class Compared:
    """One part of a cell against the same part of another.

    Attributes:
        part: "encoder", "predictions" or "scores".
        same: whether they are equal to the bit.
        largest: largest difference of two numbers; None where they cannot be set against each other.
        where: the number that differs most, or why they cannot be compared.
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


def compared(recorded: Left, again: Left) -> tuple[Compared, ...]:
    """Return encoder, predictions and scores of a cell against those of the same cell run again.

    Raises:
        RunError: an encoder is damaged.
    """
    return (
        _encoders(recorded[0] / ENCODER, again[0] / ENCODER),
        _predictions(recorded[2], again[2]),
        _scores(recorded[1], again[1]),
    )


def circumstances(recorded: CellResult, again: CellResult) -> Iterator[str]:
    """Yield a sentence for each circumstance that is not what it was."""
    for name in dict.fromkeys([*recorded.versions, *again.versions]):
        was, now = recorded.versions.get(name, "not there"), again.versions.get(name, "not there")
        if was != now:
            yield f"{name} was {was} and is {now}"
    if recorded.price.device != again.price.device and again.price.device is not None:
        yield f"hardware was {recorded.price.device} and is {again.price.device}"
    if recorded.data and again.data and recorded.data.fingerprint != again.data.fingerprint:
        was, now = recorded.data.fingerprint[:10], again.data.fingerprint[:10]
        yield f"the data are others: their fingerprint was {was} and is {now}"
    if recorded.engine and again.engine:
        before, after = (engine.model_dump(exclude={"trials"}) for engine in (recorded.engine, again.engine))
        yield from (f"{name} was {before[name]} and is {after[name]}" for name in before if before[name] != after[name])


def _encoders(recorded: Path, again: Path) -> Compared:
    if not recorded.is_file():
        return Compared("encoder", same=True, where=f"not compared, {recorded} is not there")
    return _numbers("encoder", _tensors(recorded), _tensors(again))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """Weights and buffers by name, as float64, which holds each of them exactly."""
    try:
        return {name: value.double().numpy() for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged ({str(error).splitlines()[0]}); nothing can be compared with it") from None


def _predictions(recorded: pd.DataFrame | None, again: pd.DataFrame | None) -> Compared:
    if recorded is None or again is None:
        return Compared("predictions", same=False, where="there are none on one side")
    return _numbers("predictions", _by_row(recorded), _by_row(again))


def _by_row(table: pd.DataFrame) -> dict[str, np.ndarray]:
    values = table.drop(columns=ROW).to_numpy(float)  # label, p_0 .. p_{K-1}
    names = table[ROW].agg(" ".join, axis=1)
    return dict(zip(names, values, strict=True))


def _scores(recorded: CellResult, again: CellResult) -> Compared:
    return _numbers("scores", dict(_figures(recorded)), dict(_figures(again)))


def _figures(cell: CellResult) -> Iterator[tuple[str, np.ndarray]]:
    scores = [*cell.scores.items(), *((f"{point.protocol} at {point.condition}", point.score) for point in cell.curve)]
    for name, score in scores:
        yield from ((f"{name} {what}", np.array(value, float)) for what, value in _values(score).items())


def _values(score: ProtocolScore) -> Mapping[str, Any]:
    """Every number of a score; NaN for what is undefined."""
    limits = score.auc_interval or (None, None)
    return {**score.metrics, "interval low": limits[0], "interval high": limits[1], "threshold": score.threshold}


def _numbers(part: str, recorded: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray]) -> Compared:
    """Compare arrays by name, to the bit."""
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
