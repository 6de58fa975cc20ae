"""Schedules: learning rate, weight decay, progress, and the effective batches of an epoch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.recipe import PretrainRecipe
from ssl3d.train.schedule import Schedule

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
def test_effective_batches_tile_each_epoch_and_leave_out_at_most_one_volume(schedule: Schedule) -> None:
    batches = [schedule.batch(step) for step in range(schedule.steps)]
    for epoch in range(schedule.epochs):
        part = batches[epoch * schedule.steps_per_epoch : (epoch + 1) * schedule.steps_per_epoch]
        places = [place for batch in part for place in batch]
        assert places == list(range(len(places)))
        left = schedule.volumes - len(places)
        assert left == (1 if schedule.volumes % schedule.batch_size == 1 else 0)
    assert all(2 <= len(batch) <= schedule.batch_size for batch in batches)


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


def test_weight_decay_follows_half_a_cosine_from_its_first_value_to_its_last() -> None:
    recipe = PretrainRecipe(epochs=8, batch_size=4, weight_decay=0.04, weight_decay_end=0.4)
    decays = [Schedule.of(recipe, 8).weight_decay(step) for step in range(16)]
    assert decays[0] == pytest.approx(0.04)
    assert decays[8] == pytest.approx(0.22)
    assert decays == sorted(decays)
    assert 0.39 < decays[-1] < 0.4
    constant = Schedule.of(PretrainRecipe(weight_decay=0.04), 8)
    assert constant.weight_decay(0) == constant.weight_decay(constant.steps - 1) == 0.04
