"""What may stand in one table: cells that were judged on the same data in the same way. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ssl3d.errors import RunError
from ssl3d.results.records import CellResult

Get = Callable[[CellResult], Hashable]


def place(cell: CellResult) -> tuple[str, str]:
    """Return the task and plane of a cell: what a table is of."""
    if cell.data is not None:
        return cell.data.task, cell.data.plane
    return cell.recipe.data.task or "", cell.recipe.data.plane or ""


def by_place(cells: Iterable[CellResult]) -> dict[tuple[str, str], list[CellResult]]:
    """Return cells by task and plane."""
    found: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        found.setdefault(place(cell), []).append(cell)
    return found


def check_comparable(cells: Iterable[CellResult]) -> None:
    """Check that finished cells were judged on the same data in the same way.

    Other tasks and planes make other tables; the data set and its outer folds are the same for all.

    Raises:
        RunError: cells differ in data set or folds; or those of one plane in the fingerprint of the data; or those of
            one task, plane and fold in the number of training or test volumes; or those of one task and plane in what
            a protocol they share was told; says in what, and between which cells.
    """
    done = [cell for cell in cells if cell.data is not None and cell.status == "done"]
    for what, get, within in _CONDITIONS:
        _check_same(done, what, get, within)
    tuned = [cell for cell in done if "finetune" in cell.scores]
    for name in ("finetune_epochs", "finetune_lr", "finetune_batch_size", "finetune_balance", "finetune_crops"):
        _check_same(tuned, f"evaluate.{name}", _evaluate(name), place)
    for condition in dict.fromkeys(point.condition for cell in done for point in cell.curve):
        judged = [cell for cell in done if _labels_at(condition)(cell)]
        _check_same(judged, f"number of labels used at {condition}", _labels_at(condition), _fold)


def check_shared(runs: Sequence[Sequence[CellResult]]) -> None:
    """Check that each run shares a task and plane with another one: else nothing of it is compared across runs.

    Raises:
        RunError: one does not.
    """
    places = [set(by_place(cells)) for cells in runs if cells]
    for index, own in enumerate(places if len(places) > 1 else ()):
        others = set().union(*places[:index], *places[index + 1 :])
        if not own & others:
            here, there = min(own), min(others)
            what, which = ("task", 0) if here[0] != there[0] else ("plane", 1)
            raise RunError(
                f"runs cannot be compared: {what} differs ({here[which]!r} and {there[which]!r}); make a table of each"
            )


def _check_same(cells: Sequence[CellResult], what: str, get: Get, within: Get) -> None:
    first: dict[Hashable, CellResult] = {}
    for cell in cells:
        other = first.setdefault(within(cell), cell)
        a, b = get(other), get(cell)
        if a != b:
            raise RunError(
                f"cells {other.cell} and {cell.cell} cannot be compared: {what} differs ({a!r} and {b!r}); "
                "make a table of each"
            )


def _labels_at(condition: str) -> Get:
    """Number of labels, and of positives among them, behind a name in predictions.csv; empty without it."""
    return lambda cell: tuple(
        dict.fromkeys((point.n_train, point.n_positive) for point in cell.curve if point.condition == condition)
    )


def _everywhere(_: CellResult) -> str:
    return ""


def _plane(cell: CellResult) -> str:
    return place(cell)[1]


def _fold(cell: CellResult) -> tuple[Any, ...]:
    return (*place(cell), cell.recipe.data.fold)


def _data(field: str) -> Get:
    return lambda cell: getattr(cell.data, field)


def _recipe_data(field: str) -> Get:
    return lambda cell: getattr(cell.recipe.data, field)


def _evaluate(field: str) -> Get:
    return lambda cell: getattr(cell.recipe.evaluate, field)


_CONDITIONS: tuple[tuple[str, Get, Get], ...] = (
    ("data set", _recipe_data("name"), _everywhere),
    ("data set", _data("name"), _plane),
    ("data.folds", _recipe_data("folds"), _everywhere),
    ("data fingerprint", _data("fingerprint"), _plane),
    ("split (training volumes)", _data("n_train"), _fold),
    ("split (test volumes)", _data("n_test"), _fold),
    ("number of classes", _data("classes"), place),
    ("evaluate.inner_folds", _evaluate("inner_folds"), place),
)
