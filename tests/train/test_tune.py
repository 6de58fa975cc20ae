"""Settings left to a trial: what is chosen, that nothing is changed by it, and what a run falls back to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from ssl3d.backbone import Backbone
from ssl3d.data.augment import Augment
from ssl3d.engine import Engine
from ssl3d.errors import RecipeError
from ssl3d.experiment import TUNED, read_experiment
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe, PretrainRecipe, digest
from ssl3d.train import checkpoint
from ssl3d.train.encode import EffectiveBatch, Encoder
from ssl3d.train.interrupt import Interrupted
from ssl3d.train.job import Job, State
from ssl3d.train.pretrain import pretrain
from ssl3d.train.processes import Group
from ssl3d.train.tuning import layout, memory, trial
from ssl3d.train.tuning.fallback import fallback
from ssl3d.train.tuning.layout import arrange
from ssl3d.train.tuning.tune import notes, tune
from ssl3d.train.window import Window
from tests.runs import Listener, encoder_folder, record, small_run, write_knees
from tests.toys import SIZE, ToyBackbone, ToySource
from tests.train.jobs import Stopper, assert_same
from tests.train.test_window import METHODS, build

BATCH = 8
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]
every_device = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(trial, "FEWEST", 1)


def recipe(**pretraining: Any) -> EncoderRecipe:
    values = {"batch_size": BATCH, "epochs": 2, "micro_batch": "auto", **pretraining}
    return EncoderRecipe.checked({"view_size": SIZE, "pretrain": values})


def toy(name: str = "byol", device: str = "cpu", **values: Any) -> AnyMethod:
    return build(name, **values).float().to(device)


def job(
    folder: Path, made: EncoderRecipe, engine: Engine | None = None, method: AnyMethod | None = None, **values: Any
) -> Job:
    folder.mkdir(exist_ok=True)
    key = digest(made.model_dump(mode="json"))
    fabric = Fabric(accelerator="cpu", devices=1)
    return Job(method or toy(), ToySource(16), range(16), made, key, fabric, folder, "byol", engine=engine, **values)


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


class Timed:
    """Trials that take the seconds per volume that a function says; their gradients are real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Engine], float]) -> None:
        real = trial.Trial.of

        def of(self: trial.Trial, engine: Engine) -> trial.Measured:
            found = real(self, engine.model_copy(update={"compile": False}))
            return trial.Measured(seconds(engine), found.peak, found.held, found.gradient)

        monkeypatch.setattr(trial.Trial, "of", of)


# What is chosen


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
    assert tune(toy(), named, BATCH) == Engine.of(named.pretrain or PretrainRecipe(), BATCH)
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


def test_tune_sets_what_the_user_did_not_name() -> None:
    made = read_experiment(None, {"pretrain.precision": "32-true"}, ["micro_batch=4"], TUNED).pretrain
    assert (made.micro_batch, made.precision, made.channels_last, made.compile) == (4, "32-true", "auto", "auto")
    assert read_experiment(None, {"pretrain.micro_batch": "8"}).pretrain.micro_batch == 8
    with pytest.raises(RecipeError, match="micro_batch"):
        read_experiment(None, {"pretrain.micro_batch": "many"})


# A trial changes nothing


@every_device
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("name", METHODS)
def test_a_trial_changes_nothing(name: str, norm: str, device: str) -> None:
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


# Memory layout and compiler


def gradient(method: AnyMethod, channels_last: bool, compiled: bool = False) -> Tensor:
    arrange(method, channels_last, compiled)
    encoder = Encoder(method, ToySource(), seed=3, channels_last=channels_last)
    Window(encoder, 3, True, Group()).backward(EffectiveBatch(range(BATCH), 0))
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


@every_device
@pytest.mark.parametrize("name", METHODS)
def test_channels_last_gives_the_gradient_of_contiguous_weights(name: str, device: str) -> None:
    plain, last = (gradient(build(name).to(device), channels_last) for channels_last in (False, True))
    assert float((plain - last).norm() / plain.norm()) < 1e-12


def test_channels_last_reaches_weights_and_views_and_goes_back() -> None:
    method = toy()
    arrange(method, channels_last=True)
    weight = method.backbone.second.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not weight.is_contiguous()
    view = layout.in_layout(torch.zeros(2, 3, *SIZE), True)
    assert view.is_contiguous(memory_format=torch.channels_last_3d)
    arrange(method)
    assert all(parameter.is_contiguous() for parameter in method.parameters())


def backbones(method: AnyMethod) -> list[Backbone]:
    return [part for part in method.modules() if isinstance(part, Backbone)]


def test_every_backbone_is_compiled_and_names_and_copies_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BACKEND", "eager")
    method = toy()
    names = list(method.state_dict())
    arrange(method, compiled=True)
    assert len(backbones(method)) == 2
    assert all(part._compiled_call_impl is not None for part in backbones(method))
    assert list(method.state_dict()) == names
    assert all(part._compiled_call_impl is None for part in backbones(copy.deepcopy(method)))
    compiled = gradient(method, False, True)
    assert float((compiled - gradient(toy(), False)).norm() / compiled.norm()) < 1e-6
    arrange(method)
    assert all(part._compiled_call_impl is None for part in backbones(method))


def test_a_backbone_with_batch_norm_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BACKEND", "eager")
    method = toy(norm="batch")
    arrange(method, compiled=True)
    assert all(part._compiled_call_impl is None for part in backbones(method))
    engine = tune(method, recipe(micro_batch=2, compile="auto"), BATCH)
    assert "batch norm" in engine.trials[-1]["outcome"]


def broken(graph: Any, inputs: Any) -> Any:
    raise OSError("no compiler here\nsecond line")


def test_a_compiler_that_fails_in_a_trial_is_left_out_and_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BACKEND", broken)
    engine = tune(toy(), recipe(micro_batch=2, channels_last="auto", compile="auto"), BATCH)
    assert not engine.compile
    assert notes(engine) == ["torch.compile failed and was left out: OSError: no compiler here"]


def test_a_compiler_that_fails_in_a_run_is_left_out_and_the_run_is_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pretrain(job(tmp_path / "plain", recipe(micro_batch=3)))
    monkeypatch.setattr(layout, "BACKEND", broken)
    made = job(tmp_path / "compiled", recipe(micro_batch=3, compile=True))
    state = pretrain(made)
    assert state.notes == ["step 1: torch.compile failed and was left out: OSError: no compiler here"]
    assert state.engine["compile"] is False
    assert [row["loss"] for row in state.rows] == [row["loss"] for row in plain.rows]
    assert all(part._compiled_call_impl is None for part in backbones(made.method))


@pytest.mark.slow
@every_device
def test_the_compiler_of_this_machine_gives_the_same_gradient(device: str) -> None:
    plain, compiled = (gradient(toy(device=device, dropout=0.5), False, flag) for flag in (False, True))
    assert float((plain - compiled).norm() / plain.norm()) < 1e-4


# Never out of memory in the middle


def test_a_step_that_runs_out_of_memory_is_done_again_in_smaller_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pretrain(job(tmp_path / "plain", recipe(), Engine(micro_batch=2)))
    listener = Stopper(-1)
    with memory_for(3, monkeypatch):
        made = job(tmp_path / "tight", recipe(), Engine(micro_batch=8), progress=listener)
        state = pretrain(made)
    assert state.engine["micro_batch"] == 2
    assert [note.split(":")[0] for note in state.notes] == ["step 1", "step 1"]
    assert listener.notes == [f"byol: {note}" for note in state.notes]
    assert_same(without(plain), without(state))
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "tight"))


def without(state: State) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "volumes_per_second"} for row in state.rows]


def weights(folder: Path) -> dict[str, Tensor]:
    saved = checkpoint.load(folder, torch.device("cpu"))
    assert saved is not None
    return dict(saved["method"])


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_running_statistics_move_once_though_a_step_was_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ends = []
    for folder, engine, volumes in (("plain", 2, 99), ("tight", 8, 3)):
        with memory_for(volumes, monkeypatch):
            pretrain(job(tmp_path / folder, recipe(), Engine(micro_batch=engine), toy(name, norm="batch")))
        ends.append(weights(tmp_path / folder))
    assert_same(*ends)


@pytest.mark.parametrize(("values", "micro_batch"), [({"micro_batch": 8}, 8), ({"micro_batch": "auto"}, 1)])
def test_a_micro_batch_that_was_named_or_is_one_runs_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], micro_batch: int
) -> None:
    engine = Engine(micro_batch=micro_batch)
    with memory_for(0, monkeypatch), pytest.raises(torch.OutOfMemoryError):
        pretrain(job(tmp_path, recipe(**values), engine))


def test_smaller_portions_come_to_an_end_at_one_volume() -> None:
    engine, sizes = Engine(micro_batch=12, keep=4), []
    while (found := fallback(engine, recipe().pretrain, torch.OutOfMemoryError("x"))) is not None:
        engine = found[0]
        sizes.append((engine.micro_batch, engine.keep))
    assert sizes == [(6, 4), (3, 4), (1, 4), (1, 2), (1, 1)]
    assert fallback(engine, recipe().pretrain, RuntimeError("shapes differ")) is None
    assert memory.out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))


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


# A resumed run goes on as it was begun


def test_a_resumed_run_keeps_the_engine_it_was_begun_with(tmp_path: Path) -> None:
    begun = Engine(micro_batch=2, keep=2, channels_last=True, trials=({"what": "x", "outcome": "done"},))
    pretrain(job(tmp_path / "unbroken", recipe(), begun))
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path / "broken", recipe(), begun, progress=Stopper(1)))
    assert checkpoint.engine(tmp_path / "broken") == begun.model_dump(mode="json")
    state = pretrain(job(tmp_path / "broken", recipe(), Engine(micro_batch=8)))
    assert Engine.model_validate(state.engine) == begun
    assert_same(weights(tmp_path / "unbroken"), weights(tmp_path / "broken"))


class Pretraining(Stopper):
    """Stops after a step of pretraining: packing volumes has steps, too."""

    def phase(self, artifact: str, what: str, total: int, unit: str, done: int = 0) -> None:
        self.pretraining = what == "pretraining"

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        if self.pretraining:
            super().advance(done, figures)


def test_an_encoder_is_tuned_once_and_its_record_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = {name.replace(".", "__"): value for name, value in TUNED.items() if name != "pretrain.compile"}
    root = write_knees(tmp_path / "knees")
    with pytest.raises(KeyboardInterrupt):
        small_run(root, tmp_path / "run", progress=Pretraining(2), **auto)
    monkeypatch.setattr("ssl3d.run.pretraining.tune", None)  # a second trial would fail
    outcome = small_run(root, tmp_path / "run", progress=Listener(), **auto)
    assert outcome.failures == {}
    engine = record(encoder_folder(tmp_path / "run", "byol"), "encoder")["engine"]
    assert engine["trials"]
    assert engine["precision"] in ("32-true", "bf16-mixed")


def test_an_encoder_whose_compiler_fails_says_so_in_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BACKEND", broken)
    small_run(write_knees(tmp_path / "knees"), tmp_path / "run", pretrain__compile="auto", baselines=False)
    found = record(encoder_folder(tmp_path / "run", "byol"), "encoder")["notes"]
    about = [note for note in found if "torch.compile" in note]
    assert about == ["torch.compile failed and was left out: OSError: no compiler here"]


# Memory of the machine


def test_the_lower_of_the_machine_and_its_cgroups_is_available(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9 kB\nMemFree: 100 kB\nMemAvailable:   4000 kB\n")
    assert memory.available(tmp_path) == 4000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/user/job\n")
    folder = tmp_path / "sys/fs/cgroup/user/job"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) == 4000 * 1024
    (folder / "memory.max").write_text("3000000\n")
    (folder / "memory.current").write_text("2500000\n")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 400000\n")
    assert memory.available(tmp_path) == 900000
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/job\n0::/\n")
    old = tmp_path / "sys/fs/cgroup/memory/job"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("700000\n")
    (old / "memory.usage_in_bytes").write_text("100000\n")
    assert memory.available(tmp_path) == 600000


def test_activations_that_are_held_grow_with_the_micro_batch_and_weights_do_not_count() -> None:
    one, four = (trial.Trial(toy(), SIZE).of(Engine(micro_batch=size)) for size in (1, 4))
    assert 3.5 * one.held < four.held < 4.5 * one.held
    views, maps = 2, 4 + 4 + 4 + 6  # channels of what lies between the layers, at most
    assert four.held < 4 * views * (2 * maps) * SIZE[0] * SIZE[1] * SIZE[2] * 4


def test_a_backbone_with_moving_batch_norm_is_not_compiled_and_the_result_says_so(tmp_path: Path) -> None:
    root = write_knees(tmp_path / "knees")
    changes: dict[str, Any] = {"backbone.tiny.norm": "batch", "pretrain.compile": True, "pretrain.epochs": 1}
    fields = {name.replace(".", "__"): value for name, value in changes.items()}
    small_run(root, tmp_path / "run", baselines=False, **fields)
    found = record(encoder_folder(tmp_path / "run", "byol"), "encoder")
    assert not found["engine"]["compile"]
    assert any("torch.compile was left out" in note for note in found["notes"])
