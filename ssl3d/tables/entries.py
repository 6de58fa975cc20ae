"""Grouping of evaluations: the seeds and folds of one row. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.measures import OF_KIND
from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, digest
from ssl3d.results.model import encoder_choices, evaluation_choices
from ssl3d.results.predictions import probabilities_of, targets_of
from ssl3d.results.results import Evaluated, Failed
from ssl3d.tables.entry import PLUS, Entry, Key, Part, metric_of
from ssl3d.tables.means import means

SETTINGS_DIGITS = 8
Where = tuple[str, str, str, int]  # data set, task, plane, fold: these determine the test cases


def key_of(one: Evaluated) -> Key:
    """Return what distinguishes the row of an evaluation."""
    settings = digest([one.encoder.settings, one.record.settings], SETTINGS_DIGITS)
    return _key(one.encoder.recipe, one.record.recipe, settings)


def entries(evaluated: Sequence[Evaluated], failed: Sequence[Failed] = ()) -> list[Entry]:
    """Group evaluations with all labels into entries, by table and protocol, then by score, best first.

    Entries without a score come last. Test cases are matched by id. If several tasks were evaluated on the same cases,
    their mean is also an entry (see :mod:`ssl3d.tables.means`).

    Raises:
        RunError: the test cases of evaluations in one table differ.
    """
    groups: dict[Key, list[Evaluated]] = {}
    whole = [one for one in evaluated if not one.record.recipe.condition]
    for one in whole:
        groups.setdefault(key_of(one), []).append(one)
    broken = _attach([one for one in failed if not one.evaluation.recipe.condition], groups)
    cases = reference_cases(whole)
    found = [_entry(key, groups.get(key, []), broken.get(key, []), cases) for key in {**groups, **broken}]
    found += means(found)
    protocols = dict.fromkeys([one.record.recipe.protocol for one in whole] + [key.protocol for key in broken])
    order = {name: index for index, name in enumerate(protocols)}
    return sorted(found, key=lambda entry: (_table_order(entry.key), order[entry.key.protocol], *_merit(entry)))


def where_of(one: Evaluated) -> Where:
    """Return the data set, task, plane and fold of an evaluation."""
    recipe = one.record.recipe
    return recipe.data, recipe.task, recipe.plane or "", recipe.fold


def reference_cases(evaluated: Iterable[Evaluated]) -> dict[Where, pd.DataFrame]:
    """Return patients and labels by case id of each table's and fold's test cases, as in the first evaluation."""
    found: dict[Where, pd.DataFrame] = {}
    for one in evaluated:
        if where_of(one) not in found:
            found[where_of(one)] = _by_case(one).filter(regex=r"^(patient|label(_\d+)?)$").sort_index()
    return found


def parts_of(layers: Sequence[Evaluated], cases: pd.DataFrame) -> list[Part]:
    """Return the parts of one fold of several seeds: one, or one per label of a multi-label task.

    Labels of a multi-label task that all test cases have, or none has, are left out if there are others.

    Raises:
        RunError: the test cases, labels or patients of an evaluation differ from the reference.
    """
    ids, targets, patients = tuple(cases.index), targets_of(cases), cases["patient"].to_numpy()
    p = np.stack([_probabilities(one, cases) for one in layers])  # (S, N, K)
    task = layers[0].record.data.task

    def scores(of: str = "") -> dict[str, tuple[float | None, ...]]:
        names = OF_KIND[task.kind]
        return {name: tuple(one.record.score.metrics.get(name + of) for one in layers) for name in names}

    if targets.ndim == 1:
        return [Part(ids, targets, p, scores(), patients)]
    parts = []
    for index, name in enumerate(task.classes):
        both = np.stack([1 - p[:, :, index], p[:, :, index]], axis=2)  # (S, N, 2)
        parts.append(Part(ids, targets[:, index], both, scores(f":{name}"), patients, name))
    return [part for part in parts if all(None not in values for values in part.scores.values())] or parts


def _key(encoder: EncoderRecipe, evaluation: EvaluationRecipe, settings: str) -> Key:
    table = evaluation.data, evaluation.task, evaluation.plane or ""
    return Key(*table, evaluation.protocol, encoder.method, encoder.backbone, settings)


def _planned_key(encoder: EncoderRecipe, evaluation: EvaluationRecipe) -> Key:
    """Return the key as far as recipes determine it: a planned evaluation has no code or weights to hash."""
    choices = [encoder_choices(encoder), evaluation_choices(evaluation)]
    return _key(encoder, evaluation, digest(choices, SETTINGS_DIGITS))


def _attach(failed: Sequence[Failed], groups: Mapping[Key, Sequence[Evaluated]]) -> dict[Key, list[Failed]]:
    """Assign failed evaluations to the entry with their recipes, and with their sources if there are several."""
    planned: dict[Key, list[Key]] = {}
    for key, group in groups.items():
        planned.setdefault(_planned_key(group[0].encoder.recipe, group[0].record.recipe), []).append(key)
    found: dict[Key, list[Failed]] = {}
    for one in failed:
        own = _planned_key(one.encoder.recipe, one.evaluation.recipe)
        same = planned.get(own, [own])
        exact = [key for key in same if key in groups and groups[key][0].encoder.made_by.sources == one.encoder.sources]
        found.setdefault((exact or same)[0], []).append(one)
    return found


def _table_order(key: Key) -> tuple[str, bool, str, bool, str]:
    """Sort data sets, tasks and planes by name, the summaries over tasks and planes first."""
    return key.data, not key.is_mean, key.task, PLUS not in key.plane, key.plane


def _merit(entry: Entry) -> tuple[bool, float, Key]:
    return entry.score is None, -entry.measure.sign * (entry.score or 0.0), entry.key


def _entry(
    key: Key, group: Sequence[Evaluated], failed: Sequence[Failed], cases: Mapping[Where, pd.DataFrame]
) -> Entry:
    """Combine the evaluations of one key: only seeds that are complete in every fold count."""
    seeds, notes = _by_seed_and_fold(group)
    folds = range((group[0].record.recipe if group else failed[0].evaluation.recipe).folds or 1)
    whole = {seed: found for seed, found in seeds.items() if len(found) == len(folds)}
    for seed in (seed for seed in seeds if seed not in whole):
        absent = ", ".join(str(fold) for fold in folds if fold not in seeds[seed])
        notes.append(f"seed {seed} is left out: fold {absent} of {len(folds)} is not done")
    parts = [
        part
        for fold in folds
        if whole
        for part in parts_of([found[fold] for found in whole.values()], cases[(*key.table, fold)])
    ]
    return Entry(
        key,
        tuple(whole),
        tuple(one for found in whole.values() for one in found.values()),
        tuple(one for one in failed if one.evaluation.recipe.fold not in seeds.get(one.encoder.recipe.seed, {})),
        tuple(parts),
        tuple(notes),
        tuple(one for seed, found in seeds.items() if seed not in whole for one in found.values()),
        metric_of(group),
    )


def _by_seed_and_fold(group: Sequence[Evaluated]) -> tuple[dict[int, dict[int, Evaluated]], list[str]]:
    """Return one evaluation per seed and fold, and notes on further ones. An encoder reached twice counts once."""
    seeds: dict[int, dict[int, Evaluated]] = {}
    seen: set[tuple[str, int]] = set()
    notes: dict[str, None] = {}
    for one in sorted(group, key=lambda o: (o.encoder.recipe.seed, o.record.recipe.fold, o.record.recipe.seed)):
        seed, fold, encoder = one.encoder.recipe.seed, one.record.recipe.fold, one.encoder.key
        if (encoder, fold) in seen:
            continue
        seen.add((encoder, fold))
        if fold in seeds.setdefault(seed, {}):
            notes[f"seed {seed} has more than one encoder, the first is used"] = None
        else:
            seeds[seed][fold] = one
    return seeds, list(notes)


def _by_case(one: Evaluated) -> pd.DataFrame:
    rows = one.predictions.set_index("case")
    if rows.index.has_duplicates:
        twice = rows.index[rows.index.duplicated()][0]
        raise RunError(f"evaluation {one.record.name} predicts case {twice!r} twice; delete its folder and run again")
    return rows


def _probabilities(one: Evaluated, cases: pd.DataFrame) -> np.ndarray:
    """Return the probabilities (N, K) in the order of the reference cases."""
    rows = _by_case(one)
    said = f"evaluation {one.record.name} cannot be compared"
    if set(rows.index) != set(cases.index):
        odd = sorted(set(rows.index) ^ set(cases.index))[0]
        raise RunError(f"{said}: case {odd!r} is in its test set or in that of the others, not in both")
    rows = rows.loc[cases.index]
    for column in cases.columns:
        differs = rows[column] != cases[column]
        if differs.any():
            what, case = column.partition("_")[0], cases.index[differs][0]
            raise RunError(f"{said}: its {what} of case {case!r} differs from that of the others")
    return probabilities_of(rows)
