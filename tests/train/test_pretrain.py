"""The loop: schedules, what decays, the order of volumes, checkpoints, and stopping at any step."""

from __future__ import annotations

import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssl3d.card import Card
from ssl3d.data.volumes import Volumes
from ssl3d.errors import RunError
from ssl3d.method import Method
from ssl3d.progress import Progress
from ssl3d.recipe import PretrainRecipe, Recipe
from ssl3d.train import checkpoint
from ssl3d.train.collapse import collapsed, measure
from ssl3d.train.interrupt import Interrupted, deferred
from ssl3d.train.optimizer import build_optimizer
from ssl3d.train.pretrain import Job, State, TrainingError, pretrain
from ssl3d.train.schedule import Schedule
from tests.test_window import build
from tests.toys import NoisyAugment, ToyBackbone, ToySource

VOLUMES, EPOCHS = 10, 3
TIMES = {"seconds", "volumes_per_second"}
OPTIMIZERS = ("adamw", "sgd", "lars")


def recipe(seed: int = 0, **pretraining: Any) -> Recipe:
    """Ten volumes, windows of 4, 4 and 2: nine steps."""
    values = {"epochs": EPOCHS, "batch_size": 4, "micro_batch": 2, "warmup_epochs": 1.0, **pretraining}
    return Recipe.checked({"seed": seed, "pretrain": values})


def job(folder: Path, name: str = "byol", progress: Progress | None = None, **values: Any) -> Job:
    folder.mkdir(exist_ok=True)
    made = recipe(**values)
    fabric = Fabric(accelerator="cpu", devices=1, precision=made.pretrain.precision)
    return Job(
        build(name).float(), ToySource(VOLUMES), range(VOLUMES), made, fabric, folder, name, progress or Progress()
    )


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


# Schedules


schedules = st.builds(
    lambda batch, volumes, **values: Schedule.of(PretrainRecipe(batch_size=batch, **values), volumes),
    batch=st.integers(2, 20),
    volumes=st.integers(2, 60),
    epochs=st.integers(1, 8),
    warmup_epochs=st.none() | st.floats(0, 30),
    lr=st.floats(1e-6, 10),
    lr_scaling=st.sampled_from(["none", "linear", "sqrt"]),
)


@settings(deadline=None)  # the machine may be busy
@given(schedules)
def test_the_learning_rate_rises_to_its_peak_and_falls_and_is_never_negative(schedule: Schedule) -> None:
    assert 0 <= schedule.warmup_steps <= schedule.steps
    rates = [schedule.lr(step) for step in range(schedule.steps)]
    assert all(0 < rate <= schedule.peak * (1 + 1e-12) for rate in rates)
    rising, falling = rates[: schedule.warmup_steps], rates[schedule.warmup_steps :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if rising:
        assert rising[-1] == pytest.approx(schedule.peak)
    if falling:
        assert falling[0] == pytest.approx(schedule.peak)


@settings(deadline=None)  # the machine may be busy
@given(schedules)
def test_windows_tile_each_epoch_and_leave_out_at_most_one_volume(schedule: Schedule) -> None:
    windows = [schedule.window(step) for step in range(schedule.steps)]
    for epoch in range(schedule.epochs):
        part = windows[epoch * schedule.steps_per_epoch : (epoch + 1) * schedule.steps_per_epoch]
        places = [place for window in part for place in window]
        assert places == list(range(len(places)))
        left = schedule.volumes - len(places)
        assert left == (1 if schedule.volumes % schedule.batch_size == 1 else 0)
    assert all(2 <= len(window) <= schedule.batch_size for window in windows)


@settings(deadline=None)  # the machine may be busy
@given(schedules)
def test_progress_runs_from_zero_to_below_one(schedule: Schedule) -> None:
    progress = [schedule.progress(step) for step in range(schedule.steps)]
    assert progress[0] == 0
    assert progress == sorted(progress)
    assert progress[-1] < 1


def test_the_learning_rate_follows_the_effective_batch() -> None:
    peaks = {
        scaling: Schedule.of(PretrainRecipe(batch_size=64, lr=1.0, lr_scaling=scaling), 1000).peak
        for scaling in ("none", "linear", "sqrt")
    }
    assert peaks == {"none": 1.0, "linear": 0.25, "sqrt": 0.5}


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    schedule = Schedule.of(PretrainRecipe(batch_size=64, epochs=5), 10)
    assert (schedule.batch_size, schedule.steps) == (10, 5)


# Optimisers


class Net(nn.Module):
    """A convolution, norms of both kinds, a linear layer, a token."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3)
        self.norm, self.group = nn.BatchNorm3d(3), nn.GroupNorm(1, 3)
        self.linear = nn.Linear(3, 2)
        self.cls_token = nn.Parameter(torch.ones(1, 1, 3))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


DECAYING = {"conv.weight", "linear.weight"}


def moved(optimizer: str, weight_decay: float, gradient: float, momentum: float = 0.0) -> dict[str, Tensor]:
    """One step with a constant gradient: how far each parameter moved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    made = build_optimizer(
        net, PretrainRecipe(optimizer=optimizer, weight_decay=weight_decay, lr=0.1, momentum=momentum)
    )
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, gradient) if parameter.requires_grad else None
    made.step()
    return {name: parameter.detach() - before[name] for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_norms_biases_and_tokens_do_not_decay(optimizer: str) -> None:
    plain, decayed = moved(optimizer, 0.0, 0.1), moved(optimizer, 0.5, 0.1)
    assert {name for name in plain if not torch.equal(plain[name], decayed[name])} == DECAYING


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_trainable_parameter_moves_and_no_frozen_one(optimizer: str) -> None:
    still = {name for name, step in moved(optimizer, 1e-4, 0.1).items() if not step.any()}
    assert still == {"frozen"}


@pytest.mark.parametrize("weight_decay", [0.0, 1e-6])
def test_lars_adapts_to_weights_and_not_to_norms_and_biases(weight_decay: float) -> None:
    """The step of a weight does not depend on its gradient's length (You et al. 2017); that of a bias does."""
    small, large = moved("lars", weight_decay, 0.1), moved("lars", weight_decay, 10.0)
    for name in small.keys() - {"frozen"}:
        ratio = float(large[name].norm() / small[name].norm())
        assert ratio == pytest.approx(1.0 if name in DECAYING else 100.0, rel=1e-3), name


# The order of volumes


class Recorder(ToySource):
    """Remembers which volumes it was asked for."""

    def __init__(self) -> None:
        super().__init__(VOLUMES + 1)
        self.asked: list[list[int]] = []

    def volumes(self, indices: Any, device: torch.device = torch.device("cpu")) -> Volumes:  # noqa: B008
        self.asked.append(list(indices))
        return super().volumes(indices, device)


def orders(folder: Path, count: int = VOLUMES, **values: Any) -> list[list[int]]:
    """Volumes in the order of training, epoch by epoch."""
    source = Recorder()
    made = job(folder, **values)
    made.source, made.indices = source, range(count)
    pretrain(made)
    flat = [index for part in source.asked for index in part]
    epochs = made.recipe.pretrain.epochs
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


# What the loop tells the method


class Counting(Method):
    """Counts its steps."""

    card: ClassVar[Card] = Card("Counting", "counts")

    def __init__(self) -> None:
        super().__init__(ToyBackbone(), None, NoisyAugment())
        self.progress: list[float] = []
        self.factor = 1.0
        self.broken_at: int | None = None

    def loss(self, online: Any, target: Any) -> dict[str, Tensor]:
        factor = math.nan if len(self.progress) == self.broken_at else 1.0
        return {"loss": factor * (online[0] - online[1]).square().mean()}

    def after_step(self, progress: float, kept: Any) -> None:
        self.progress.append(progress)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_schedules_of_a_method_count_optimiser_steps(tmp_path: Path, micro_batch: int) -> None:
    made = job(tmp_path, micro_batch=micro_batch)
    made.method = method = Counting()
    pretrain(made)
    assert method.progress == [step / 9 for step in range(9)]


def test_a_loss_that_is_not_finite_stops_with_step_learning_rate_and_checkpoint(tmp_path: Path) -> None:
    made = job(tmp_path)
    made.method = method = Counting()
    method.broken_at, made.checkpoint_seconds = 4, 0.0
    with pytest.raises(TrainingError, match=r"loss is nan at step 5 of 9 \(learning rate .*checkpoint\.pt") as caught:
        pretrain(made)
    assert f"{Schedule.of(made.recipe.pretrain, VOLUMES).lr(4):.3g}" in str(caught.value)
    assert saved(tmp_path)["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved(tmp_path)["method"].values())


def test_a_loss_broken_from_the_start_points_at_the_method(tmp_path: Path) -> None:
    made = job(tmp_path)
    made.method = method = Counting()
    method.broken_at = 0
    with pytest.raises(TrainingError, match="at the first step, before any update: look at the method"):
        pretrain(made)


def test_a_gradient_that_is_not_finite_stops_the_cell_before_it_reaches_the_weights(tmp_path: Path) -> None:
    made = job(tmp_path, "simclr")
    made.checkpoint_seconds = 0.0  # a checkpoint after every step
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


# Stopping and going on


@pytest.mark.parametrize(
    ("name", "optimizer", "step", "precision"),
    [
        ("byol", "adamw", 4, "32-true"),
        ("byol", "lars", 3, "64-true"),
        ("byol", "sgd", 8, "bf16-mixed"),
        ("moco", "adamw", 1, "32-true"),
        ("moco", "sgd", 5, "bf16-mixed"),
        ("simclr", "lars", 6, "32-true"),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, name: str, optimizer: str, step: int, precision: str
) -> None:
    """Weights, momentum encoder, queue, optimiser, log: all but the times."""
    values = {"optimizer": optimizer, "precision": precision}
    pretrain(job(tmp_path / "unbroken", name, **values))
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path / "broken", name, Stopper(step), **values))
    assert saved(tmp_path / "broken")["step"] == step
    listener = Stopper(0)
    pretrain(job(tmp_path / "broken", name, listener, **values))
    assert listener.notes == [f"{name}: going on after step {step}"]
    assert_same(saved(tmp_path / "unbroken"), saved(tmp_path / "broken"))
    logs = [
        pd.read_csv(tmp_path / part / "log.csv").drop(columns="volumes_per_second") for part in ("unbroken", "broken")
    ]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    assert len(logs[0]) == EPOCHS


def test_a_run_stopped_after_every_step_ends_in_the_same_bits(tmp_path: Path) -> None:
    pretrain(job(tmp_path / "unbroken", "moco"))
    for step in range(1, 10):
        with pytest.raises(Interrupted):
            pretrain(job(tmp_path / "broken", "moco", Stopper(step)))
    pretrain(job(tmp_path / "broken", "moco"))
    assert_same(saved(tmp_path / "unbroken"), saved(tmp_path / "broken"))


def test_a_resume_brings_the_queue_and_the_momentum_encoder_back(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, "moco", Stopper(2)))
    state = saved(tmp_path)["method"]
    assert int(state["filled"]) == 10 + 8
    assert not torch.equal(state["momentum.backbone.second.weight"], state["backbone.second.weight"])


def test_a_run_that_is_done_takes_no_further_step(tmp_path: Path) -> None:
    pretrain(job(tmp_path))
    before = saved(tmp_path)
    state = pretrain(job(tmp_path, progress=Stopper(9)))
    assert (state.step, len(state.rows)) == (9, EPOCHS)
    assert_same(before, saved(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_end_of_the_step(tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, "byol", Stopper(2, number)))
    assert saved(tmp_path)["step"] == 2


def test_a_second_signal_acts_at_once() -> None:
    with deferred() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_signal_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with deferred() as stop:
        assert not stop.requested
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# Checkpoints


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, progress=Stopper(2)))
    leftover = tmp_path / ".checkpoint-abc"
    leftover.write_bytes((tmp_path / checkpoint.NAME).read_bytes()[:100])
    listener = Stopper(0)
    pretrain(job(tmp_path, progress=listener))
    assert listener.notes == ["byol: going on after step 2"]
    assert not leftover.exists()


def test_saving_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, {"recipe": "old"})

    def half(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, {"recipe": "new"})
    assert saved(tmp_path) == {"recipe": "old"}
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not a checkpoint"),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save(State(), path),  # an object: only pickle could load it
    ],
)
def test_a_corrupt_checkpoint_is_named_and_not_loaded(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, progress=Stopper(1)))
    damage(tmp_path / checkpoint.NAME)
    with pytest.raises(RunError, match=r"checkpoint\.pt cannot be read as a checkpoint.*delete it") as caught:
        pretrain(job(tmp_path))
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_the_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, progress=Stopper(1)))
    with pytest.raises(RunError, match=r"checkpoint\.pt belongs to another recipe"):
        pretrain(job(tmp_path, lr=0.5))


def test_checkpoints_come_no_more_often_than_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Counter[int] = Counter()
    monkeypatch.setattr(checkpoint, "save", lambda folder, state: steps.update([state["step"]]))
    made = job(tmp_path)
    made.checkpoint_seconds = 1e9
    pretrain(made)
    assert steps == {9: 1}
    made = job(tmp_path)
    made.checkpoint_seconds = 0.0
    pretrain(made)
    assert set(steps) == set(range(1, 10))
