"""Settings left to a trial: what is chosen, and that a trial changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssl3d.backbone import Norm
from ssl3d.data.augment import Augment
from ssl3d.engine import Engine
from ssl3d.errors import RecipeError
from ssl3d.recipe import EncoderRecipe
from ssl3d.train.tuning import memory, trial
from ssl3d.train.tuning.tune import tune
from tests.toys import SIZE, ToyBackbone
from tests.train.jobs import assert_same
from tests.train.test_window import METHODS
from tests.train.trials import BATCH, every_device, memory_for, pretraining, recipe, toy


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(trial, "FEWEST", 1)


class Timed:
    """Trials that take the seconds per volume that a function says; their gradients are real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Engine], float]) -> None:
        real = trial.Trial.of

        def of(self: trial.Trial, engine: Engine) -> trial.Measured:
            found = real(self, engine.model_copy(update={"compile": False}))
            return trial.Measured(seconds(engine), found.peak, found.held, found.gradient)

        monkeypatch.setattr(trial.Trial, "of", of)


@every_device
def test_auto_resolves_to_settings_that_a_training_can_use(device: str) -> None:
    asked = recipe(precision="auto", channels_last="auto")
    engine = tune(toy(device=device), asked, BATCH)
    assert engine.micro_batch in (1, 2, 4, BATCH)
    assert 1 <= engine.keep <= BATCH
    assert engine.precision in ("32-true", "bf16-mixed")
    assert engine.trials
    for row in engine.trials:
        assert set(row) == {"what", "seconds_per_volume", "peak_bytes", "outcome"}
        assert row["outcome"]
    assert Engine.model_validate(engine.model_dump(mode="json")) == engine


def test_what_is_named_is_not_tried() -> None:
    named = recipe(micro_batch=4, keep=2, precision="bf16-mixed", channels_last=True, compile=True)
    assert tune(toy(), named, BATCH) == Engine.of(pretraining(named), BATCH)
    assert tune(toy(), named, BATCH).trials == ()


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 8])
def test_the_micro_batch_is_one_that_memory_allows(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    Timed(monkeypatch, lambda engine: 1.0 / engine.micro_batch)  # larger ones are faster
    with memory_for(largest, monkeypatch):
        engine = tune(toy(), recipe(), BATCH)
    assert engine.micro_batch == max(size for size in (1, 2, 4, 8) if size <= largest)
    assert engine.trials[-1]["outcome"] == ("done" if largest == BATCH else "out of memory")


def test_on_a_cpu_the_fastest_micro_batch_wins_not_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    Timed(monkeypatch, lambda engine: {1: 2.0, 2: 1.0, 4: 1.5, 8: 1.6}[engine.micro_batch])
    assert tune(toy(), recipe(), BATCH).micro_batch == 2


def test_as_many_micro_batches_are_kept_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    Timed(monkeypatch, lambda engine: float(engine.micro_batch))  # one volume at a time is fastest
    fits = trial.Trial(toy(), SIZE).of(Engine(micro_batch=1))
    monkeypatch.setattr("ssl3d.train.tuning.tune._Tuner._memory", lambda *_: fits.peak + 3 * fits.held + 1)
    engine = tune(toy(), recipe(), BATCH)
    assert (engine.micro_batch, engine.keep) == (1, 4)
    monkeypatch.setattr("ssl3d.train.tuning.tune._Tuner._memory", lambda *_: 10**12)
    assert tune(toy(), recipe(), BATCH).keep == BATCH


def test_a_share_of_the_batch_is_split_where_processes_share_it() -> None:
    engine = tune(toy(), recipe(), BATCH, processes=2)
    assert engine.processes == 2
    assert engine.micro_batch <= BATCH // 2


@pytest.mark.parametrize(("gain", "chosen"), [(0.5, "bf16-mixed"), (0.95, "32-true")])
def test_bf16_must_be_a_tenth_faster(monkeypatch: pytest.MonkeyPatch, gain: float, chosen: str) -> None:
    Timed(monkeypatch, lambda engine: gain if engine.precision == "bf16-mixed" else 1.0)
    assert tune(toy(), recipe(micro_batch=2, precision="auto"), BATCH).precision == chosen


@pytest.mark.parametrize("wrong", [float("nan"), -1.0])
def test_bf16_with_unsound_gradients_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    Timed(monkeypatch, lambda engine: 0.1 if engine.precision == "bf16-mixed" else 1.0)
    plain = ToyBackbone.forward

    def forward(self: ToyBackbone, x: Tensor) -> Tensor:
        features = plain(self, x)
        if torch.is_autocast_enabled("cpu") and features.requires_grad:
            features.register_hook(lambda gradient: wrong * gradient)
        return features

    monkeypatch.setattr(ToyBackbone, "forward", forward)
    engine = tune(toy(), recipe(micro_batch=2, precision="auto"), BATCH)
    assert engine.precision == "32-true"
    assert "refused: its gradient" in engine.trials[-1]["outcome"]


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({(False, False): 1.0, (True, False): 0.9, (False, True): 0.8, (True, True): 0.5}, (True, True)),
        ({(False, False): 1.0, (True, False): 1.2, (False, True): 0.8, (True, True): 0.9}, (False, True)),
        ({(False, False): 1.0, (True, False): 0.9, (False, True): 0.97, (True, True): 0.87}, (True, False)),
        ({(False, False): 1.0, (True, False): 1.1, (False, True): 1.2, (True, True): 1.3}, (False, False)),
    ],
)
def test_the_fastest_layout_and_compiler_win(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[bool, bool], float], chosen: tuple[bool, bool]
) -> None:
    Timed(monkeypatch, lambda engine: seconds[engine.channels_last, engine.compile])
    engine = tune(toy(), recipe(micro_batch=2, channels_last="auto", compile="auto"), BATCH)
    assert (engine.channels_last, engine.compile) == chosen


def test_auto_under_plain_accumulation_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs exact accumulation"):
        recipe(accumulation="plain")


@every_device
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("name", METHODS)
def test_a_trial_changes_nothing(name: str, norm: Norm, device: str) -> None:
    method = toy(name, device, norm=norm, dropout=0.3)
    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    before, states = copy.deepcopy(method), [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    tune(method, recipe(precision="auto", channels_last="auto"), BATCH)
    assert_same(dict(before.state_dict()), dict(method.state_dict()))
    for parameter, was in zip(method.parameters(), before.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.full_like(parameter, 0.25))
        assert parameter.stride() == was.stride()
        assert parameter.requires_grad == was.requires_grad
    assert all(part.training for part in method.modules())
    for now, then in zip([torch.get_rng_state(), *torch.cuda.get_rng_state_all()], states, strict=True):
        assert torch.equal(now, then)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_the_chosen_micro_batch_fits_and_one_four_times_as_large_does_not() -> None:
    size, count = (64, 128, 128), 1024
    free, _ = torch.cuda.mem_get_info()
    blocker = torch.empty(max(0, free - 8 * 2**30), dtype=torch.uint8, device="cuda")  # leaves 8 GiB
    made = EncoderRecipe.checked({"view_size": size, "pretrain": {"batch_size": count, "micro_batch": "auto"}})
    method = toy("simclr", "cuda")
    method.augment = Augment(size=size)
    left = memory.budget(torch.device("cuda"))
    engine = tune(method, made, count)
    assert engine.micro_batch < count
    assert trial.Trial(method, size).of(engine).peak <= left
    with pytest.raises(torch.OutOfMemoryError):
        trial.Trial(method, size).of(engine.model_copy(update={"micro_batch": 4 * engine.micro_batch}))
    assert blocker.is_cuda


def test_activations_that_are_held_grow_with_the_micro_batch_and_weights_do_not_count() -> None:
    one, four = (trial.Trial(toy(), SIZE).of(Engine(micro_batch=size)) for size in (1, 4))
    assert 3.5 * one.held < four.held < 4.5 * one.held
    views, maps = 2, 4 + 4 + 4 + 6  # channels of what lies between the layers, at most
    assert four.held < 4 * views * (2 * maps) * SIZE[0] * SIZE[1] * SIZE[2] * 4
