"""The test cases that methods disagree on most, with their slices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from ssl3d.report.material import Drawing, Run, Section, Subject, highest, shown_of, stem
from ssl3d.report.panels import Area, Panels, marks
from ssl3d.report.style import MUTED, plain
from ssl3d.report.volumes import Pictures, strip, window
from ssl3d.results.model import EvaluationRecord
from ssl3d.results.predictions import probabilities_of, targets_of
from ssl3d.results.results import Evaluated

MOST = 5  # cases of one task, plane and protocol
ROW = ["case", "what", "target"]  # of a table of predictions


def cases(run: Run, pictures: Pictures | None) -> Section:
    """Draw the cases with the largest spread of predictions; without slices if ``pictures`` is None."""
    section = Section("cases", "Cases that methods disagree on most")
    missing = False
    for subject, record, table in _tables(run):
        if len(table.columns) < 2:
            continue
        volumes = pictures.by_id(record) if pictures else {}
        missing |= pictures is not None and not volumes
        section.drawings.append(_drawn(run, subject, record, disagreements(table), volumes))
    if not section.drawings:
        section.notes.append("It takes two methods on the same cases to disagree.")
    if missing:
        section.notes.append("The packed volumes are not where the run had them, so their slices cannot be shown.")
    return section


def disagreements(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of predictions, one column per method, with the largest spread, largest first."""
    spread = (table.max(axis=1) - table.min(axis=1)).to_numpy()
    return table.iloc[np.argsort(-spread, kind="stable")[:MOST]]


def _tables(run: Run) -> list[tuple[Subject, EvaluationRecord, pd.DataFrame]]:
    """Return each subject's predictions under its first protocol, by case and method, averaged over seeds."""
    found: dict[Subject, list[pd.DataFrame]] = {}
    first: dict[Subject, EvaluationRecord] = {}
    for one in run.whole():
        recipe = one.record.recipe
        subject = recipe.data, recipe.task, recipe.plane or ""
        protocol = first.setdefault(subject, one.record).recipe.protocol
        if recipe.protocol == protocol:
            found.setdefault(subject, []).append(_long(one).assign(name=run.name_of_encoder(one.encoder)))
    return [(key, first[key], _wide(pd.concat(parts))) for key, parts in found.items()]


def _long(one: Evaluated) -> pd.DataFrame:
    """Return one row per case (and label of a multi-label task): the shown prediction, and the truth."""
    task, p, targets = one.record.data.task, probabilities_of(one.predictions), targets_of(one.predictions)
    ids = one.predictions["case"].to_numpy()
    if task.kind == "multilabel":
        N, L = p.shape
        named = {"case": np.repeat(ids, L), "what": list(task.classes) * N}
        return pd.DataFrame({**named, "target": targets.ravel().astype(str), "p": p.ravel()})
    if task.kind == "regression":
        return pd.DataFrame({"case": ids, "what": "", "target": [f"{y:g}" for y in targets], "p": p[:, 0]})
    shown = p[:, 1] if task.kind == "binary" else p[np.arange(len(p)), targets]
    return pd.DataFrame({"case": ids, "what": "", "target": [task.classes[k] for k in targets], "p": shown})


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per case and target, one column per method; methods that lack a case are left out."""
    return rows.pivot_table(index=ROW, columns="name", values="p", aggfunc="mean", sort=False).dropna(axis=1)


def _drawn(
    run: Run,
    subject: Subject,
    record: EvaluationRecord,
    table: pd.DataFrame,
    volumes: Mapping[str, np.ndarray],
) -> Drawing:
    limits = (-0.03, 1.03) if record.data.task.kind != "regression" else _limits(table.to_numpy())
    ranked = [name for name in map(run.name_of_row, run.rows) if name in table.columns]
    names = highest([*ranked, *table.columns])
    panels = [
        partial(
            _panel,
            run=run,
            title=f"case {plain(id, 24)}\n{plain(what) or 'target'} {plain(target)}",
            p=dict(zip(names, p, strict=True)),
            limits=limits,
            volume=volumes.get(id),
            axis=_axis(record),
        )
        for (id, what, target), p in zip(table.index, table[names].to_numpy(), strict=True)
    ]
    legend = {name: {**mark, "linestyle": "none"} for name, mark in marks(run.looks, names).items()}
    slices = ", with slices at a quarter, a half and three quarters of the volume" if volumes else ""
    left_out = shown_of(names, table.columns, "that come first in the ranking; the spread is that of all")
    return Drawing(
        stem("cases", *subject, record.recipe.protocol),
        run.titled(subject, record.recipe.protocol),
        f"The largest spread of the prediction among methods (mean over seeds){slices}. They were chosen for it, and "
        f"do not stand for the other test cases.{left_out}",
        f"{len(table)} test cases with each method's prediction: {', '.join(id for id, *_ in table.index)}.",
        Panels(panels, 0.9 + 0.2 * len(names) + (1.2 if volumes else 0.0), legend=legend),
    )


def _axis(record: EvaluationRecord) -> str:
    """Return the predicted quantity, as the title of an axis."""
    task = record.data.task
    if task.kind == "regression":
        return f"predicted {plain(task.name)}{f' ({plain(task.unit)})' if task.unit else ''}"
    named = {"binary": plain(task.classes[-1]), "multilabel": "the label"}
    return f"predicted probability of {named.get(task.kind, 'the true class')}"


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the range of values, with a margin."""
    margin = 0.03 * (float(np.ptp(values)) or 1.0)
    return float(values.min()) - margin, float(values.max()) + margin


def _panel(
    figure: Area,
    *,
    run: Run,
    title: str,
    p: Mapping[str, float],
    limits: tuple[float, float],
    volume: np.ndarray | None,
    axis: str,
) -> None:
    """Draw one case: its slices, and below one mark per method, on an axis with the same limits for all cases."""
    if volume is None:
        first = ax = figure.subplots()
    else:
        first, ax = figure.subplots(2, 1, height_ratios=[1.2, 0.4 + 0.2 * len(p)])
        strip(first, volume, window(volume))
    first.set_title(title)
    for height, (name, prediction) in enumerate(p.items()):
        look = run.looks[name]
        ax.plot([prediction], [height], look.marker, color=look.colour, markersize=7)
    ax.axvline(sum(limits) / 2, color=MUTED, linewidth=0.7)
    ax.set_xlim(*limits)
    ax.set_ylim(len(p) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_xlabel(axis)
    ax.spines["left"].set_visible(False)
