"""Combining the planes of an exam as MRNet's authors do: logistic regression on the planes' predictions.

Bien et al. 2018 (PLOS Medicine 15(11), e1002699) weight the predictions of the three planes by a logistic regression
on the training exams. Here each plane's log-odds come from training exams that the plane's classifier had not seen
(out of fold), so a plane that has memorised its training exams gains no weight; the regression has no penalty. Exams
are matched by case id. The result is an evaluation like any other, derived and never written. Loads no torch, and
scikit-learn only if there are several planes.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ssl3d.errors import RunError
from ssl3d.evaluate.threshold import best_threshold
from ssl3d.protocol import Prediction
from ssl3d.recipe import AugmentRecipe, EncoderRecipe, EvaluationRecipe, digest
from ssl3d.results.model import PlannedEncoder, PlannedEvaluation
from ssl3d.results.predictions import predictions_frame, probabilities_of, targets_of
from ssl3d.results.results import Evaluated, Failed, Results
from ssl3d.tables.entry import PLUS
from ssl3d.tables.merge_records import merge_encoders, merge_evaluations

ITERATIONS = 1000
Recipes = tuple[EncoderRecipe, EvaluationRecipe]


@dataclass(frozen=True)
class PlaneSet:
    """Evaluations that differ only in their plane.

    Attributes:
        recipes: their common recipes, without anything specific to a plane.
        planes: by name, in alphabetical order: the evaluation, or why it cannot be combined with the others.
    """

    recipes: Recipes
    planes: Mapping[str, Evaluated | str]

    @property
    def there(self) -> list[Evaluated]:
        """Evaluations that can be combined."""
        return [plane for plane in self.planes.values() if isinstance(plane, Evaluated)]


def combine_planes(results: Results) -> list[Evaluated | Failed]:
    """Return a combined evaluation for each set of evaluations that differ only in their plane.

    One that cannot be made is a failed evaluation with the reason, and does not affect those of single planes. There is
    none if there is one plane, or no plane has out-of-fold predictions.
    """
    return [_derived(planes) for planes in _plane_sets(results)]


def _plane_sets(results: Results) -> list[PlaneSet]:
    """Group evaluations with all labels by everything but plane, if there are several and one can be combined."""
    every: list[Evaluated | Failed] = [*results.evaluated, *results.failed]
    known = [one for one in every if _is_of_plane(_evaluation(one))]
    names: dict[tuple[str, str], set[str]] = defaultdict(set)  # planes of a data set and task
    evaluated_in: dict[str, set[str]] = defaultdict(set)  # planes that an encoder is evaluated in
    for one in known:
        recipe = _evaluation(one)
        names[recipe.data, recipe.task].add(str(recipe.plane))
        evaluated_in[one.encoder.key].add(str(recipe.plane))
    found: dict[tuple[str, str], dict[str, Evaluated]] = defaultdict(dict)  # by recipes and code, then by plane
    failed: set[tuple[str, str]] = set()  # recipes and plane
    recipes: dict[str, Recipes] = {}
    for one in known:
        own = _without_plane(one, shared=len(evaluated_in[one.encoder.key]) > 1)
        text, plane = own[0].canonical() + own[1].canonical(), str(_evaluation(one).plane)
        recipes.setdefault(text, own)
        if isinstance(one, Evaluated):
            found[text, _code(one)].setdefault(plane, one)
        else:
            failed.add((text, plane))
    sets = []
    for (text, _), members in found.items():
        wanted = sorted(names[recipes[text][1].data, recipes[text][1].task])
        planes = {name: _usable(members.get(name), name, failed=(text, name) in failed) for name in wanted}
        sets.append(PlaneSet(recipes[text], planes))
    return [one for one in sets if len(one.planes) > 1 and one.there]


def _evaluation(one: Evaluated | Failed) -> EvaluationRecipe:
    return one.record.recipe if isinstance(one, Evaluated) else one.evaluation.recipe


def _is_of_plane(recipe: EvaluationRecipe) -> bool:
    return bool(recipe.plane) and not recipe.condition


def _without_plane(one: Evaluated | Failed, *, shared: bool) -> Recipes:
    """Return what planes of one exam share: all but the plane, and the flips that follow its left-right axis.

    A ``shared`` encoder, which is evaluated in several planes, keeps its corpus.
    """
    encoder, evaluation = one.encoder.recipe, _evaluation(one)
    corpus = tuple(part if shared else part.model_copy(update={"plane": None}) for part in encoder.corpus)
    return (
        encoder.model_copy(update={"corpus": corpus, "augment": _unflipped(encoder.augment)}),
        evaluation.model_copy(update={"plane": None, "augment": _unflipped(evaluation.augment)}),
    )


def _unflipped(augment: AugmentRecipe | None) -> AugmentRecipe | None:
    return None if augment is None else augment.model_copy(update={"flip": AugmentRecipe().flip})


def _code(one: Evaluated) -> str:
    made_by = [(record.made_by.numerics, record.made_by.sources) for record in (one.encoder, one.record)]
    return digest([made_by, one.encoder.weights])


def _usable(one: Evaluated | None, name: str, *, failed: bool) -> Evaluated | str:
    if one is None:
        return f"{name} failed" if failed else f"{name} has no result yet"
    if one.training is None:
        return f"{name} has no predictions of training exams"
    return one


def _derived(planes: PlaneSet) -> Evaluated | Failed:
    absent = [plane for plane in planes.planes.values() if isinstance(plane, str)]
    task = planes.there[0].record.data.task
    if not task.categorical:
        absent = [f"a {task.kind} task is not supported"]
    if not absent:
        try:
            return combined(planes)
        except RunError as error:  # the tables of single planes do not depend on it
            absent = [str(error)]
    encoder, evaluation = _planned(planes)
    return Failed(evaluation, encoder, f"planes are not combined: {', '.join(absent)}")


def _planned(planes: PlaneSet) -> tuple[PlannedEncoder, PlannedEvaluation]:
    first, plane = planes.there[0], PLUS.join(planes.planes)
    encoder_key = digest([one.encoder.key for one in planes.there])
    evaluation_key = digest([one.record.key for one in planes.there])
    encoder = PlannedEncoder(
        key=encoder_key,
        name=_renamed(first.encoder.name, encoder_key),
        recipe=planes.recipes[0],
        sources=first.encoder.made_by.sources,
    )
    evaluation = planes.recipes[1].model_copy(update={"plane": plane})
    name = _renamed(first.record.name, evaluation_key)
    return encoder, PlannedEvaluation(key=evaluation_key, name=name, recipe=evaluation, encoder=encoder_key)


def _renamed(name: str, key: str) -> str:
    return f"{name.rpartition('-')[0]}-{key[:10]}"


def combined(planes: PlaneSet) -> Evaluated:
    """Return the evaluation of all planes of an exam.

    Raises:
        RunError: planes disagree on the class of an exam, have none in common, or their training exams have one class.
    """
    from ssl3d.results.scoring import score  # noqa: PLC0415  # scikit-learn, only where there are several planes

    encoder, evaluation = _planned(planes)
    task = planes.there[0].record.data.task
    test = _shared_cases([one.predictions for one in planes.there], planes)
    prediction = _fit([*planes.planes], planes, test["label"])
    patients = list(test["patient"])
    table = predictions_frame(list(test.index), patients, test["label"].to_numpy(), prediction.probabilities, task)
    found = score(prediction, test["label"].to_numpy(), task, np.array(patients))
    record = merge_evaluations([one.record for one in planes.there], evaluation, found, patients)
    return Evaluated(record, merge_encoders([one.encoder for one in planes.there], encoder), table)


def _fit(names: Sequence[str], planes: PlaneSet, test: pd.Series) -> Prediction:
    """Fit on the training exams of all planes, predict the test exams; the threshold comes from the training exams."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # only runs with several planes need it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    training = [one.training for one in planes.there if one.training is not None]
    train = _shared_cases(training, planes)["label"]
    if train.nunique() < 2:
        raise RunError(f"the training exams that the planes of {planes.there[0].record.name} share are of one class")
    x = np.hstack([_log_odds(table, train, len(train)) for table in training])
    other = np.hstack([_log_odds(one.predictions, test, len(train)) for one in planes.there])
    model = LogisticRegression(C=np.inf, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # classes that are perfectly separable: see `chosen`
        model.fit(x, train.to_numpy())
    K = x.shape[1] // len(names) + 1
    p, fitted = np.zeros((len(other), K)), np.zeros((len(x), K))
    p[:, model.classes_], fitted[:, model.classes_] = model.predict_proba(other), model.predict_proba(x)
    binary = model.coef_.shape == (1, len(names))
    weights = {name: float(model.coef_[0, index]) if binary else None for index, name in enumerate(names)}
    chosen = {"planes": weights, "n_train": len(train)}
    if model.n_iter_.max() >= ITERATIONS:
        chosen["converged"] = f"no, stopped after {ITERATIONS} iterations"
    return Prediction(p, best_threshold(train.to_numpy(), fitted[:, 1]) if K == 2 else None, chosen)


def _log_odds(table: pd.DataFrame, cases: pd.Series, N: int) -> np.ndarray:
    """Return log(p_k / p_0), k = 1..K-1, (n, K-1), clipped: N cases cannot distinguish a p below 1/(2N) from 0."""
    p = probabilities_of(table.set_index("case").loc[cases.index])
    logs = np.log(np.clip(p, 1 / (2 * N), 1 - 1 / (2 * N)))
    return np.asarray(logs[:, 1:] - logs[:, :1])


def _shared_cases(tables: Sequence[pd.DataFrame], planes: PlaneSet) -> pd.DataFrame:
    """Return label and patient, by id, of the exams that every plane has."""
    labels = pd.concat(
        [pd.Series(targets_of(table), index=table["case"]) for table in tables], axis=1, join="inner"
    ).sort_index()
    name = planes.there[0].record.name
    if labels.empty:
        raise RunError(f"the planes of {name} share no exam; combine planes whose cases have the ids of their exams")
    odd = labels.index[labels.nunique(axis=1) > 1]
    if len(odd):
        raise RunError(f"the planes of {name} disagree on the label of exam {str(odd[0])!r}; correct its labels")
    patients = tables[0].set_index("case")["patient"].loc[labels.index]
    return pd.DataFrame({"label": labels.iloc[:, 0], "patient": patients})
