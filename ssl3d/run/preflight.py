"""What would make every cell of a run fail, found before the first one starts."""

from __future__ import annotations

from pathlib import Path

from ssl3d.data.folds import check_folds
from ssl3d.data.pack import planned
from ssl3d.errors import RecipeError
from ssl3d.evaluate.subsets import conditions
from ssl3d.protocol import class_count
from ssl3d.run.devices import open_device
from ssl3d.run.options import Options
from ssl3d.run.plan import Plan
from ssl3d.run.reuse import check_encoders
from ssl3d.run.stores import Stores, needed_splits
from ssl3d.run.work import Judged
from ssl3d.train.build import build_backbone, method_class


def check_inputs(plan: Plan, options: Options) -> None:
    """Check a plan's tables of cases, its device, a file of weights and runs named, before anything is written.

    Raises:
        UserError: one of them cannot be used.
    """
    for dataset in plan.datasets.values():
        planned(dataset, needed_splits(plan))
    for precision in sorted({cell.recipe.pretrain.precision for cell in plan.cells}):
        open_device(options.device, precision)
    if options.weights is not None:
        _check_weights(plan, options.weights)
    check_encoders(options.encoders)


def check_labels(plan: Plan, stores: Stores) -> None:
    """Check that both splits have labels of every task, the training split of more than one class, enough of each.

    Raises:
        DataError: they do not.
        RecipeError: shares of positives are asked for of a task of more than two classes.
    """
    for data in {cell.recipe.data: None for cell in plan.cells}:
        if data.folds is not None:
            check_folds(stores.by_plane[data.plane or ""], str(data.task), data.folds, stores.cases)
        judged = Judged.of(stores.view(data), str(data.task))
        class_count(judged.train_labels, judged.classes)
        for recipe in [cell.recipe for cell in plan.cells if cell.recipe.data == data]:
            conditions(judged.train_labels, recipe.evaluate, seed=recipe.seed, classes=judged.classes)


def _check_weights(plan: Plan, file: Path) -> None:
    """Load a file into each backbone that is to start from it."""
    starting = {
        cell.recipe.backbone: cell.recipe
        for cell in plan.cells
        if method_class(cell.recipe.method).initial_weights is not None
    }
    if not starting:
        raise RecipeError(
            f"--weights {file} is given, and no cell of this run starts from pretrained weights; leave it out, or add "
            "a method that does (`ssl3d list`) and a backbone that has such weights (`ssl3d show`)"
        )
    for recipe in starting.values():
        build_backbone(recipe, file)
