"""The loop: the order of volumes, progress, what is not finite, collapse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ssl3d.data.volumes import Volumes
from ssl3d.method import Batch, Card, Config, Kept, Loss, Method
from ssl3d.train.collapse import collapsed, measure
from ssl3d.train.pretrain import TrainingError, pretrain
from ssl3d.train.schedule import Schedule
from tests.toys import NoisyAugment, ToyBackbone, ToySource
from tests.train.jobs import EPOCHS, VOLUMES, job, saved


class Recorder(ToySource):
    """Remembers which volumes it was requested."""

    def __init__(self) -> None:
        super().__init__(VOLUMES + 1)
        self.asked: list[list[int]] = []

    def volumes(self, indices: Any, device: torch.device = torch.device("cpu")) -> Volumes:  # noqa: B008
        self.asked.append(list(indices))
        return super().volumes(indices, device)


def orders(folder: Path, count: int = VOLUMES, **values: Any) -> list[list[int]]:
    """Volumes in the order of training, epoch by epoch."""
    source = Recorder()
    made = job(folder, source=source, indices=range(count), **values)
    pretrain(made)
    flat = [index for part in source.asked for index in part]
    epochs = made.pretraining.epochs
    size = len(flat) // epochs
    return [flat[epoch * size : (epoch + 1) * size] for epoch in range(epochs)]


def test_every_volume_comes_once_an_epoch_in_an_order_of_seed_and_epoch_alone(tmp_path: Path) -> None:
    first = orders(tmp_path / "a")
    assert all(sorted(order) == list(range(VOLUMES)) for order in first)
    assert len({tuple(order) for order in first}) == EPOCHS
    assert orders(tmp_path / "b", micro_batch=4, optimizer="sgd", lr=0.5, batch_size=5) == first
    assert orders(tmp_path / "c", epochs=5)[:EPOCHS] == first
    assert orders(tmp_path / "d", seed=1) != first


def test_a_last_window_of_one_volume_is_left_out_and_another_volume_each_epoch(tmp_path: Path) -> None:
    made = orders(tmp_path, count=9, epochs=6)
    missing = [set(range(9)) - set(order) for order in made]
    assert all(len(left) == 1 for left in missing)
    assert len({tuple(left) for left in missing}) > 1


class Counting(Method[Config]):
    """Counts its steps."""

    card: ClassVar[Card] = Card("Counting", "counts")

    def __init__(self, broken_at: int | None = None) -> None:
        super().__init__(ToyBackbone(), None, NoisyAugment())
        self.progress: list[float] = []
        self.seen: set[float] = set()
        self.broken_at = broken_at

    def loss(self, batch: Batch) -> Loss:
        self.seen.add(batch.progress)
        factor = math.nan if len(self.progress) == self.broken_at else 1.0
        return Loss(factor * (batch.online[0] - batch.online[1]).square().mean())

    def after_step(self, progress: float, kept: Kept) -> None:
        self.progress.append(progress)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_schedules_of_a_method_count_optimiser_steps(tmp_path: Path, micro_batch: int) -> None:
    method = Counting()
    pretrain(job(tmp_path, micro_batch=micro_batch, method=method))
    assert method.progress == [step / 9 for step in range(9)]
    assert method.seen == set(method.progress)


def test_a_loss_that_is_not_finite_stops_with_step_learning_rate_and_checkpoint(tmp_path: Path) -> None:
    made = job(tmp_path, method=Counting(broken_at=4), checkpoint_seconds=0.0)
    with pytest.raises(TrainingError, match=r"loss is nan at step 5 of 9 \(learning rate .*checkpoint\.pt") as caught:
        pretrain(made)
    assert f"{Schedule.of(made.pretraining, VOLUMES).lr(4):.3g}" in str(caught.value)
    assert saved(tmp_path)["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved(tmp_path)["method"].values())


def test_a_loss_broken_from_the_start_points_at_the_method(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at the first step, before any update; examine the method"):
        pretrain(job(tmp_path, method=Counting(broken_at=0)))


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    made = job(tmp_path, "simclr", checkpoint_seconds=0.0)  # a checkpoint after every step
    seen: list[int] = []

    def poison(gradient: Tensor) -> Tensor:
        seen.append(1)
        return gradient * float("nan") if len(seen) > 6 else gradient

    next(made.method.parameters()).register_hook(poison)
    with pytest.raises(TrainingError, match="a gradient is not finite at step"):
        pretrain(made)
    kept = saved(tmp_path)
    assert kept["step"] >= 1
    assert all(bool(value.isfinite().all()) for value in kept["method"].values())


def test_collapse_is_measured_on_whole_windows_and_not_on_the_remainder(tmp_path: Path) -> None:
    """Ten volumes in windows of 4, 4 and 2: two rows always lie on a line, which is no collapse."""
    rows = pretrain(job(tmp_path, "simclr")).rows
    assert all(row["effective_rank"] > 1.5 for row in rows)
    two = measure([torch.randn(2, 6), torch.randn(2, 6)])
    assert collapsed(two, 2) is None
    assert collapsed({"feature_std": 0.5, "effective_rank": 1.2}, 64) is True
    assert collapsed({"feature_std": 0.5, "effective_rank": 9.0}, 64) is False


def test_pretraining_learns_something(tmp_path: Path) -> None:
    rows = pretrain(job(tmp_path, "simclr", epochs=20, lr=0.1)).rows
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.02


def test_pretraining_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    pretrain(job(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
