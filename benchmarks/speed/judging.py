"""Time to judge the encoders of an MRNet-sized table, against a linear layer trained on volumes for 90 epochs.

    OMP_NUM_THREADS=1 python benchmarks/speed/judging.py
    python benchmarks/speed/judging.py --exams 200 --encoders 2 --repeats 1   (brief)

Judged here: features extracted once (``--extract`` random volumes are encoded, and their time is scaled to all exams),
linear probe and nearest neighbours with their inner cross-validation on random features, then leaderboard and
comparisons of all encoders. Against it: what lightly's benchmark does, a linear layer on the frozen encoder, every
volume cropped at random, encoded and stepped on anew in every epoch, 90 epochs; ``--steps`` steps of it are timed, and
scaled to all. Rows that are scaled say so.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.evaluate.features import extract
from ssl3d.protocol import Prediction, protocol
from ssl3d.recipe import AugmentRecipe, Recipe
from ssl3d.results.records import CellResult, DataRecord, predictions_frame
from ssl3d.tables.comparisons import comparisons
from ssl3d.tables.leaderboard import leaderboard
from ssl3d.tables.scoring import protocol_score
from ssl3d.train.build import build_backbone

EPOCHS, BATCH = 90, 256  # of lightly's linear evaluation
TEST_SHARE = 120 / 1250  # MRNet: 1,130 exams to train on, 120 to test
FEATURES = 512
PROTOCOLS = ("linear", "knn")
CPU = torch.device("cpu")


class Noise:
    """Random volumes (1, D, H, W), uint8; the same few again and again, since their content costs nothing."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.voxels = [torch.randint(0, 256, (1, *size), generator=generator, dtype=torch.uint8) for _ in range(8)]

    def volumes(self, indices: Sequence[int], device: torch.device) -> Volumes:
        """Return as many volumes as asked for."""
        voxels = tuple(self.voxels[index % len(self.voxels)].to(device) for index in indices)
        return Volumes(voxels, torch.full((len(indices),), 127.0), torch.full((len(indices),), 74.0))


def main() -> None:
    """Time each part several times over, and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=1250)
    parser.add_argument("--encoders", type=int, default=6)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--volume", type=int, nargs=3, default=(32, 256, 256), help="slices, rows, columns of an exam")
    parser.add_argument("--size", type=int, nargs=3, default=(16, 112, 112), help="slices, rows, columns of a view")
    parser.add_argument("--extract", type=int, default=64, help="volumes that are encoded")
    parser.add_argument("--steps", type=int, default=2, help="steps of 90 epochs that are taken, of 32 volumes each")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    recipe = Recipe(method="random", backbone=options.backbone, view_size=tuple(options.size))
    encoder, source = build_backbone(recipe).eval(), Noise(tuple(options.volume))
    found = {
        "features": _median(options, lambda: _extracted(encoder, source, options)) * options.exams / options.extract,
        **{name: _median(options, lambda name=name: _judged(name, options)) for name in PROTOCOLS},
        "statistics": _median(options, _tabulated(options)),
        "a linear layer, 90 epochs": _median(options, lambda: _stepped(encoder, source, options))
        * (EPOCHS * options.exams * (1 - TEST_SHARE) / (options.steps * 32)),
    }
    _report(options, found)


def _median(options: argparse.Namespace, run: Callable[[], object]) -> float:
    """Return the median time of a call, the first one left out."""
    times = []
    for _ in range(options.repeats + 1):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def _extracted(encoder: Backbone, source: Noise, options: argparse.Namespace) -> np.ndarray:
    return extract(encoder, source, range(options.extract), size=tuple(options.size), batch_size=16, device=CPU)


def _labels(count: int) -> np.ndarray:
    """A fifth of them positive, as tears of the ACL are in MRNet's training exams."""
    return (np.arange(count) % 5 == 0).astype(np.int64)


def _split(options: argparse.Namespace) -> int:
    return round(options.exams * (1 - TEST_SHARE))


def _judged(name: str, options: argparse.Namespace, seed: int = 0) -> Prediction:
    """Judge one encoder by one protocol, on features with a little of the label in them."""
    labels, train = _labels(options.exams), _split(options)
    x = np.random.default_rng(seed).standard_normal((options.exams, FEATURES)).astype(np.float32)
    x[:, :8] += 0.5 * labels[:, None]
    found: Prediction = protocol(name)(x[:train], labels[:train], x[train:], folds=5, seed=0, classes=2)
    return found


def _tabulated(options: argparse.Namespace) -> Callable[[], object]:
    """Return what makes the tables of all encoders, judged beforehand."""
    cells = [_cell(options, number) for number in range(options.encoders)]
    return lambda: (leaderboard(cells), comparisons(cells))


def _cell(options: argparse.Namespace, number: int) -> tuple[CellResult, pd.DataFrame]:
    labels = _labels(options.exams)[_split(options) :]
    found = {name: _judged(name, options, number) for name in PROTOCOLS}
    record = DataRecord(
        name="noise",
        synthetic=True,
        fingerprint="",
        task="none",
        plane="",
        n_train=_split(options),
        n_test=len(labels),
        classes=2,
    )
    result = CellResult(
        cell=f"encoder{number}",
        status="done",
        recipe=Recipe(method=f"encoder{number}"),
        data=record,
        exactness="not trained",
        scores={name: protocol_score(prediction, labels) for name, prediction in found.items()},
        finished_at="",
    )
    probabilities = {name: prediction.probabilities for name, prediction in found.items()}
    return result, predictions_frame([f"{i:04d}" for i in range(len(labels))], labels, probabilities)


def _stepped(encoder: Backbone, source: Noise, options: argparse.Namespace) -> None:
    """Take steps of a linear layer on the frozen encoder, each on crops of 32 volumes that are drawn anew."""
    layer = torch.nn.Linear(encoder.embed_dim, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1 * BATCH / 256, momentum=0.9)
    crop = AugmentRecipe(rotate=0, brightness=0, contrast=0, gamma=0, blur=0, noise=0)  # crops and flips alone
    augment = Augment(crop, tuple(options.size))
    labels = torch.from_numpy(_labels(32))
    for step in range(options.steps):
        view = augment(source.volumes(range(32), CPU), Rng(0, step, range(32)))
        with torch.no_grad():
            features = encoder(view)
        loss = F.cross_entropy(layer(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _report(options: argparse.Namespace, found: dict[str, float]) -> None:
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{options.exams} exams of {options.volume}, {options.encoders} encoders ({options.backbone}), views "
        f"{options.size}, F = {FEATURES}\n"
    )
    rows = [
        ("features, once", found["features"], f"scaled from {options.extract} volumes"),
        *((name, found[name], "measured") for name in PROTOCOLS),
    ]
    print("| part | s an encoder | s in all | |\n| --- | --- | --- | --- |")
    total = found["statistics"]
    for name, seconds, how in rows:
        total += seconds * options.encoders
        print(f"| {name} | {seconds:.2f} | {seconds * options.encoders:.1f} | {how} |")
    print(f"| leaderboard and comparisons | | {found['statistics']:.2f} | measured |")
    print(f"| judged here | | {total:.1f} | |")
    slow = found["a linear layer, 90 epochs"]
    how = f"scaled from {options.steps} steps of 32 volumes"
    print(f"| a linear layer on volumes, {EPOCHS} epochs | {slow:.0f} | {slow * options.encoders:.0f} | {how} |")
    print(f"\nTraining a linear layer takes {slow * options.encoders / total:.0f} times as long.")


if __name__ == "__main__":
    main()
