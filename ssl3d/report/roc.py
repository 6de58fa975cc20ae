"""ROC curves with bands from a bootstrap over the test patients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ssl3d.evaluate.statistics.bootstrap import resample_cases
from ssl3d.report.material import Drawing, Run, Section, Subject, highest, shown_of, stem
from ssl3d.report.panels import Area, Panels
from ssl3d.report.style import MUTED, Look, plain
from ssl3d.tables.entry import Entry, Part

GRID = np.linspace(0, 1, 101)  # false positive rates at which curves are averaged
DRAWS = 1000
SEED = 20220800  # fixed, so that figures are reproducible
VALUES = 20_000_000  # in one array of resamples: 160 MB


def roc(run: Run) -> Section:
    """Draw the ROC curves of each data set, task, plane and protocol, one panel per method."""
    section = Section("roc", "ROC curves")
    section.drawings.extend(_drawn(run, *scored) for scored in run.with_auc())
    if not section.drawings:
        section.notes.append("No method has an AUC, so there is no ROC curve.")
    return section


def band(parts: Sequence[Part], draws: int = DRAWS) -> np.ndarray:
    """Return a ROC curve and its pointwise 95% band, on :data:`GRID`.

    Patients are drawn within fold and class. Curves are averaged over seeds and folds at equal false positive rates,
    and for K > 2 over classes, each against the rest.

    Args:
        parts: one per fold, with every class present.
        draws: number of bootstrap draws; fewer for large test sets.

    Returns:
        (3, 101): true positive rates, their lower and their upper limit.
    """
    draws = resamples(parts, draws)
    rng = np.random.default_rng(SEED)
    curves = np.mean([_resampled(part, draws, rng) for part in parts], axis=0)  # (1 + draws, 101)
    return np.vstack([curves[:1], np.quantile(curves[1:], [0.025, 0.975], axis=0)])


def resamples(parts: Sequence[Part], draws: int = DRAWS) -> int:
    """Return how many resamples :func:`band` uses: fewer for large test sets, but at least 100."""
    return max(100, min(draws, VALUES // max(len(part.labels) for part in parts)))


def _resampled(part: Part, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the curve on the test cases, then on each resample of them."""
    weights = np.vstack([np.ones(len(part.labels)), resample_cases(part.labels, draws, rng, part.patients)])
    K = part.probabilities.shape[2]
    classes = (1,) if K == 2 else range(K)
    found = [_curves(part.labels == k, p[:, k], weights) for p in part.probabilities for k in classes]
    return np.asarray(np.mean(found, axis=0))


def _curves(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return true positive rates (draws, 101) in each resample; ties are one step, joined by a straight line."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # the last of each run of equal scores
    rates = []
    for members in (~positive, positive):
        found = (weights * members)[:, order].cumsum(axis=1)
        rates.append(np.pad(found[:, ends] / found[:, -1:], ((0, 0), (1, 0))))
    return np.stack([np.interp(GRID, false, true) for false, true in zip(*rates, strict=True)])


def _drawn(run: Run, subject: Subject, protocol: str, entries: list[Entry]) -> Drawing:
    every = [run.name_of_entry(entry) for entry in entries]
    names = highest(every)
    entries = [entry for entry in entries if run.name_of_entry(entry) in names]
    bands = [band(entry.parts) for entry in entries]
    titles = [f"{plain(run.name_of_entry(entry), 24)}\nAUC {entry.score:.3f}" for entry in entries]
    looks = [run.looks[run.name_of_entry(entry)] for entry in entries]
    used = "\N{EN DASH}".join(map(str, sorted({resamples(entry.parts) for entry in entries})))
    several = " Several seeds or folds: their mean." if max(len(entry.done) for entry in entries) > 1 else ""
    return Drawing(
        stem("roc", *subject, protocol),
        run.titled(subject, protocol),
        f"Each method's curve with a pointwise 95% band ({used} resamples of the test patients; seeds are not part of "
        f"it); thin grey lines are the other methods, the diagonal is chance.{several}{shown_of(names, every)}",
        "ROC curves: " + ", ".join(f"{run.name_of_entry(entry)} with AUC {entry.score:.3f}" for entry in entries) + ".",
        Panels(
            [
                partial(_panel, bands=bands, index=index, title=title, look=look)
                for index, (title, look) in enumerate(zip(titles, looks, strict=True))
            ],
            3.9,
            stretch=False,
        ),
    )


def _panel(figure: Area, bands: Sequence[np.ndarray], index: int, title: str, look: Look) -> None:
    ax = figure.subplots()
    curve, low, high = bands[index]
    for other in (*bands[:index], *bands[index + 1 :]):
        ax.plot([0, *GRID[::2]], [0, *other[0][::2]], color=MUTED, linewidth=0.6, alpha=0.6)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.fill_between(GRID, low, high, color=look.colour, alpha=0.22, linewidth=0)
    ax.plot([0, *GRID], [0, *curve], color=look.colour)
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_aspect("equal")
    ax.set_title(title)
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
