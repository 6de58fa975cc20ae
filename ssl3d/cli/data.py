"""``ssl3d data``: check, pack and generate volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ssl3d.dataset import Dataset

FOLDER = click.Path(path_type=Path)


@click.group()
def data() -> None:
    """Check, pack or generate data."""


@data.command()
@click.option("--data", "name", required=True, help="Data set: mrnet, medmnist3d:adrenalmnist3d, folder.")
@click.option("--root", type=FOLDER, help="Folder of its files.")
@click.option("--plane", help="Plane of the exam.")
def check(name: str, root: Path | None, plane: str | None) -> int:
    """Read every volume and table of a data set, and list all faults, each with its file and row."""
    from ssl3d.data.check import check as faults_of  # noqa: PLC0415  # help must not wait for numpy

    dataset = _dataset(name, root, plane)
    faults = faults_of(dataset)
    for fault in faults:
        click.echo(fault)
    if faults:
        click.echo(f"{len(faults)} faults in {dataset.name}.", err=True)
        return 1
    cases = dataset.cases()
    splits = ", ".join(f"{split} {sum(c.split == split for c in cases)}" for split in sorted({c.split for c in cases}))
    click.echo(f"{dataset.name}: {len(cases)} volumes ({splits}), no faults.")
    return 0


@data.command()
@click.option("--data", "name", required=True, help="Data set: mrnet, medmnist3d:adrenalmnist3d, folder.")
@click.option("--root", type=FOLDER, help="Folder of its files.")
@click.option("--plane", help="Plane of the exam.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the packed store; `ssl3d bench --store` takes it.")
def pack(name: str, root: Path | None, plane: str | None, out: Path) -> None:
    """Pack volumes once, for many runs: memory-mapped, checked, resumable."""
    from ssl3d.data.pack import pack as pack_volumes  # noqa: PLC0415

    dataset = _dataset(name, root, plane)
    with click.progressbar(length=len(dataset.cases()), label=f"packing {dataset.name}") as bar:
        store = pack_volumes(dataset, out, lambda done, _: bar.update(done - bar.pos))
    megabytes = store.manifest.size / 1e6
    click.echo(f"{out}: {len(store)} volumes, {megabytes:.1f} MB, fingerprint {store.fingerprint[:10]}")


@data.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to write, in MRNet's layout.")
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


def _dataset(name: str, root: Path | None, plane: str | None) -> Dataset:
    from ssl3d.run.plan import open_dataset  # noqa: PLC0415

    return open_dataset(name, root, plane)
