"""The choice of a learning rate: its recipe, and the trials that it needs.

Each factor of the grid is tried with the whole recipe, all epochs included, and with one seed that no row of a table
has: the choice favours no seed, and adding seeds to a run repeats no trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ssl3d.experiment import Experiment
from ssl3d.recipe import TRIAL_SEED, EncoderRecipe, EvaluationRecipe, LabelledPart, RateRecipe
from ssl3d.run.planning.plan_checks import known_readouts


def rate_recipe(
    experiment: Experiment, recipe: EncoderRecipe, evaluations: Iterable[EvaluationRecipe]
) -> RateRecipe | None:
    """Return how the learning rate of an encoder is chosen; None if it is the recipe's.

    One rate is chosen per encoder, by its mean score over everything that it is evaluated on.

    Args:
        experiment: the request.
        recipe: recipe of the encoder.
        evaluations: evaluations of the encoder.
    """
    if recipe.pretrain is None or not recipe.pretrain.tune_lr:
        return None
    names = ("data", "plane", "task", "folds", "fold")
    parts = [LabelledPart(**{name: getattr(one, name) for name in names}) for one in evaluations]
    return RateRecipe(
        lr=recipe.pretrain.lr,
        factors=recipe.pretrain.tune_lr,
        parts=tuple(dict.fromkeys(parts)),
        readouts=known_readouts(experiment, recipe.backbone),
        view_size=recipe.view_size,
        batch_size=experiment.evaluate.batch_size,
        inner_folds=experiment.evaluate.inner_folds,
    )


def untuned(experiment: Experiment, recipes: Iterable[EncoderRecipe]) -> Iterator[str]:
    """Yield one sentence for each pretrained method whose learning rate is not tuned although that was requested."""
    trained = [(recipe.method, recipe.pretrain.tune_lr) for recipe in recipes if recipe.pretrain is not None]
    for name in dict.fromkeys(name for name, factors in trained if experiment.pretrain.tune_lr and not factors):
        yield (
            f"the learning rate of {name!r} is not tuned: inner folds cannot judge an encoder that was trained on "
            "their labels"
        )


def trials(recipe: EncoderRecipe) -> tuple[EncoderRecipe, ...]:
    """Return the recipes of an encoder's trials, in the order of the factors; none if its rate is not chosen."""
    factors = recipe.pretrain.tune_lr if recipe.pretrain is not None else ()
    return tuple(with_rate(recipe, factor).model_copy(update={"seed": TRIAL_SEED}) for factor in factors)


def with_rate(recipe: EncoderRecipe, factor: float) -> EncoderRecipe:
    """Return the recipe with its learning rate times a factor, and nothing left to choose."""
    assert recipe.pretrain is not None  # its learning rate is chosen
    update = {"lr": recipe.pretrain.lr * factor, "tune_lr": ()}
    return recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update=update)})
