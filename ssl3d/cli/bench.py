"""``ssl3d bench``: pretrain, evaluate, tabulate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ssl3d.cli.options import PATH, Grouped, Listed, Numbers, Root, group, option

NAMES = Listed()
SHARES = Listed("SHARE,...", float, "numbers")
FIELDS = {  # options that are recipe fields, by the option's name in Python
    "methods": "methods",
    "backbones": "backbones",
    "seeds": "seeds",
    "controls": "controls",
    "data": "data.name",
    "task": "data.task",
    "plane": "data.plane",
    "folds": "data.folds",
    "corpus": "corpus",
    "init": "init.weights",
    "epochs": "pretrain.epochs",
    "batch_size": "pretrain.batch_size",
    "micro_batch": "pretrain.micro_batch",
    "accumulation": "pretrain.accumulation",
    "precision": "pretrain.precision",
    "protocols": "evaluate.protocols",
    "readouts": "evaluate.readouts",
    "labels": "evaluate.labels",
    "imbalance": "evaluate.imbalance",
}


@click.command(cls=Grouped)
@group(
    "What is compared",
    option("--methods", type=NAMES, help="Methods to pretrain with.  [default: byol,simclr]"),
    option("--backbones", type=NAMES, help="Networks to pretrain.  [default: tiny]"),
    option("--seeds", type=Numbers(), help="Repetitions: 0,1,2 or 0-4.  [default: 0-2]"),
    option("--controls", type=NAMES, help="Controls beside them: names, all, or none.  [default: all possible]"),
)
@group(
    "Data",
    option(
        "--data", type=NAMES, help="Data sets to evaluate on: demo, mrnet, medmnist3d:..., folder.  [default: demo]"
    ),
    option("--root", "roots", type=Root(), multiple=True, help="Folder of a data set's files; repeat for several."),
    option("--task", type=NAMES, help="Targets to predict, or all.  [default: the data set's first]"),
    option("--plane", type=NAMES, help="Planes of the exam, or all.  [default: the data set's first]"),
    option("--folds", type=int, help="Cross-validation with so many folds, in place of the data set's own split."),
    option("--corpus", type=NAMES, help="Data sets to pretrain on.  [default: the training split of the evaluated]"),
)
@group(
    "Pretraining",
    option("--epochs", type=int, help="Passes over the training volumes.  [default: 100; demo: 6]"),
    option(
        "--batch-size", type=int, help="Effective batch: volumes behind one optimiser step.  [default: 64; demo: 16]"
    ),
    option("--micro-batch", help="Volumes on the device at once, or auto.  [default: the effective batch]"),
    option("--accumulation", help="exact, or plain: one loss per micro-batch.  [default: exact]"),
    option("--precision", help="32-true, bf16-mixed, 16-mixed, 64-true or auto.  [default: 32-true]"),
    option("--tune", is_flag=True, help="Choose micro-batch, precision, memory layout and compiler by trial."),
    option("--tune-lr", is_flag=True, help="Choose each method's learning rate on the training split, of 3 by trial."),
    option(
        "--init",
        metavar="NAME|FILE",
        help="Published weights, or a file, that the methods start from.",
    ),
)
@group(
    "Evaluation",
    option("--protocols", type=NAMES, help="How encoders are evaluated.  [default: linear,knn]"),
    option(
        "--readout", "readouts", type=NAMES, help="Features that the training cases choose from.  [default: last,multi]"
    ),
    option("--labels", type=SHARES, help="Evaluate with these shares of the training labels, too: 0.01,0.1."),
    option("--imbalance", type=SHARES, help="Evaluate with these shares of positives among them, too: 0.5,0.05."),
)
@group(
    "Any other setting",
    option("--recipe", type=PATH, help="TOML file with any recipe field; options win over it."),
    option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any recipe field; may be repeated."),
)
@group(
    "Where and how",
    option("--out", type=PATH, help="Folder of the run.  [default: runs/DATA-HASH]"),
    option("--cache", type=PATH, help="Folder of volumes, encoders and features shared by runs.  [env: SSL3D_CACHE]"),
    option("--resume/--fresh", default=True, help="Go on with what the folder holds (default), or start again."),
    option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    option("--devices", type=int, default=1, show_default=True, help="Processes that share every effective batch."),
    option(
        "--jobs",
        type=int,
        default=1,
        show_default=True,
        help="Workers on this machine, an artifact each; they share GPUs and cores. 0 only plans and packs.",
    ),
    option("--launcher", type=click.Choice(["slurm"]), help="Submit the workers to a cluster, and return."),
    option("--report/--no-report", default=True, help="Write report.html at the end (default), or leave it out."),
    option("--dry-run", is_flag=True, help="Print what would be made and its cost; run nothing."),
    option("--quiet", is_flag=True, help="Print nothing but the leaderboard and errors."),
    option("--json", "as_json", is_flag=True, help="Print one JSON object per line: progress, then the leaderboard."),
)
def bench(
    *,
    roots: tuple[tuple[str, Path], ...],
    recipe: Path | None,
    sets: tuple[str, ...],
    out: Path | None,
    cache: Path | None,
    device: str,
    devices: int,
    jobs: int,
    launcher: str | None,
    resume: bool,
    tune: bool,
    tune_lr: bool,
    report: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **fields: Any,
) -> int:
    """Pretrain methods, evaluate their encoders, and write leaderboard tables.

    Without --data it runs on generated, synthetic volumes. Every run is a folder; the same command goes on with what
    the folder holds, nothing complete is computed again, and several processes may work on one folder (`ssl3d work`).
    On a cluster, --launcher submits --jobs workers with the resources of [launcher] in the recipe file.
    With --jobs, workers on a CPU have fewer threads each; their number decides the last digits, and is recorded.

    \b
    ssl3d bench --methods byol,simclr
    ssl3d bench --data mrnet --root MRNet-v1.0 --task acl --methods byol,moco --backbones r3d_18 --micro-batch 8
    """  # noqa: D301  # click takes a backspace as "do not rewrap"
    from ssl3d.experiment import TUNED, TUNED_LR, read_experiment  # noqa: PLC0415  # help must not wait for pydantic
    from ssl3d.run.launch.settings import read_launcher  # noqa: PLC0415

    given = {FIELDS[name]: value for name, value in fields.items()}
    chosen = {**(TUNED if tune else {}), **(TUNED_LR if tune_lr else {})}
    experiment = read_experiment(recipe, given, sets, chosen)
    where = None if launcher is None else (launcher, read_launcher(recipe, sets))

    from ssl3d.cli.show_run import run_and_show  # noqa: PLC0415  # nor a typo for torch
    from ssl3d.run.options import Options, shared_cache  # noqa: PLC0415

    options = Options(
        roots=_by_name(roots),
        out=out,
        cache=cache or shared_cache(),
        device=device,
        devices=devices,
        jobs=jobs,
        fresh=not resume,
    )
    if where is not None:
        from ssl3d.cli.launch import launch_and_show  # noqa: PLC0415

        return launch_and_show(experiment, options, *where, dry_run=dry_run, quiet=quiet, as_json=as_json)
    return run_and_show(experiment, options, report=report, dry_run=dry_run, quiet=quiet, as_json=as_json)


def _by_name(roots: tuple[tuple[str, Path], ...]) -> dict[str, Path]:
    """Return roots by the name of the data set.

    Raises:
        RecipeError: a data set has two.
    """
    from ssl3d.errors import RecipeError  # noqa: PLC0415

    found: dict[str, Path] = {}
    for name, path in roots:
        if found.setdefault(name, path) != path:
            raise RecipeError(
                f"--root names two folders{f' of {name!r}' if name else ''}; write --root NAME=PATH for each"
            )
    return found
