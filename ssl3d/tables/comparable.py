"""Checks that evaluations in one table used the same data in the same way. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ssl3d.errors import RunError
from ssl3d.results.model import Provenance
from ssl3d.results.results import Evaluated, Results

Get = Callable[[Evaluated], Any]
Within = Callable[[Evaluated], Hashable]


def check_comparable(evaluated: Iterable[Evaluated]) -> None:
    """Check that the evaluations of each table (data set, task and plane) used the same data in the same way.

    Raises:
        RunError: evaluations of one table differ in folds, classes or inner folds; or, within a fold, in the
            fingerprint of the data or the number of training or test cases; or, for one label subset, in the number of
            labels; or, within a protocol, in its settings. The message says in what, and between which evaluations.
    """
    known = list(evaluated)
    for what, get, within in _CONDITIONS:
        _check_same(known, what, get, within)
    for protocol in dict.fromkeys(one.record.recipe.protocol for one in known):
        own = [one for one in known if one.record.recipe.protocol == protocol]
        for name in dict.fromkeys(name for one in own for name in one.record.recipe.protocol_config):
            _check_same(own, f"{protocol}.{name}", _protocol_setting(name), _table)


def check_shared(runs: Sequence[Results]) -> None:
    """Check that each run shares a table with another one; otherwise nothing is compared across runs.

    Raises:
        RunError: a run shares none.
    """
    tables = [{_table(one) for one in run.evaluated} for run in runs if run.evaluated]
    for index, own in enumerate(tables if len(tables) > 1 else ()):
        others = set().union(*tables[:index], *tables[index + 1 :])
        if not own & others:
            here, there = min(own), min(others)
            what, a, b = next(
                trio for trio in zip(("data set", "task", "plane"), here, there, strict=True) if trio[1] != trio[2]
            )
            raise RunError(f"runs cannot be compared: {what} differs ({a!r} and {b!r}); make a table of each")


def _check_same(evaluated: Sequence[Evaluated], what: str, get: Get, within: Within) -> None:
    first: dict[Hashable, Evaluated] = {}
    for one in evaluated:
        other = first.setdefault(within(one), one)
        a, b = get(other), get(one)
        if a != b:
            raise RunError(
                f"evaluations {other.record.name} and {one.record.name} cannot be compared: {what} differs "
                f"({a!r} and {b!r}); make a table of each"
            )


def _table(one: Evaluated) -> tuple[str, str, str]:
    recipe = one.record.recipe
    return recipe.data, recipe.task, recipe.plane or ""


def _fold(one: Evaluated) -> Hashable:
    return *_table(one), one.record.recipe.fold


def _fold_and_labels(one: Evaluated) -> Hashable:
    return _fold(one), one.record.recipe.condition


def _protocol_setting(name: str) -> Get:
    return lambda one: one.record.recipe.protocol_config.get(name)


_CONDITIONS: tuple[tuple[str, Get, Within], ...] = (
    ("number of folds", lambda one: one.record.recipe.folds, _table),
    ("data fingerprint", lambda one: one.record.data.fingerprint, _fold),
    ("number of training cases", lambda one: one.record.data.n_train, _fold),
    ("number of test cases", lambda one: one.record.data.n_test, _fold),
    ("list of classes", lambda one: one.record.data.task.classes, _table),
    ("number of inner folds", lambda one: one.record.recipe.inner_folds, _table),
    ("number of labels used", lambda one: (one.record.n_labels, one.record.n_positive), _fold_and_labels),
)


def version_note(made_by: Iterable[Provenance]) -> str:
    """Return the packages that had more than one version among these artifacts; empty if none."""
    found: dict[str, dict[str, None]] = {}
    for one in made_by:
        for name, version in one.versions.items():
            found.setdefault(name, {})[version] = None
    differ = [f"{name} {' and '.join(sorted(versions))}" for name, versions in found.items() if len(versions) > 1]
    return f"made with several versions of packages: {', '.join(differ)}" if differ else ""
