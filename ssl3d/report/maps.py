"""Maps of the embeddings of the test volumes: is there structure, and does it follow the label?"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ssl3d.report.material import Drawing, Place, Run, Section
from ssl3d.report.style import COLOURS, MARKERS, drawing, grid, plain, share_legend
from ssl3d.results.folder import features_folder
from ssl3d.results.records import CellResult
from ssl3d.tables.comparable import place

MOST = 2000  # volumes in a map
SEED = 20220800


def maps(run: Run) -> Section:
    """Draw a map of each method's test volumes, the first seed of each."""
    section = Section("maps", "Maps of the embeddings")
    found: dict[Place, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for cell, predictions in run.results:
        members = found.setdefault(place(cell), {})
        name = run.name_of_cell(cell)
        if cell.status != "done" or cell.features is None or name in members:
            continue
        points, note = _points(features_folder(run.folder) / Path(cell.features).name, cell, _labels(predictions))
        section.notes.extend([note] if note else [])
        if points is not None:
            members[name] = points
    section.drawings.extend(_drawn(run, where, members) for where, members in found.items() if members)
    if not section.drawings and not section.notes:
        section.notes.append("No features of the test volumes were kept in the run's folder, so there is no map.")
    return section


def project(x: np.ndarray) -> np.ndarray:
    """Return places (n, 2) in a map of features (n, F): t-SNE for n > 3, principal components for fewer.

    van der Maaten and Hinton 2008 (JMLR 9:2579), started from the principal components, with a fixed seed.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415  # slow to import, and only maps need it
    from sklearn.manifold import TSNE  # noqa: PLC0415

    x = (x - x.mean(0)).astype(np.float64)
    x /= np.abs(x).max()
    start = PCA(min(2, *x.shape), svd_solver="full").fit_transform(x)
    start = np.pad(start, ((0, 0), (0, 2 - start.shape[1])))
    if len(x) <= 3:
        return start
    scaled = start / start[:, 0].std() * 1e-4  # where scikit-learn starts, too
    tsne = TSNE(init=scaled.astype(np.float32), perplexity=min(30.0, (len(x) - 1) / 3), random_state=SEED, n_jobs=1)
    return np.asarray(tsne.fit_transform(x))


def _labels(predictions: pd.DataFrame | None) -> dict[str, int]:
    """Labels by case of the test volumes."""
    if predictions is None:
        return {}
    return dict(zip(predictions["case"], predictions["label"], strict=True))


def _points(
    path: Path, cell: CellResult, labels: Mapping[str, int]
) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Places (n, 2) and labels (n,) of the test volumes; or None, and why."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            ids, x = arrays["ids"].tolist(), arrays["x"]
    except FileNotFoundError:
        return None, f"{cell.cell}: its features ({path.name}) are not in the run's folder any more."
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return None, f"{cell.cell}: {path.name} cannot be read ({error})."
    places = [index for index, id in enumerate(ids) if id in labels][:MOST]
    x = x[places]
    if len(x) < 2 or not np.isfinite(x).all() or np.ptp(x, axis=0).max() == 0:
        return None, f"{cell.cell}: its features are the same for all test volumes, or not finite; there is no map."
    return (project(x), np.array([labels[ids[index]] for index in places])), ""


def _drawn(run: Run, where: Place, members: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Drawing:
    with drawing():
        figure, axes = grid(len(members), 3, (2.5, 2.6))
        for ax, (name, (points, labels)) in zip(axes, members.items(), strict=True):
            _panel(ax, points, labels)
            ax.set_title(plain(name, 26))
        share_legend(figure, axes, 6)
    return Drawing(
        f"map-{'-'.join(where)}",
        run.titled(where),
        "Each mark is a test volume, by colour and shape of its label. t-SNE of the frozen features of one seed: who "
        "is near whom says something, distances between groups and the axes do not.",
        f"Maps of the test volumes' features, one a method: {', '.join(members)}.",
        figure,
    )


def _panel(ax: Axes, points: np.ndarray, labels: np.ndarray) -> None:
    for k in np.unique(labels):
        chosen = points[labels == k]
        ax.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=16,
            marker=MARKERS[int(k) % len(MARKERS)],
            facecolor="none" if k == 0 else COLOURS[int(k) % len(COLOURS)],
            edgecolor=COLOURS[int(k) % len(COLOURS)],
            linewidth=0.9,
            alpha=0.85,
            label=f"label {k}",
        )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(True)
