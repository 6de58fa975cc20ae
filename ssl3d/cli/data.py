"""``ssl3d data``: check, pack and generate volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssl3d.cli.options import PATH

if TYPE_CHECKING:
    from ssl3d.dataset import Dataset

NAME = click.option("--data", "name", required=True, help="Data set: mrnet, medmnist3d:adrenalmnist3d, folder.")
ROOT = click.option("--root", type=PATH, help="Folder of its files.")


@click.group()
def data() -> None:
    """Check, pack or generate data."""


@data.command()
@NAME
@ROOT
@click.option("--plane", help="Plane of the exam, or all.")
@click.option("--folds", type=click.IntRange(min=2), help="Outer folds, in place of the data set's own split.")
def check(name: str, root: Path | None, plane: str | None, folds: int | None) -> int:
    """Read every volume and table of a data set, list all faults with file and row, and say what it holds."""
    from ssl3d.data.check import check as check_dataset  # noqa: PLC0415  # help must not wait for numpy

    number = 0
    for dataset in _planes(name, root, plane):
        checked = check_dataset(dataset, folds)
        for fault in checked.faults:
            click.echo(fault)
        for note in checked.notes:
            click.echo(f"note: {note}")
        for line in checked.summary:
            click.echo(line)
        click.echo(f"{dataset.name}: {_count(len(checked.faults), 'fault')}.", err=bool(checked.faults))
        number += len(checked.faults)
    return 1 if number else 0


@data.command()
@NAME
@ROOT
@click.option("--plane", help="Plane of the exam, or all.")
@click.option(
    "--cache", type=PATH, required=True, envvar="SSL3D_CACHE", help="Folder that runs share; `ssl3d bench --cache`."
)
def pack(name: str, root: Path | None, plane: str | None, cache: Path) -> None:
    """Pack volumes into a cache, for many runs: memory-mapped, checked, resumable. A run packs what is not there."""
    from ssl3d.results.folder import RunFolder  # noqa: PLC0415
    from ssl3d.run.planning.datasets import DataPlane  # noqa: PLC0415
    from ssl3d.run.volumes import store_folder  # noqa: PLC0415

    for dataset in _planes(name, root, plane):
        _pack(dataset, store_folder(RunFolder(cache).stores, DataPlane(name, dataset)))


def _pack(dataset: Dataset, folder: Path) -> None:
    from ssl3d.data.pack import pack as pack_volumes  # noqa: PLC0415

    with click.progressbar(length=len(dataset.cases()), label=f"packing {dataset.name}") as bar:
        store = pack_volumes(dataset, folder, lambda done, _: bar.update(done - bar.pos), (), click.echo)
    volumes, megabytes = _count(len(store), "volume"), store.manifest.size / 1e6
    click.echo(f"{folder}: {volumes}, {megabytes:.1f} MB, fingerprint {store.fingerprint[:10]}")


@data.command()
@click.option("--out", type=PATH, required=True, help="Folder to write, in MRNet's layout.")
@click.option(
    "--size", type=click.IntRange(min=16), default=48, show_default=True, help="Rows and columns (MRNet: 256)."
)
@click.option("--train", type=click.IntRange(min=4), default=160, show_default=True, help="Training exams.")
@click.option("--valid", type=click.IntRange(min=4), default=80, show_default=True, help="Validation exams.")
def demo(out: Path, size: int, train: int, valid: int) -> None:
    """Write generated, synthetic knees in MRNet's layout: to try things on, without clinical meaning."""
    from ssl3d.data.sets.demo import write_demo  # noqa: PLC0415

    with click.progressbar(length=3 * (train + valid), label="three planes of synthetic exams") as bar:
        write_demo(out, size=size, cases=(train, valid), progress=lambda done, _: bar.update(done - bar.pos))
    click.echo(f"{out}: {train} + {valid} synthetic exams; try: ssl3d bench --data mrnet --root {out}")


def _planes(name: str, root: Path | None, plane: str | None) -> list[Dataset]:
    """Return a data set in one plane, or in all of them."""
    from ssl3d.run.planning.datasets import dataset_class, open_dataset  # noqa: PLC0415

    if plane != "all":
        return [open_dataset(name, root, plane)]
    return [open_dataset(name, root, each or None) for each in dataset_class(name).planes]


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
