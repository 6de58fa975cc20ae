"""report.html: one file that opens offline, with all text from the data escaped."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ssl3d.errors import RecipeError
from ssl3d.experiment import read_experiment
from ssl3d.files import write_atomic
from ssl3d.report.figures import sections
from ssl3d.report.material import Run, Section
from ssl3d.report.next_steps import next_steps
from ssl3d.report.tables.further import further
from ssl3d.report.tables.over_tasks import summed
from ssl3d.report.tables.pairs import PAIRS, paired
from ssl3d.report.tables.ranking import ranked
from ssl3d.report.words import doubts, findings, primary_comparison
from ssl3d.results.folder import PREDICTIONS, RECIPE, REPORT
from ssl3d.results.model import CorpusRecord
from ssl3d.run.planning.merge_requests import beyond, words
from ssl3d.tables.formats.captions import departures

HERE = Path(__file__).parent


def write_report(
    run: Path,
    out: Path | None = None,
    volumes: bool = True,
    announce: Callable[[str], None] | None = None,
    allow_code: bool = False,
) -> Path:
    """Write the report of a run.

    Args:
        run: folder of the run.
        out: file to write; ``RUN/report.html`` if None.
        volumes: show slices of volumes; these are part of the data set, whose terms may forbid redistribution.
        announce: called with the title of each section once it is drawn.
        allow_code: also import plugins that the run names by file or module.

    Returns:
        The file.

    Raises:
        RunError: the run cannot be read, or the file cannot be written.
    """
    out = out or run / REPORT
    write_atomic(out, render(Run.read(run, allow_code), volumes, announce))
    return out


def render(run: Run, volumes: bool = True, announce: Callable[[str], None] | None = None) -> str:
    """Return the report as HTML; the arguments are those of :func:`write_report`."""
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
        further=further(run),
        summed=summed(run),
        primary=primary_comparison(run),
        findings=findings(run),
        headlines=sum(subject in run.headlines for subject, _, rows in run.by_table() if rows[0]["score"] is not None),
        next_steps=next_steps(run),
        most_pairs=PAIRS,
        doubts=doubts(run),
        departures=departures(run.board),
        labelled=any(row["labels_used"] for row in run.rows),
        sections=list(_announced(sections(run, volumes), announce)),
        svg=Markup,  # matplotlib escapes the texts in its SVGs
        recipe=_recipe(run),
        commands=_commands(run),
        style=Markup(style),  # noqa: S704  # our own file
        script=Markup(script),  # noqa: S704  # our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=version("ssl3d"),
    )


def _announced(drawn: Iterable[Section], announce: Callable[[str], None] | None) -> Iterable[Section]:
    for section in drawn:
        if announce is not None:
            announce(section.title)
        yield section


def _coded(text: str) -> Markup:
    """Escape a text, and mark text between backquotes as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before


def facts(run: Run) -> dict[str, Any]:
    """Return the facts about data and machine in the head of the page, each distinct value once."""
    evaluated, planned = run.results.evaluated, [one.evaluation for one in run.results.failed]
    data = [one.record.data for one in evaluated]
    encoders = list(run.results.encoders.values())
    corpora = [encoder.corpus for encoder in encoders if encoder.corpus is not None]
    made = [*(one.record.made_by for one in evaluated), *(encoder.made_by for encoder in encoders)]

    def each(values: Iterable[Any]) -> list[str]:
        return list(dict.fromkeys(str(value) for value in values if value not in (None, "")))

    return {
        "data": each(d.name for d in data) or each(one.recipe.data for one in planned),
        "tasks": each(f"{d.task.name} ({d.task.kind})" for d in data) or each(one.recipe.task for one in planned),
        "corpora": each(map(_corpus, corpora)),
        "train": each(d.n_train for d in data),
        "test": each(d.n_test for d in data),
        "patients": each(d.n_test_patients if d.patients_known else "unknown" for d in data),
        "seeds": each(one.encoder.recipe.seed for one in evaluated),
        "fingerprints": each(d.fingerprint for d in data),
        "synthetic": any(d.synthetic for d in data),
        "backbones": each(one.encoder.recipe.backbone for one in evaluated),
        "devices": each(encoder.price.device for encoder in encoders),
        "finished": max((one.finished_at for one in made), default=""),
        "versions": list(dict.fromkeys(item for one in made for item in one.versions.items())),
    }


def _corpus(corpus: CorpusRecord) -> str:
    """Return a description of the pretraining volumes."""
    left_out = f", {corpus.excluded} left out because they or their patients are tested on" if corpus.excluded else ""
    return f"{corpus.name} ({corpus.volumes} volumes{left_out})"


def _recipe(run: Run) -> str:
    path = run.folder / RECIPE
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def _again(run: Run) -> str:
    """Return what running recipe.toml does: everything again, and combinations that no call requested, if any."""
    text = "runs everything again, into another folder"
    try:
        more = beyond(read_experiment(run.folder / RECIPE), run.plan)
    except RecipeError as error:
        return f"cannot be run: {error}"
    if not more:
        return text
    rest = f", and {len(more) - 3} more" if len(more) > 3 else ""
    return f"{text}, and adds what is not in this one: {'; '.join(map(words, more[:3]))}{rest}"


def _commands(run: Run) -> list[tuple[str, str]]:
    """Return commands to type, and what they do."""
    folder = shlex.quote(str(run.folder))
    roots = "".join(f" --root {shlex.quote(name)}=FOLDER" if name else " --root FOLDER" for name in run.plan.roots)
    found = [
        (f"ssl3d bench --recipe {folder}/{RECIPE}{roots} --out AGAIN", _again(run)),
        (f"ssl3d verify {folder}", f"computes every score again from {PREDICTIONS}, and checks every file"),
        (f"ssl3d leaderboard {folder} --format latex", "prints the table for a paper"),
        (f"ssl3d plot {folder}", "writes these figures as PNG and SVG"),
    ]
    folders = [one.folder for one in run.results.evaluated if one.folder is not None]
    if folders:
        line = f"ssl3d reproduce {shlex.quote(str(folders[0]))}"
        found.insert(1, (line, "makes one encoder and its evaluation again, and says whether the numbers agree"))
    return found
