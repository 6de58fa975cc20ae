"""A cell again, from its own record: the same recipe, its engine as recorded, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssl3d.audit.compare_cells import Compared, circumstances, compared
from ssl3d.errors import RunError
from ssl3d.experiment import Experiment
from ssl3d.progress import Progress
from ssl3d.recipe import PretrainRecipe, Recipe
from ssl3d.results.folder import PLAN, cells_folder, read_plan
from ssl3d.results.older import LACKING
from ssl3d.results.records import RESULT, CellResult, read_content, read_result
from ssl3d.results.sources import WEIGHTS, check_sources, sources
from ssl3d.run.execute import execute
from ssl3d.run.options import Options
from ssl3d.run.plan import Cell, Plan, open_dataset


@dataclass(frozen=True)
class Reproduction:
    """What came of a cell that was run again.

    Attributes:
        cell: its name.
        folder: of the cell that was made.
        reason: why it failed; None if it did not.
        parts: encoder, predictions and scores, each compared with the record.
        circumstances: what is not as it was: versions, hardware, data, engine. They explain a difference.
        notes: what of the record could not be followed.
    """

    cell: str
    folder: Path
    reason: str | None
    parts: tuple[Compared, ...]
    circumstances: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether everything came out the same, to the bit."""
        return self.reason is None and all(part.same for part in self.parts)


def reproduce(cell: Path, options: Options, progress: Progress | None = None) -> Reproduction:
    """Run a cell again and compare; called again, it goes on where it was interrupted.

    The encoder is pretrained anew, also where the cell was judged with one that was there before.

    Args:
        cell: its folder, ``RUN/cells/CELL``.
        options: where the work is done; without ``out``, in ``reproduce-CELL`` beside the run; without ``root``, on the
            files that the run was made from.
        progress: hears how far it has come.

    Raises:
        RunError: there is no such cell, it failed, or what it was made from is gone or was changed.
        UserError: the data or the folder cannot be used.
        Interrupted, KeyboardInterrupt: a signal asked to stop; the same call goes on from there.
    """
    cell = cell.resolve()
    result, predictions = read_result(_cell(cell))
    _check(result, options)
    run = cell.parents[1]
    out = options.out or run.parent / f"reproduce-{result.cell}"
    if out.resolve() == run:
        raise RunError(f"{out} holds the cell that is to be reproduced; choose another --out")
    options = _completed(options, out, run, result)
    plan = _plan(result, options.root)
    outcome = execute(plan, options, progress)
    made = cells_folder(out) / plan.cells[0].name
    again, table = read_result(made)
    version = read_content(cell)["schema_version"]
    return Reproduction(
        result.cell,
        made,
        outcome.failures.get(again.cell),
        compared((cell, result, predictions), (made, again, table)) if again.status == "done" else (),
        tuple(circumstances(result, again)),
        (LACKING[version],) if version in LACKING else (),
    )


def _cell(folder: Path) -> Path:
    if not (folder / RESULT).is_file():
        raise RunError(f"{folder} holds no finished cell (it has no {RESULT}); name a folder RUN/cells/CELL")
    return folder


def _check(result: CellResult, options: Options) -> None:
    """Check that a result can be made again from what is there."""
    if result.status == "failed":
        raise RunError(f"cell {result.cell} failed ({result.reason}): it has no numbers to reproduce")
    check_sources(result.recipe)
    expected = result.recipe.sources.get(WEIGHTS)
    if expected is None:
        return
    if options.weights is None:
        raise RunError(f"cell {result.cell} started from a local file of weights (hash {expected}); give it: --weights")
    found = sources((), options.weights).get(WEIGHTS)
    if found != expected:
        there = "is not there" if found is None else f"is another one (hash {found})"
        raise RunError(f"cell {result.cell} started from weights of hash {expected}, and {options.weights} {there}")


def _completed(options: Options, out: Path, run: Path, result: CellResult) -> Options:
    """Options with what the record knows: the folder of the files, and the number of processes."""
    plan = read_plan(run) if (run / PLAN).is_file() else None
    recorded = plan.get("root") if plan else None
    return Options(
        root=options.root or (Path(recorded) if recorded else None),
        out=out,
        store=options.store,
        device=options.device,
        devices=result.engine.processes if result.engine else 1,
        weights=options.weights,
        checkpoint_seconds=options.checkpoint_seconds,
    )


def _plan(result: CellResult, root: Path | None) -> Plan:
    """A plan of this one cell."""
    recipe = settled(result)
    dataset = open_dataset(recipe.data.name, root, recipe.data.plane)
    experiment = Experiment.checked(
        {
            "methods": (recipe.method,),
            "backbones": (recipe.backbone,),
            "seeds": (recipe.seed,),
            "baselines": False,
            "data": {
                "name": recipe.data.name,
                "task": None if recipe.data.task is None else (recipe.data.task,),
                "plane": None if recipe.data.plane is None else (recipe.data.plane,),
                "folds": recipe.data.folds,
            },
            "view_size": recipe.view_size,
            **{name: getattr(recipe, name) for name in ("augment", "pretrain", "evaluate")},
            "method": {recipe.method: recipe.method_config},
            "backbone": {recipe.backbone: recipe.backbone_config},
        }
    )
    return Plan(experiment, {dataset.plane: dataset}, (Cell(recipe),))


def settled(result: CellResult) -> Recipe:
    """Return a result's recipe with what it left to trials ("auto") as they were decided: nothing is tried again."""
    engine, asked = result.engine, result.recipe.pretrain
    if engine is None:
        return result.recipe
    decided = {
        name: getattr(engine, name)
        for name in ("micro_batch", "precision", "channels_last", "compile")
        if getattr(asked, name) == "auto"
    }
    if "micro_batch" in decided:
        decided["keep"] = engine.keep
    pretrain = PretrainRecipe.checked({**asked.model_dump(), **decided}, "pretrain")
    return result.recipe.model_copy(update={"pretrain": pretrain})
