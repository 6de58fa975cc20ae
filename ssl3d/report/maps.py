"""Maps of the embeddings of the test volumes: do they have structure, and does it follow the label?"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ssl3d.errors import RunError
from ssl3d.report.material import Drawing, Run, Section, Subject, stem
from ssl3d.report.style import COLOURS, MARKERS, drawing, grid, plain, share_legend
from ssl3d.results.feature_file import unpack_features
from ssl3d.results.folder import FEATURES, RECORDS, RunFolder
from ssl3d.results.model import FeaturesRecord
from ssl3d.results.records import read_file, read_record
from ssl3d.results.results import Evaluated
from ssl3d.task import Task

MOST = 2000  # volumes in a map
SEED = 20220800
Points = tuple[np.ndarray, np.ndarray]  # (n, 2) and their classes (n,)
Kept = Mapping[tuple[str, str], tuple[Path, FeaturesRecord]]  # by encoder and data set


def maps(run: Run) -> Section:
    """Draw a map of each method's test volumes, for its first seed."""
    section = Section("maps", "Maps of the embeddings")
    found: dict[Subject, dict[str, Points]] = {}
    tasks: dict[Subject, Task] = {}
    kept = _kept(run, section.notes)
    for one in run.whole():
        recipe, name = one.record.recipe, run.name_of_encoder(one.encoder)
        subject = recipe.data, recipe.task, recipe.plane or ""
        features = kept.get((one.encoder.key, one.record.data.name))
        if name in found.get(subject, {}) or features is None or not one.record.data.task.categorical:
            continue
        try:
            points = _points(*features, one)
        except RunError as error:
            section.notes.append(str(error))
            continue
        found.setdefault(subject, {})[name] = points
        tasks[subject] = one.record.data.task
    section.drawings.extend(_drawn(run, subject, tasks[subject], members) for subject, members in found.items())
    if not section.drawings and not section.notes:
        section.notes.append("No features of test volumes with a class are in the run's folder, so there is no map.")
    return section


def project(x: np.ndarray) -> np.ndarray:
    """Return coordinates (n, 2) in a map of features (n, F): t-SNE for n > 3, principal components for fewer.

    van der Maaten and Hinton 2008 (JMLR 9:2579), initialised with the principal components, with a fixed seed.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415  # slow to import, and only maps need it
    from sklearn.manifold import TSNE  # noqa: PLC0415

    x = (x - x.mean(0)).astype(np.float64)
    x /= np.abs(x).max()
    start = PCA(min(2, *x.shape), svd_solver="full").fit_transform(x)
    start = np.pad(start, ((0, 0), (0, 2 - start.shape[1])))
    if len(x) <= 3:
        return start
    scaled = start / start[:, 0].std() * 1e-4  # as scikit-learn does
    tsne = TSNE(init=scaled.astype(np.float32), perplexity=min(30.0, (len(x) - 1) / 3), random_state=SEED, n_jobs=1)
    return np.asarray(tsne.fit_transform(x))


def _kept(run: Run, notes: list[str]) -> Kept:
    """Return the existing features by encoder and data set."""
    found = {}
    folder = RunFolder(run.folder, Path(run.plan.cache) if run.plan.cache else None).features
    for path in sorted(folder.glob(f"*/{RECORDS[FeaturesRecord]}")):
        try:
            record = read_record(path.parent, FeaturesRecord)
        except RunError as error:
            notes.append(f"{error}.")
            continue
        if record.encoder in run.results.encoders:
            found[record.encoder, record.data] = (path.parent, record)
    return found


def _points(folder: Path, record: FeaturesRecord, one: Evaluated) -> Points:
    """Return the map of the test volumes, (n, 2), and their classes (n,).

    Raises:
        RunError: the features cannot be read, or are equal for all volumes.
    """
    try:
        with np.load(io.BytesIO(read_file(folder, record, FEATURES)), allow_pickle=False) as arrays:
            ids, x = arrays["ids"].tolist(), unpack_features(arrays)["last"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{folder / FEATURES} cannot be read ({error})") from None
    labels = dict(zip(one.predictions["case"], one.predictions["label"], strict=True))
    chosen = [index for index, id in enumerate(ids) if id in labels][:MOST]
    x = x[chosen]
    if len(x) < 2 or not np.isfinite(x).all() or np.ptp(x, axis=0).max() == 0:
        raise RunError(f"{folder}: features are the same for all test volumes, or not finite; there is no map")
    return project(x), np.array([labels[ids[index]] for index in chosen])


def _drawn(run: Run, subject: Subject, task: Task, members: Mapping[str, Points]) -> Drawing:
    with drawing():
        figure, axes = grid(len(members), 3, (2.5, 2.6))
        for ax, (name, (points, labels)) in zip(axes, members.items(), strict=True):
            _panel(ax, points, labels, task)
            ax.set_title(plain(name, 26))
        share_legend(figure, axes, 6)
    return Drawing(
        stem("map", *subject),
        run.titled(subject),
        "Each mark is a test volume; its colour and shape show its class. t-SNE of the frozen features of one seed: "
        "which volumes are neighbours says something, distances between groups and the axes do not.",
        f"Maps of the test volumes' features, one per method: {', '.join(members)}.",
        figure,
    )


def _panel(ax: Axes, points: np.ndarray, labels: np.ndarray, task: Task) -> None:
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
            label=f"{plain(task.name, 20)}: {plain(task.classes[int(k)], 20)}",
        )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(True)
