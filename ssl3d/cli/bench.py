"""``ssl3d bench``: pretrain, judge, tabulate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Listed(click.ParamType[Any]):
    """A comma-separated list, each part of which is converted alike."""

    def __init__(self, name: str = "NAME,...", of: Callable[[str], Any] = str, what: str = "names") -> None:
        self.name, self.of, self.what = name, of, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Split at commas, drop white space, and convert."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",") if part.strip()]
        if not parts:
            self.fail("needs at least one name", param, ctx)
        try:
            return tuple(map(self.of, parts))
        except ValueError:
            return self.fail(f"{value!r} is not a list of {self.what}", param, ctx)


NAMES = Listed()
SHARES = Listed("SHARE,...", float, "numbers")
FOLDER = click.Path(path_type=Path)
FIELDS = {  # options that are recipe fields, by the option's name in Python
    "methods": "methods",
    "backbones": "backbones",
    "seeds": "seeds",
    "data": "data.name",
    "task": "data.task",
    "plane": "data.plane",
    "folds": "data.folds",
    "epochs": "pretrain.epochs",
    "batch_size": "pretrain.batch_size",
    "micro_batch": "pretrain.micro_batch",
    "accumulation": "pretrain.accumulation",
    "precision": "pretrain.precision",
    "protocols": "evaluate.protocols",
    "labels": "evaluate.labels",
    "imbalance": "evaluate.imbalance",
    "baselines": "baselines",
}


@click.command()
@click.option("--methods", type=NAMES, help="Methods to pretrain with.  [default: byol,simclr]")
@click.option("--backbones", type=NAMES, help="Networks to pretrain.  [default: tiny]")
@click.option("--data", help="Data set: demo, mrnet, medmnist3d:adrenalmnist3d, folder.  [default: demo]")
@click.option("--root", type=FOLDER, help="Folder of the data set's files.")
@click.option("--task", type=NAMES, help="Labels to predict (mrnet: acl, meniscus, abnormal), or all.")
@click.option("--plane", type=NAMES, help="Planes of the exam (mrnet: sagittal, coronal, axial), or all.")
@click.option("--folds", type=int, help="Cross-validation with so many folds, in place of the data set's own split.")
@click.option("--recipe", type=FOLDER, help="TOML file with any recipe field; options win over it.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any recipe field; may be repeated.")
@click.option("--epochs", type=int, help="Passes over the training volumes.")
@click.option("--batch-size", type=int, help="Effective batch: volumes behind one optimiser step.")
@click.option("--micro-batch", help="Volumes on the device at one time, or auto.  [default: the effective batch]")
@click.option("--accumulation", help="exact, or plain: a loss for each micro-batch.  [default: exact]")
@click.option("--seeds", type=Listed("N,...", int, "whole numbers"), help="Repetitions.  [default: 0]")
@click.option("--protocols", type=NAMES, help="linear, knn, finetune.  [default: linear,knn]")
@click.option("--labels", type=SHARES, help="Judge with these shares of the training labels, too: 0.01,0.1.")
@click.option("--imbalance", type=SHARES, help="Judge with these shares of positives among them, too: 0.5,0.05.")
@click.option("--baselines/--no-baselines", default=None, help="Add the untrained and Kinetics baselines.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--devices", type=int, default=1, show_default=True, help="Processes that share every effective batch.")
@click.option("--precision", help="32-true, bf16-mixed, 16-mixed, 64-true or auto.  [default: 32-true]")
@click.option("--tune", is_flag=True, help="Choose micro-batch, precision, memory layout and compiler by trial.")
@click.option("--weights", type=FOLDER, help="Local file of pretrained weights, in place of a download.")
@click.option("--encoders", type=FOLDER, multiple=True, help="Take encoders from this run, too; may be repeated.")
@click.option("--out", type=FOLDER, help="Folder of the run.  [default: runs/DATA-HASH]")
@click.option("--store", type=FOLDER, help="Folder of packed volumes, shared by runs.  [default: in the run's folder]")
@click.option("--resume/--fresh", default=True, help="Go on with what the folder holds (default), or begin anew.")
@click.option("--dry-run", is_flag=True, help="Print the cells and what each will cost; run nothing.")
@click.option("--quiet", is_flag=True, help="Print nothing but the leaderboard and errors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: progress, then the leaderboard.")
def bench(
    *,
    root: Path | None,
    recipe: Path | None,
    sets: tuple[str, ...],
    device: str,
    devices: int,
    weights: Path | None,
    encoders: tuple[Path, ...],
    out: Path | None,
    store: Path | None,
    resume: bool,
    tune: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **fields: Any,
) -> int:
    """Pretrain each method, judge it downstream, and write leaderboard tables.

    Without --data it runs on generated, synthetic volumes. Every run is a folder; the same command goes on with what
    the folder holds, and cells that are done are not done again.

    \b
    ssl3d bench --methods byol,simclr
    ssl3d bench --data mrnet --root MRNet-v1.0 --task acl --methods byol,moco --backbones r3d_18 --micro-batch 8
    """  # noqa: D301  # click takes a backspace as "do not rewrap"
    from ssl3d.experiment import TUNED, read_experiment  # noqa: PLC0415  # help must not wait for pydantic

    given = {FIELDS[name]: value for name, value in fields.items()}
    experiment = read_experiment(recipe, given, sets, TUNED if tune else None)

    from ssl3d.cli.show_run import run_and_show  # noqa: PLC0415  # nor a typo for torch
    from ssl3d.run.options import Options  # noqa: PLC0415

    options = Options(
        root=root,
        out=out,
        store=store,
        device=device,
        devices=devices,
        weights=weights,
        encoders=encoders,
        fresh=not resume,
    )
    return run_and_show(experiment, options, dry_run=dry_run, quiet=quiet, as_json=as_json)
