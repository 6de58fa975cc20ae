"""Maps of the embeddings of the test volumes: do they have structure, and does it follow the label?"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ssl3d.errors import RunError
from ssl3d.report.material import Drawing, Run, Section, Subject, highest, shown_of, stem
from ssl3d.report.panels import Area, Mark, Panels
from ssl3d.report.style import COLOURS, MARKERS, plain
from ssl3d.results.feature_file import unpack_features
from ssl3d.results.folder import FEATURES, RECORDS, RunFolder
from ssl3d.results.model import FeaturesRecord
from ssl3d.results.records import read_file, read_record
from ssl3d.results.results import Evaluated
from ssl3d.task import Task

MOST = 500  # volumes in a map
MAPS = 6  # of one data set, task and plane
SEED = 20220800
Points = tuple[np.ndarray, np.ndarray]  # (n, 2) and their classes (n,)
Kept = Mapping[tuple[str, str], tuple[Path, FeaturesRecord]]  # by encoder and data set


def maps(run: Run) -> Section:
    """Draw a map of each method's test volumes, for its first seed."""
    section = Section("maps", "Maps of the embeddings")
    found: dict[Subject, dict[str, Points]] = {}
    tasks: dict[Subject, Task] = {}
    kept = _kept(run, section.notes)
    for one in _best_first(run):
        recipe, name = one.record.recipe, run.name_of_encoder(one.encoder)
        subject = recipe.data, recipe.task, recipe.plane or ""
        features = kept.get((one.encoder.key, one.record.data.name))
        mapped = found.get(subject, {})
        if name in mapped or len(mapped) == MAPS or features is None or not one.record.data.task.categorical:
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


def _best_first(run: Run) -> list[Evaluated]:
    """Return the evaluations of whole training sets, in the order of the ranking of their methods."""
    place = {name: index for index, name in enumerate(highest(map(run.name_of_row, run.rows), len(run.rows)))}
    return sorted(run.whole(), key=lambda one: place.get(run.name_of_encoder(one.encoder), len(place)))


def _drawn(run: Run, subject: Subject, task: Task, members: Mapping[str, Points]) -> Drawing:
    every = [run.name_of_row(row) for of, rows in run.by_subject() if of == subject for row in rows]
    left_out = shown_of(list(members), every, "that come first in the ranking") if len(members) == MAPS else ""
    classes = sorted({int(k) for _, labels in members.values() for k in labels})
    return Drawing(
        stem("map", *subject),
        run.titled(subject),
        "Each mark is a test volume; its colour and shape show its class. t-SNE of the frozen features of one seed: it "
        "keeps neighbours together, while distances between groups, their sizes and the axes have no meaning. Nothing "
        f"was tested here.{left_out}",
        f"Maps of the test volumes' features, one per method: {', '.join(members)}.",
        Panels(
            [partial(_panel, title=plain(name, 26), points=of[0], labels=of[1]) for name, of in members.items()],
            3.7,
            stretch=False,
            legend={f"{plain(task.name, 20)}: {plain(task.classes[k], 20)}": _mark(k) for k in classes},
        ),
    )


def _mark(k: int) -> Mark:
    """Return the marker of a class: the first one is hollow."""
    colour = COLOURS[k % len(COLOURS)]
    return {
        "marker": MARKERS[k % len(MARKERS)],
        "linestyle": "none",
        "color": colour,
        "markerfacecolor": "none" if k == 0 else colour,
        "markersize": 4,
    }


def _panel(figure: Area, title: str, points: np.ndarray, labels: np.ndarray) -> None:
    ax = figure.subplots()
    for k in np.unique(labels):
        chosen = points[labels == k]
        ax.plot(chosen[:, 0], chosen[:, 1], markeredgewidth=0.9, alpha=0.85, **_mark(int(k)))
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(True)
    ax.set_title(title)
