"""Cells put together: the seeds and folds of one method x backbone x settings under one protocol, task and plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ssl3d.errors import RunError
from ssl3d.recipe import DataRecipe, EvaluateRecipe, Recipe
from ssl3d.results.records import CellResult
from ssl3d.tables.comparable import check_comparable, place
from ssl3d.tables.entry import MEAN, PLUS, Entry, Key, Part
from ssl3d.tables.means import means

__all__ = ["Entry", "Finished", "Key", "Results", "by_fold", "entries", "probabilities", "reference", "settings_hash"]

Finished = tuple[CellResult, pd.DataFrame | None]
Results = Sequence[Finished]


def settings_hash(recipe: Recipe) -> str:
    """Return the hash of a recipe without seed, task, fold and list of protocols: what cells of one row share."""
    evaluate = recipe.evaluate.model_copy(update={"protocols": EvaluateRecipe().protocols})
    data = recipe.data.model_copy(update={"task": None, "fold": DataRecipe().fold})
    return recipe.model_copy(update={"seed": 0, "data": data, "evaluate": evaluate}).hash()


def entries(results: Results) -> list[Entry]:
    """Group cells into entries, by task, plane and protocol, then by AUC, best first; those without an AUC come last.

    Test cases are matched by their id, whatever their order in the files. Where several tasks were judged on the same
    cases, their mean is an entry, too (see :mod:`ssl3d.tables.means`).

    Raises:
        RunError: the cells are not comparable (see :func:`check_comparable`), or their test cases differ.
    """
    check_comparable([cell for cell, _ in results])
    groups: dict[Key, list[Finished]] = {}
    for cell, predictions in results:
        for protocol in cell.recipe.evaluate.protocols:
            key = Key(protocol, cell.recipe.method, cell.recipe.backbone, settings_hash(cell.recipe), *place(cell))
            groups.setdefault(key, []).append((cell, predictions))
    cases = {where: reference(found) for where, found in by_fold(results).items()}
    found = [_entry(key, group, cases) for key, group in groups.items()]
    found += means(found)
    order: list[str] = list(
        dict.fromkeys(protocol for cell, _ in results for protocol in cell.recipe.evaluate.protocols)
    )
    return sorted(
        found, key=lambda e: (*_place_order(e.key), order.index(e.protocol), e.auc is None, -(e.auc or 0), e.key)
    )


def by_fold(results: Results) -> dict[tuple[str, str, int], list[Finished]]:
    """Return results by task, plane and fold: those of one share their test cases."""
    found: dict[tuple[str, str, int], list[Finished]] = {}
    for cell, predictions in results:
        found.setdefault((*place(cell), cell.recipe.data.fold), []).append((cell, predictions))
    return found


def _place_order(key: Key) -> tuple[bool, str, bool, str]:
    """Tasks and planes by name, what is derived from several of them last."""
    return key.task.startswith(MEAN), key.task, PLUS in key.plane, key.plane


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


def _entry(key: Key, group: Results, cases: Mapping[tuple[str, str, int], pd.DataFrame]) -> Entry:
    """Put the cells of one key together: only seeds count of which every fold is done."""
    seeds: dict[int, dict[int, Finished]] = {}
    notes = []
    for cell, predictions in sorted(group, key=lambda pair: (pair[0].recipe.seed, pair[0].recipe.data.fold)):
        if cell.status == "done" and cell.recipe.data.fold in seeds.setdefault(cell.recipe.seed, {}):
            notes.append(f"seed {cell.recipe.seed} stands in more than one result, the first is used")
        elif cell.status == "done":
            seeds[cell.recipe.seed][cell.recipe.data.fold] = (cell, predictions)
    folds = range(group[0][0].recipe.data.folds or 1)
    whole = {seed: found for seed, found in seeds.items() if len(found) == len(folds)}
    for seed, found in seeds.items():
        if found and seed not in whole:
            absent = ", ".join(str(fold) for fold in folds if fold not in found)
            notes.append(f"seed {seed} is left out: fold {absent} of {len(folds)} is not done")
    where = key.task, key.plane
    return Entry(
        key,
        tuple(whole),
        tuple(cell for found in whole.values() for cell, _ in found.values()),
        tuple(cell for cell, _ in group if cell.status == "failed" and not _stands(cell, seeds)),
        tuple(_part(key.protocol, [found[i] for found in whole.values()], cases[(*where, i)]) for i in folds if whole),
        tuple(dict.fromkeys(notes)),
        tuple(cell for seed, found in seeds.items() if seed not in whole for cell, _ in found.values()),
    )


def _stands(cell: CellResult, seeds: Mapping[int, Mapping[int, Finished]]) -> bool:
    """Whether another result of the same seed and fold is done."""
    return cell.recipe.data.fold in seeds.get(cell.recipe.seed, {})


def _part(protocol: str, cells: Results, cases: pd.DataFrame) -> Part:
    """The same fold of several seeds."""
    layers = [probabilities(cell, predictions, protocol, cases) for cell, predictions in cells]
    aucs = tuple(cell.scores[protocol].metrics.get("auc") for cell, _ in cells)
    return Part(tuple(cases.index), cases["label"].to_numpy(), np.stack(layers), aucs)


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
