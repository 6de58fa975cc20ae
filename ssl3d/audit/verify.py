"""A run against its own files: every score from predictions.csv, every table from the results. Writes nothing.

Loads scikit-learn, not torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from ssl3d.audit.verdict import Difference, Verdict, differences
from ssl3d.audit.verify_tables import verify_tables
from ssl3d.errors import RunError, UserError
from ssl3d.protocol import Prediction
from ssl3d.recipe import Recipe
from ssl3d.results.folder import PLAN, cells_folder, read_plan, require_run
from ssl3d.results.older import LACKING
from ssl3d.results.records import (
    ENCODER,
    PREDICTIONS,
    RESULT,
    CellResult,
    ProtocolScore,
    check_content,
    check_predictions,
    file_hash,
    parse_predictions,
    parse_result,
    read_bytes,
    read_content,
    read_training,
)
from ssl3d.tables.scoring import protocol_score

COMPUTED = ("metrics", "reasons", "auc_interval")  # of a score: what predictions and threshold give


def verify(folder: Path) -> list[Verdict]:
    """Check a run, or one cell of it.

    Args:
        folder: of a run, or of a cell.

    Raises:
        RunError: it is neither.
    """
    folder = folder.resolve()
    run = folder.parent.parent  # of a cell; a folder directly below / has no parents[1]
    if (folder / RESULT).is_file() or (folder.parent == cells_folder(run) and (run / PLAN).is_file()):
        return [_Cell(folder, _planned(run)).verdict()]
    require_run(folder)
    planned = _planned(folder)
    there = {path.name for path in cells_folder(folder).glob("*") if path.is_dir()}
    cells = [_Cell(cells_folder(folder) / name, planned).verdict() for name in sorted({*planned, *there})]
    return cells + verify_tables(folder, all(cell.sound for cell in cells))


def _planned(run: Path) -> Mapping[str, Any]:
    """Recipes by the name of the cell, as plan.json holds them; none where there is no plan."""
    plan = read_plan(run)
    return {} if plan is None else plan["cells"]


class _Cell:
    """A cell that is checked, and what was found so far."""

    def __init__(self, folder: Path, planned: Mapping[str, Any]) -> None:
        self.folder, self.planned = folder, planned
        self.faults: list[str] = []
        self.differences: list[Difference] = []
        self.notes: list[str] = []

    def verdict(self) -> Verdict:
        said = "same"
        if not (self.folder / RESULT).is_file():
            return Verdict(self.folder.name, "not finished" if self.folder.is_dir() else "not started")
        try:
            said = self._checked()
        except UserError as error:
            self.faults.append(str(error))
        return Verdict(self.folder.name, said, tuple(self.faults), tuple(self.differences), tuple(self.notes))

    def _checked(self) -> str:
        """Check everything, and return what is said of a cell that is sound."""
        content = read_content(self.folder)
        self._collect(check_content, self.folder, content)
        result = parse_result(self.folder, content)
        if content["schema_version"] in LACKING:
            self.notes.append(LACKING[content["schema_version"]])
        self._check_names(result, content["recipe"])
        self._check_encoder(result, content)
        if result.status == "failed":
            return f"failed: {result.reason}"
        data = read_bytes(self.folder / PREDICTIONS)
        self._collect(check_predictions, self.folder, content, data)
        self._collect(read_training, self.folder)
        self._check_scores(result, parse_predictions(self.folder, data))
        return "same"

    def _collect(self, check: Any, *arguments: Any) -> None:
        try:
            check(*arguments)
        except RunError as error:
            self.faults.append(str(error))

    def _differ(self, file: str, field: str, recorded: Any, recomputed: Any) -> None:
        self.differences += differences(file, field, recorded, recomputed)

    def _check_names(self, result: CellResult, recipe: Mapping[str, Any]) -> None:
        """The cell's name, its folder's, and the hash in them are those of the recipe, as it was written."""
        self._differ(RESULT, "cell", result.cell, self.folder.name)
        found = hashlib.sha256(canonical(recipe).encode()).hexdigest()[:10]
        ending = f"s{result.recipe.seed}-{found}"
        recorded = "-".join(result.cell.split("-")[-2:])
        self._differ(RESULT, "seed and hash of the recipe", recorded, ending)
        if result.cell in self.planned:
            self._differ(PLAN, f"cells.{result.cell}", self.planned[result.cell], recipe)

    def _check_encoder(self, result: CellResult, content: Mapping[str, Any]) -> None:
        """The encoder's bytes are those that were recorded, and it was made from this recipe."""
        path = self.folder / ENCODER
        if not path.is_file():
            if result.status == "done":
                self.notes.append(f"{ENCODER} is not there: nothing of it is checked")
            return
        if content.get("encoder_sha256") is not None:
            self._differ(ENCODER, "its hash", content["encoder_sha256"], file_hash(path))
        try:
            with safe_open(path, framework="numpy") as file:
                made_from = (file.metadata() or {}).get("recipe", "")
        except (SafetensorError, OSError) as error:
            self.faults.append(f"{path} is damaged ({str(error).splitlines()[0]}); run the cell again")
            return
        if made_from != canonical(content["recipe"]):
            self._differ(ENCODER, "hash of its pretraining", _pretraining(made_from), result.recipe.pretraining_hash())

    def _check_scores(self, result: CellResult, table: pd.DataFrame) -> None:
        """Every score is what the predictions give, and every prediction is scored."""
        rows = {(str(p), str(c)): part for (p, c), part in table.groupby(["protocol", "condition"], sort=False)}
        for field, key, recorded in _scores(result):
            if key not in rows:
                self.faults.append(f"{self.folder / PREDICTIONS} has no row for {' at '.join(filter(None, key))}")
                continue
            self._check_score(result, field, recorded, rows.pop(key))
        for key in rows:
            self.faults.append(f"{self.folder / RESULT} has no score for {' at '.join(filter(None, key))}")

    def _check_score(self, result: CellResult, field: str, recorded: ProtocolScore, rows: pd.DataFrame) -> None:
        names = [name for name in rows if str(name).startswith("p_")]
        p = rows[names].dropna(axis="columns", how="all").to_numpy(float)  # (N, K)
        if result.data is not None:
            self._differ(RESULT, "data.n_test", result.data.n_test, len(rows))
            self._differ(RESULT, "data.classes", result.data.classes, p.shape[1])
        if rows["case"].duplicated().any():
            self.faults.append(f"{self.folder / PREDICTIONS} holds a case twice for {field}")
        prediction = Prediction(p, recorded.threshold, recorded.chosen)
        try:
            found = protocol_score(prediction, rows["label"].to_numpy())
        except (UserError, ValueError) as error:
            self.faults.append(f"{self.folder / PREDICTIONS} cannot be scored for {field}: {error}")
            return
        for name in COMPUTED:
            self._differ(RESULT, f"{field}.{name}", _plain(recorded)[name], _plain(found)[name])


def _scores(result: CellResult) -> Iterator[tuple[str, tuple[str, str], ProtocolScore]]:
    """Every score of a result: its field, its protocol and condition, and itself."""
    for protocol, score in result.scores.items():
        yield f"scores.{protocol}", (protocol, ""), score
    for index, point in enumerate(result.curve):
        yield f"curve.{index} ({point.protocol} at {point.condition})", (point.protocol, point.condition), point.score


def _plain(score: ProtocolScore) -> dict[str, Any]:
    return score.model_dump(mode="json")


def canonical(recipe: Mapping[str, Any]) -> str:
    """Return a recipe as :meth:`ssl3d.recipe.Recipe.canonical` wrote it, in the version it was written in."""
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"))


def _pretraining(text: str) -> str:
    """The hash of what decides an encoder, from the recipe that is written in its file."""
    try:
        return Recipe.model_validate_json(text).pretraining_hash()
    except ValidationError:
        return "no recipe of this version"
