"""Planes of an exam combined as MRNet's authors do: logistic regression on the planes' predictions.

Bien et al. 2018 (PLOS Medicine 15(11), e1002699) weigh the predictions of the three planes by a logistic regression on
the training exams. Here each plane's log-odds are those of training exams that the plane's classifier had not seen
(``training.csv``), so a plane that has learnt its training exams by heart is not trusted for it; the regression has no
penalty. Test exams are matched by their id. What comes out are results like any other, derived and never written.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ssl3d.errors import RunError
from ssl3d.protocol import Prediction, best_threshold
from ssl3d.recipe import AugmentRecipe, Recipe
from ssl3d.results.records import TRAINING, CellResult, predictions_frame, read_results, read_training
from ssl3d.tables.entries import Finished, Results, settings_hash
from ssl3d.tables.entry import PLUS
from ssl3d.tables.scoring import protocol_score

ITERATIONS = 1000
Flip = tuple[float, float, float]  # chance of a flip along D, H, W


class Plane(NamedTuple):
    """What one plane left: its cell, and predictions of test and of training exams."""

    cell: CellResult
    test: pd.DataFrame
    training: pd.DataFrame


class Group(NamedTuple):
    """Cells that differ in plane alone.

    Attributes:
        planes: by name, in its order: what each plane left, or why there is nothing to combine.
        flip: axes that the first plane is flipped along.
    """

    planes: Mapping[str, Plane | str]
    flip: Flip

    @property
    def there(self) -> list[Plane]:
        """Planes that can be combined."""
        return [plane for plane in self.planes.values() if isinstance(plane, Plane)]


def read_run(cells: Path) -> Results:
    """Return the results below a folder of cells, and those of its planes combined, where there are several.

    Planes that cannot be combined stand there as a failed result, which says why; the others stay as they are.

    Raises:
        RunError: a file is absent, damaged, edited, or of an unknown schema version.
    """
    results = read_results(cells)
    return [*results, *map(_derived, _groups(results, cells))]


def _groups(results: Results, cells: Path) -> list[Group]:
    """Cells by all but their plane, where there are several planes and one of them at least can be combined."""
    planes: dict[tuple[str, str], set[str]] = defaultdict(set)
    flips: dict[tuple[str, str], Flip] = {}
    found: dict[tuple[object, ...], dict[str, Plane | str]] = defaultdict(dict)
    for cell, test in results:
        data = cell.recipe.data
        if data.plane is None:
            continue
        planes[data.name, str(data.task)].add(data.plane)
        flips.setdefault((data.name, data.plane), cell.recipe.augment.flip)
        group = found[data.name, data.task, data.fold, cell.recipe.seed, _family(cell.recipe)]
        if not isinstance(group.get(data.plane), Plane):
            group[data.plane] = _plane(cell, test, cells)
    groups = []
    for (name, task, *_), group in found.items():
        names = sorted(planes[str(name), str(task)])
        all_planes = {plane: group.get(plane, f"{plane} has no result yet") for plane in names}
        groups.append(Group(all_planes, flips[str(name), names[0]]))
    return [group for group in groups if len(group.planes) > 1 and group.there]


def _plane(cell: CellResult, test: pd.DataFrame | None, cells: Path) -> Plane | str:
    """What a plane left, or why it cannot be combined with others."""
    folder, name = cells / cell.cell, cell.recipe.data.plane
    if cell.status != "done":
        return f"{name} failed"
    training = read_training(folder) if (folder / TRAINING).exists() else None
    if test is None or training is None:
        return f"{name} has no predictions of training exams ({TRAINING})"
    return Plane(cell, test, training)


def _derived(group: Group) -> Finished:
    """The result of planes combined, or a failed one that says why they are not."""
    absent = [plane for plane in group.planes.values() if isinstance(plane, str)]
    if not absent and not _able(group.there):
        absent = ["no protocol has out-of-fold predictions of training exams in every plane"]
    if not absent:
        try:
            return combined(group.there)
        except RunError as error:  # said in the row: the tables of single planes stand without it
            absent = [str(error)]
    return _uncombined(group, f"planes are not combined: {', '.join(absent)}"), None


def _uncombined(group: Group, reason: str) -> CellResult:
    cells = [plane.cell for plane in group.there]
    left = pd.concat([plane.training["protocol"] for plane in group.there])
    protocols = [name for name in cells[0].recipe.evaluate.protocols if (left == name).any()]
    recipe = _recipe(cells[0].recipe, list(group.planes), protocols)
    recipe = recipe.model_copy(update={"augment": recipe.augment.model_copy(update={"flip": group.flip})})
    return CellResult(
        cell=_name(cells[0], recipe),
        status="failed",
        reason=reason,
        recipe=recipe,
        versions=cells[0].versions,
        finished_at=max(cell.finished_at for cell in cells),
    )


def _family(recipe: Recipe) -> str:
    """What planes of one exam share: all but the axis that swaps left and right, which is never flipped."""
    data = recipe.data.model_copy(update={"plane": None})
    augment = recipe.augment.model_copy(update={"flip": AugmentRecipe().flip})
    return settings_hash(recipe.model_copy(update={"data": data, "augment": augment}))


def _able(planes: Sequence[Plane]) -> list[str]:
    """Protocols that have out-of-fold predictions in every plane."""
    protocols = planes[0].cell.recipe.evaluate.protocols
    return [name for name in protocols if all((plane.training["protocol"] == name).any() for plane in planes)]


def combined(planes: Sequence[Plane]) -> tuple[CellResult, pd.DataFrame | None]:
    """Return the result of planes put together, under every protocol that has out-of-fold predictions in each.

    Raises:
        RunError: two planes disagree on the label of an exam, or share none.
    """
    protocols, able = planes[0].cell.recipe.evaluate.protocols, _able(planes)
    predictions, test = {}, _cases([plane.test for plane in planes], able[0], planes)
    for name in able:
        predictions[name] = _combine(planes, name, test)
    labels = test.to_numpy()
    scores = {name: protocol_score(prediction, labels) for name, prediction in predictions.items()}
    unable = [f"{name} gives no out-of-fold predictions to combine planes by" for name in protocols if name not in able]
    result = _result(planes, able, len(test)).model_copy(update={"scores": scores, "notes": _notes(planes, unable)})
    probabilities = {name: prediction.probabilities for name, prediction in predictions.items()}
    return result, predictions_frame(list(test.index), labels, probabilities)


def _combine(planes: Sequence[Plane], protocol: str, test: pd.Series) -> Prediction:
    """Fit on the training exams of all planes, predict the test exams, a threshold from the training exams."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # only runs with several planes need it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    train = _cases([plane.training for plane in planes], protocol, planes)
    if train.nunique() < 2:
        name = planes[0].cell.cell
        raise RunError(f"the training exams that the planes of {name} share are of one class; give more labelled exams")
    x = np.hstack([_log_odds(plane.training, protocol, train, len(train)) for plane in planes])
    other = np.hstack([_log_odds(plane.test, protocol, test, len(train)) for plane in planes])
    model = LogisticRegression(C=np.inf, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # classes that are told apart perfectly: said in `chosen`
        model.fit(x, train.to_numpy())
    K = x.shape[1] // len(planes) + 1
    p, fitted = np.zeros((len(other), K)), np.zeros((len(x), K))
    p[:, model.classes_], fitted[:, model.classes_] = model.predict_proba(other), model.predict_proba(x)
    chosen = {"planes": _weights(planes, model.coef_), "n_train": len(train)}
    if model.n_iter_.max() >= ITERATIONS:
        chosen["converged"] = f"no, stopped after {ITERATIONS} iterations"
    return Prediction(p, best_threshold(train.to_numpy(), fitted[:, 1]) if K == 2 else None, chosen)


def _weights(planes: Sequence[Plane], coefficients: np.ndarray) -> dict[str, float | None]:
    """Weight of each plane's log-odds, for two classes; None for more."""
    binary = coefficients.shape == (1, len(planes))
    return {
        str(plane.cell.recipe.data.plane): float(coefficients[0, i]) if binary else None
        for i, plane in enumerate(planes)
    }


def _log_odds(table: pd.DataFrame, protocol: str, cases: pd.Series, N: int) -> np.ndarray:
    """log(p_k / p_0), k = 1..K-1, of cases: (n, K-1). N cases cannot tell a p below 1/(2N) from 0: it is cut there."""
    rows = _rows(table, protocol).loc[cases.index]
    p = rows[[name for name in rows.columns if name.startswith("p_")]].to_numpy(np.float64)
    logs = np.log(np.clip(p, 1 / (2 * N), 1 - 1 / (2 * N)))
    return np.asarray(logs[:, 1:] - logs[:, :1])


def _rows(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    return table[(table["protocol"] == protocol) & (table["condition"] == "")].set_index("case")


def _cases(tables: Sequence[pd.DataFrame], protocol: str, planes: Sequence[Plane]) -> pd.Series:
    """Labels of the exams that every plane has, by id."""
    labels = pd.concat([_rows(table, protocol)["label"] for table in tables], axis=1, join="inner").sort_index()
    name = planes[0].cell.cell
    if labels.empty:
        raise RunError(f"the planes of {name} share no exam: combine planes whose volumes have the ids of their exams")
    odd = labels.index[labels.nunique(axis=1) > 1]
    if len(odd):
        raise RunError(
            f"the planes of {name} disagree on the label of exam {str(odd[0])!r}; mend the tables, run them again"
        )
    return labels.iloc[:, 0]


def _result(planes: Sequence[Plane], protocols: Sequence[str], n_test: int) -> CellResult:
    """The first plane's record, with what differs between planes put together."""
    first, cells = planes[0].cell, [plane.cell for plane in planes]
    recipe = _recipe(first.recipe, [str(cell.recipe.data.plane) for cell in cells], protocols)
    records = [cell.data for cell in cells if cell.data is not None]
    data = records[0].model_copy(
        update={
            "name": records[0].name.removesuffix(records[0].plane).strip(),
            "fingerprint": PLUS.join(record.fingerprint for record in records),
            "plane": recipe.data.plane,
            "n_train": min(record.n_train for record in records),
            "n_test": n_test,
        }
    )
    flags = [cell.collapse.collapsed for cell in cells if cell.collapse.collapsed is not None]
    return first.model_copy(
        update={
            "cell": _name(first, recipe),
            "recipe": recipe,
            "data": data,
            "curve": (),
            "features": None,
            "departures": tuple(dict.fromkeys(text for cell in cells for text in cell.departures)),
            "collapse": first.collapse.model_copy(update={"collapsed": any(flags) if flags else None}),
            "price": first.price.model_copy(update=_price(cells)),
            "finished_at": max(cell.finished_at for cell in cells),
        }
    )


def _recipe(first: Recipe, planes: Sequence[str], protocols: Sequence[str]) -> Recipe:
    """The first plane's recipe, for all of them."""
    values = first.model_dump(mode="json")
    values["data"]["plane"], values["evaluate"]["protocols"] = PLUS.join(planes), list(protocols)
    return Recipe.model_validate(values)


def _name(first: CellResult, recipe: Recipe) -> str:
    return f"{first.cell.rpartition('-')[0]}-{recipe.hash()}"


def _price(cells: Sequence[CellResult]) -> Mapping[str, float | None]:
    """What all planes took, one after the other."""
    found: dict[str, float | None] = {"volumes_per_second": None}
    for name, put in (("pretrain_seconds", sum), ("flops", sum), ("peak_memory_bytes", max)):
        values = [getattr(cell.price, name) for cell in cells]
        found[name] = None if None in values else put(values)
    return found


def _notes(planes: Sequence[Plane], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(note for plane in planes for note in plane.cell.notes), *more]))
