"""report.html: one file that opens offline, and that no name in the data can turn into anything else."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ssl3d.errors import RecipeError
from ssl3d.experiment import read_experiment
from ssl3d.report.figures import sections
from ssl3d.report.material import Run
from ssl3d.report.style import to_svg
from ssl3d.report.table import paired, ranked
from ssl3d.report.words import doubts, findings
from ssl3d.results.files import write_atomic
from ssl3d.results.folder import RECIPE
from ssl3d.run.merge_requests import beyond, words
from ssl3d.tables.render import departures

REPORT = "report.html"
HERE = Path(__file__).parent


def write_report(run: Path, out: Path | None = None, volumes: bool = True) -> Path:
    """Write the report of a run.

    Args:
        run: folder of the run.
        out: file to write; ``RUN/report.html`` if None.
        volumes: show slices of volumes; they are parts of the data set, whose terms may forbid passing them on.

    Returns:
        The file.

    Raises:
        RunError: the run cannot be read, or the file cannot be written.
    """
    out = out or run / REPORT
    write_atomic(out, render(Run.read(run), volumes))
    return out


def render(run: Run, volumes: bool = True) -> str:
    """Return the report as HTML."""
    style, script = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["coded"] = _coded
    return environment.get_template("page.html.j2").render(
        run=run,
        facts=facts(run),
        ranked=ranked(run),
        paired=paired(run),
        findings=findings(run),
        most_derived=run.board["protocol"].nunique(),  # sentences about the last task and plane
        doubts=doubts(run),
        departures=departures(run.board),
        sections=list(sections(run, volumes)),
        svg=lambda figure: Markup(to_svg(figure, page=True)),  # noqa: S704  # matplotlib escapes texts in it
        recipe=_recipe(run),
        commands=_commands(run),
        style=Markup(style),  # noqa: S704  # our own file
        script=Markup(script),  # noqa: S704  # our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=version("ssl3d"),
    )


def _coded(text: str) -> Markup:
    """Escape a text, and set what stands between backquotes as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before


def facts(run: Run) -> dict[str, Any]:
    """Return what the head of the page says of the data and the machine, each different value once."""
    data = [cell.data for cell in run.done if cell.data is not None]
    asked = [cell.recipe.data for cell, _ in run.results]

    def each(get: Callable[[Any], Any], records: list[Any]) -> list[str]:
        return list(dict.fromkeys(str(get(record)) for record in records if get(record) not in (None, "")))

    cells = run.done or run.failed
    versions = dict.fromkeys(item for cell in cells for item in cell.versions.items())
    return {
        "data": each(lambda d: d.name, data) or each(lambda d: d.name, asked),
        "tasks": each(lambda d: d.task, data) or each(lambda d: d.task, asked),
        "planes": each(lambda d: d.plane, data) or each(lambda d: d.plane, asked),
        "train": each(lambda d: d.n_train, data),
        "test": each(lambda d: d.n_test, data),
        "classes": each(lambda d: d.classes, data),
        "seeds": each(lambda c: c.recipe.seed, run.done),
        "fingerprints": each(lambda d: d.fingerprint, data),
        "synthetic": any(d.synthetic for d in data),
        "backbones": each(lambda c: c.recipe.backbone, run.done),
        "devices": each(lambda c: c.price.device, run.done),
        "finished": max((cell.finished_at for cell, _ in run.results), default=""),
        "versions": list(versions),
    }


def _recipe(run: Run) -> str:
    path = run.folder / RECIPE
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def _again(run: Run) -> str:
    """What running recipe.toml does: everything again, and what no call asked for where there were several."""
    said = "runs everything again, into another folder"
    path = run.folder / RECIPE
    if not path.is_file():
        return said
    try:
        more = beyond(read_experiment(path), [cell.recipe.model_dump(mode="json") for cell, _ in run.results])
    except RecipeError as error:
        return f"cannot be run: {error}"
    if not more:
        return said
    rest = f", and {len(more) - 3} more" if len(more) > 3 else ""
    return f"{said}, and adds what is not in this one: {'; '.join(map(words, more[:3]))}{rest}"


def _commands(run: Run) -> list[tuple[str, str]]:
    """What to type, and what it does."""
    folder = shlex.quote(str(run.folder))
    cell = shlex.quote(str(run.folder / "cells" / run.results[0][0].cell))
    root = "" if run.results[0][0].recipe.data.name == "demo" else " --root FOLDER"
    return [
        (f"ssl3d bench --recipe {folder}/{RECIPE}{root} --out AGAIN", _again(run)),
        (f"ssl3d reproduce {cell}", "runs one cell again from its own record, and says whether the numbers agree"),
        (f"ssl3d verify {folder}", "computes every score again from predictions.csv"),
        (f"ssl3d leaderboard {folder} --format latex", "prints the table for a paper"),
        (f"ssl3d plot {folder}", "writes these figures as PNG and SVG"),
    ]
