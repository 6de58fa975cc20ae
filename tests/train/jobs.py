"""Jobs of toy methods: ten volumes, effective batches of 4, 4 and 2, three epochs, nine steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe, digest
from ssl3d.train import checkpoint
from ssl3d.train.job import Job
from tests.toys import ToySource
from tests.train.test_window import build

VOLUMES, EPOCHS = 10, 3
TIMES = {"seconds", "volumes_per_second"}
JOB_FIELDS = {"method", "source", "indices", "engine", "checkpoint_seconds"}


def recipe(seed: int = 0, **pretraining: Any) -> EncoderRecipe:
    """Ten volumes, windows of 4, 4 and 2: nine steps."""
    values = {"epochs": EPOCHS, "batch_size": 4, "micro_batch": 2, "warmup_epochs": 1.0, **pretraining}
    return EncoderRecipe.checked({"seed": seed, "pretrain": values})


def job(folder: Path, name: str = "byol", progress: Progress | None = None, **values: Any) -> Job:
    """A job of a toy method; fields of the job are replaced by values of their names, others are the recipe's."""
    folder.mkdir(exist_ok=True)
    fields = {key: values.pop(key) for key in JOB_FIELDS & values.keys()}
    made = recipe(**values)
    assert made.pretrain is not None
    fabric = Fabric(accelerator="cpu", devices=1, precision=made.pretrain.precision)  # type: ignore[arg-type]
    plain = Job(
        build(name).float(), ToySource(VOLUMES), range(VOLUMES), made, digest(made.model_dump(mode="json")), fabric,
        folder, name, progress or Progress(),
    )  # fmt: skip
    return replace(plain, **fields)


class Stopper(Progress):
    """Sends this process a signal after a step."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT, times: int = 1) -> None:
        self.step, self.number, self.times = step, number, times
        self.notes: list[str] = []

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        if done == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def note(self, text: str) -> None:
        self.notes.append(text)


def saved(folder: Path) -> dict[str, Any]:
    state = checkpoint.load(folder, torch.device("cpu"))
    assert state is not None
    return state


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Nested states are equal bit for bit, times left out."""
    assert type(first) is type(second), where
    if isinstance(first, Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first.keys() - TIMES:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert first == second, where
