"""Cells put together: the seeds of one method x backbone x settings under one protocol, on the same test cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ssl3d.errors import RunError
from ssl3d.recipe import EvaluateRecipe, Recipe
from ssl3d.runs.results import CellResult

Results = Sequence[tuple[CellResult, pd.DataFrame | None]]
Key = tuple[str, str, str, str]  # protocol, method, backbone, settings


@dataclass(frozen=True)
class Entry:
    """What becomes one row of the leaderboard.

    Attributes:
        key: protocol, method, backbone, and the hash of everything else in the recipe but the seed.
        done: finished cells, by seed.
        failed: failed cells, by seed.
        labels: (N,) of the test cases; empty if no cell finished.
        probabilities: (S, N, K), one layer a finished seed; empty if none finished.
        notes: what happened on the way.
    """

    key: Key
    done: tuple[CellResult, ...]
    failed: tuple[CellResult, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    notes: tuple[str, ...] = field(default=())

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return self.key[0]

    @property
    def aucs(self) -> list[float]:
        """AUCs of the finished seeds; empty if there is none for one of them."""
        found = [cell.scores[self.protocol].metrics.get("auc") for cell in self.done]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else []

    @property
    def auc(self) -> float | None:
        """Mean AUC over the finished seeds."""
        return float(np.mean(self.aucs)) if self.aucs else None


def settings_hash(recipe: Recipe) -> str:
    """Return the hash of a recipe without its seed and its list of protocols: what seeds of one row share."""
    evaluate = recipe.evaluate.model_copy(update={"protocols": EvaluateRecipe().protocols})
    return recipe.model_copy(update={"seed": 0, "evaluate": evaluate}).hash()


def entries(results: Results) -> list[Entry]:
    """Group cells into entries, ordered by protocol, then by AUC, best first; those without an AUC come last.

    Test cases are matched by their id, whatever their order in the files.

    Raises:
        RunError: the cells are not comparable (see :func:`check_comparable`), or their test cases differ.
    """
    check_comparable([cell for cell, _ in results])
    groups: dict[Key, list[tuple[CellResult, pd.DataFrame | None]]] = {}
    for cell, predictions in results:
        for protocol in cell.recipe.evaluate.protocols:
            key = (protocol, cell.recipe.method, cell.recipe.backbone, settings_hash(cell.recipe))
            groups.setdefault(key, []).append((cell, predictions))
    cases = reference(results)
    found = [_entry(key, group, cases) for key, group in groups.items()]
    order: list[str] = list(
        dict.fromkeys(protocol for cell, _ in results for protocol in cell.recipe.evaluate.protocols)
    )
    return sorted(found, key=lambda e: (order.index(e.protocol), e.auc is None, -(e.auc or 0.0), e.key))


def check_comparable(cells: Iterable[CellResult]) -> None:
    """Check that finished cells were judged on the same data in the same way.

    Raises:
        RunError: they differ in data, fingerprint of the data, task, plane, number of training or test volumes, or in
            what a protocol they share was told; says in what, and between which cells.
    """
    done = [cell for cell in cells if cell.data is not None and cell.status == "done"]
    for what, get in _CONDITIONS:
        _check_same(done, what, get)
    tuned = [cell for cell in done if "finetune" in cell.scores]
    for name in ("finetune_epochs", "finetune_lr", "finetune_batch_size"):
        _check_same(tuned, f"evaluate.{name}", _evaluate(name))


def _check_same(cells: Sequence[CellResult], what: str, get: Callable[[CellResult], object]) -> None:
    for cell in cells[1:]:
        a, b = get(cells[0]), get(cell)
        if a != b:
            raise RunError(
                f"cells {cells[0].cell} and {cell.cell} cannot be compared: {what} differs ({a!r} and {b!r}); "
                "make a table of each"
            )


def _data(field: str) -> Callable[[CellResult], object]:
    return lambda cell: getattr(cell.data, field)


def _evaluate(field: str) -> Callable[[CellResult], object]:
    return lambda cell: getattr(cell.recipe.evaluate, field)


_CONDITIONS: tuple[tuple[str, Callable[[CellResult], object]], ...] = (
    ("data set", _data("name")),
    ("task", _data("task")),
    ("plane", _data("plane")),
    ("data fingerprint", _data("fingerprint")),
    ("split (training volumes)", _data("n_train")),
    ("split (test volumes)", _data("n_test")),
    ("number of classes", _data("classes")),
    ("evaluate.inner_folds", _evaluate("inner_folds")),
)


def reference(results: Results) -> pd.DataFrame:
    """Return test cases and labels of the first finished cell, by case id."""
    for cell, predictions in results:
        if cell.status == "done":
            return _by_case(cell, predictions, next(iter(cell.scores)), "")[["label"]].sort_index()
    return pd.DataFrame({"label": np.zeros(0, np.int64)})


def _by_case(cell: CellResult, predictions: pd.DataFrame | None, protocol: str, condition: str) -> pd.DataFrame:
    what = f"{protocol} at {condition}" if condition else protocol
    if predictions is None:
        raise RunError(f"cell {cell.cell} has no predictions for {what}; run it again")
    chosen = (predictions["protocol"] == protocol) & (predictions["condition"] == condition)
    rows = predictions[chosen].set_index("case")
    if rows.empty:
        raise RunError(f"cell {cell.cell} has no predictions for {what}; run it again")
    if rows.index.has_duplicates:
        twice = rows.index[rows.index.duplicated()][0]
        raise RunError(f"cell {cell.cell} predicts case {twice!r} twice for {what}; run it again")
    return rows


def _entry(key: Key, group: Results, cases: pd.DataFrame) -> Entry:
    group = sorted(group, key=lambda pair: pair[0].recipe.seed)
    done: dict[int, tuple[CellResult, pd.DataFrame | None]] = {}
    notes = []
    for cell, predictions in group:
        if cell.status != "done":
            continue
        if cell.recipe.seed in done:
            notes.append(f"seed {cell.recipe.seed} stands in more than one result, the first is used")
        else:
            done[cell.recipe.seed] = (cell, predictions)
    failed = [cell for cell, _ in group if cell.status == "failed" and cell.recipe.seed not in done]
    layers = [probabilities(cell, predictions, key[0], cases) for cell, predictions in done.values()]
    return Entry(
        key,
        tuple(cell for cell, _ in done.values()),
        tuple(failed),
        cases["label"].to_numpy(),
        np.stack(layers) if layers else np.zeros((0, len(cases), 2)),
        tuple(notes),
    )


def probabilities(
    cell: CellResult, predictions: pd.DataFrame | None, protocol: str, cases: pd.DataFrame, condition: str = ""
) -> np.ndarray:
    """Return probabilities (N, K) of one protocol in the order of the reference cases.

    Args:
        cell: that predicted them.
        predictions: its table.
        protocol: its name.
        cases: test cases and labels, from :func:`reference`.
        condition: part of the training labels, as predictions.csv names it; "" for all.

    Raises:
        RunError: there are none, or the cell's test cases or labels are others.
    """
    rows = _by_case(cell, predictions, protocol, condition)
    if set(rows.index) != set(cases.index):
        odd = sorted(set(rows.index) ^ set(cases.index))[0]
        raise RunError(f"cell {cell.cell} cannot be compared: case {odd!r} is in its test set or the others', not both")
    rows = rows.loc[cases.index]
    if (rows["label"] != cases["label"]).any():
        odd = cases.index[(rows["label"] != cases["label"]).to_numpy()][0]
        raise RunError(f"cell {cell.cell} cannot be compared: its label of case {odd!r} differs from the others'")
    return rows[[name for name in rows.columns if name.startswith("p_")]].to_numpy(np.float64)
