"""Time to evaluate the encoders of an MRNet-sized table, against a linear layer trained on volumes for 90 epochs.

    OMP_NUM_THREADS=1 python benchmarks/speed/evaluation.py
    python benchmarks/speed/evaluation.py --exams 200 --encoders 2 --repeats 1   (brief)

Evaluated here: features extracted once (``--extract`` random volumes are encoded, their time is scaled to all exams),
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
import torch
from torch.nn import functional as F

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.evaluate.features import extract
from ssl3d.protocol import FeatureProblem, FeatureProtocol, Prediction
from ssl3d.recipe import AugmentRecipe, EncoderRecipe, EvaluationRecipe
from ssl3d.registry import load
from ssl3d.results.model import DataRecord, EncoderRecord, EvaluationRecord
from ssl3d.results.predictions import predictions_frame
from ssl3d.results.provenance import made_by
from ssl3d.results.results import Evaluated, Results
from ssl3d.results.scoring import score
from ssl3d.tables.tables import Tables
from ssl3d.task import Task
from ssl3d.train.build import build_backbone

EPOCHS, BATCH = 90, 256  # of lightly's linear evaluation
TEST_SHARE = 120 / 1250  # MRNet: 1,130 exams to train on, 120 to test
FEATURES = 512
PROTOCOLS = ("linear", "knn")
TASK = Task(name="none")
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
    recipe = EncoderRecipe(method="random", backbone=options.backbone, view_size=tuple(options.size))
    encoder, source = build_backbone(recipe).eval(), Noise(tuple(options.volume))
    found = {
        "features": _median(options, lambda: _extracted(encoder, source, options)) * options.exams / options.extract,
        **{name: _median(options, lambda name=name: _predicted(name, options)) for name in PROTOCOLS},
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
    return extract(encoder, source, range(options.extract), size=tuple(options.size), batch_size=16, device=CPU)["last"]


def _labels(count: int) -> np.ndarray:
    """A fifth of them positive, as tears of the ACL are in MRNet's training exams."""
    return (np.arange(count) % 5 == 0).astype(np.int64)


def _split(options: argparse.Namespace) -> int:
    return round(options.exams * (1 - TEST_SHARE))


def _predicted(name: str, options: argparse.Namespace, seed: int = 0) -> Prediction:
    """Evaluate one encoder by one protocol, on features with a little of the label in them."""
    labels, train = _labels(options.exams), _split(options)
    x = np.random.default_rng(seed).standard_normal((options.exams, FEATURES)).astype(np.float32)
    x[:, :8] += 0.5 * labels[:, None]
    protocol = load("protocols", name)()
    assert isinstance(protocol, FeatureProtocol)
    patients = np.arange(train).astype(str)
    return protocol.predict(FeatureProblem(x[:train], labels[:train], x[train:], TASK, patients))


def _tabulated(options: argparse.Namespace) -> Callable[[], object]:
    """Return what makes the tables of all encoders, evaluated beforehand."""
    found = Results(
        tuple(_evaluated(options, number, name) for number in range(options.encoders) for name in PROTOCOLS)
    )

    def tabulate() -> object:
        tables = Tables(found)
        return tables.leaderboard, tables.comparisons

    return tabulate


def _evaluated(options: argparse.Namespace, number: int, name: str) -> Evaluated:
    labels = _labels(options.exams)[_split(options) :]
    prediction = _predicted(name, options, number)
    encoder = EncoderRecord(
        key=f"{number:016x}",
        name=f"encoder{number}",
        made_by=made_by({}),
        recipe=EncoderRecipe(method=f"encoder{number}"),
        exactness="not trained",
        files={"encoder.safetensors": f"{number:064x}"},
    )
    data = DataRecord(
        name="noise",
        synthetic=True,
        fingerprint="00",
        task=TASK,
        n_train=_split(options),
        n_test=len(labels),
        n_test_patients=len(labels),
    )
    record = EvaluationRecord(
        key=f"{len(PROTOCOLS) * number + PROTOCOLS.index(name):016x}",
        name=f"noise-none/encoder{number}-{name}",
        made_by=made_by({}),
        recipe=EvaluationRecipe(data="noise", task=TASK.name, protocol=name),
        encoder=encoder.key,
        encoder_sha256=f"{number:064x}",
        data=data,
        n_labels=data.n_train,
        score=score(prediction, labels, TASK),
    )
    ids = [f"{i:04d}" for i in range(len(labels))]
    return Evaluated(record, encoder, predictions_frame(ids, ids, labels, prediction.probabilities, TASK))


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
    print(f"| evaluated here | | {total:.1f} | |")
    slow = found["a linear layer, 90 epochs"]
    how = f"scaled from {options.steps} steps of 32 volumes"
    print(f"| a linear layer on volumes, {EPOCHS} epochs | {slow:.0f} | {slow * options.encoders:.0f} | {how} |")
    print(f"\nTraining a linear layer takes {slow * options.encoders / total:.0f} times as long.")


if __name__ == "__main__":
    main()
