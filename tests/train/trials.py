"""Toy methods on toy recipes whose settings are left to a trial, and backbones for which memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from ssl3d.engine import Engine
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe, PretrainRecipe
from ssl3d.train.job import Job
from tests.toys import SIZE, ToyBackbone, ToySource
from tests.train.test_window import build

BATCH = 8
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]
every_device = pytest.mark.parametrize("device", DEVICES)


def recipe(**pretraining: Any) -> EncoderRecipe:
    values = {"batch_size": BATCH, "epochs": 2, "micro_batch": "auto", **pretraining}
    return EncoderRecipe.checked({"view_size": SIZE, "pretrain": values})


def pretraining(recipe: EncoderRecipe) -> PretrainRecipe:
    assert recipe.pretrain is not None
    return recipe.pretrain


def toy(name: str = "byol", device: str = "cpu", **values: Any) -> AnyMethod:
    return build(name, **values).float().to(device)


def job(
    folder: Path, made: EncoderRecipe, engine: Engine | None = None, method: AnyMethod | None = None, **values: Any
) -> Job:
    folder.mkdir(exist_ok=True)
    fabric = Fabric(accelerator="cpu", devices=1)
    method = method or toy()
    return Job(
        method, ToySource(16), range(16), made, made.canonical(), fabric, folder, "byol", engine=engine, **values
    )


@contextmanager
def memory_for(volumes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Toy backbones that train on so many volumes at once at most; without gradients on any number."""
    plain, sizes = ToyBackbone.forward_features, []

    def forward(self: ToyBackbone, x: Tensor) -> list[Tensor]:
        sizes.append(len(x))
        if torch.is_grad_enabled() and len(x) > volumes:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(x)} volumes")
        return plain(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(ToyBackbone, "forward_features", forward)
        yield sizes
