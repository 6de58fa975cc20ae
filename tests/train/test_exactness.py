"""What exact accumulation promises, over whole trainings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from benchmarks.equivalence import relative
from ssl3d.backbone import Backbone, BackboneConfig, Norm
from ssl3d.data.volumes import Volumes
from ssl3d.method import AnyMethod, Views
from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe
from ssl3d.train import checkpoint
from ssl3d.train.build import method_class
from ssl3d.train.encode import BatchEncoder, EffectiveBatch, Source
from ssl3d.train.pretrain import Job, pretrain
from ssl3d.train.processes import Group
from ssl3d.train.window import Window, WindowResult
from tests.toys import NoisyAugment, ToyBackbone, ToySource

METHODS = ("byol", "moco", "simclr")
every_method = pytest.mark.parametrize("name", METHODS)
SMALL = {"hidden_dim": 8, "projection_dim": 5, "queue_size": 40}
VOLUMES, BATCH, EPOCHS = 17, 12, 10  # windows of 12 and 5: twenty steps
SPLITS = [(12, 1), (4, 3), (8, 1), (4, 2), (4, 1), (2, 5), (2, 1), (1, 4), (1, 1)]  # micro-batch, keep


class Random(ToyBackbone):
    """A toy with two kinds of random layers: dropout, and stochastic depth after the second convolution."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)
        self.depth = StochasticDepth(0.5, "row")

    def forward_features(self, x: Tensor) -> list[Tensor]:
        first, second = super().forward_features(x)
        return [first, first.mean((1, 2, 3, 4), keepdim=True) + self.depth(second)]


class Recorder(ToySource):
    """Remembers which volumes were requested."""

    def __init__(self) -> None:
        super().__init__(VOLUMES)
        self.asked: list[int] = []

    def volumes(self, indices: Any, device: torch.device = torch.device("cpu")) -> Volumes:  # noqa: B008
        self.asked += indices
        return super().volumes(indices, device)


def settings(name: str) -> dict[str, int]:
    return {key: value for key, value in SMALL.items() if key in method_class(name).Config.model_fields}


def build(name: str, backbone: Callable[[], Backbone] = ToyBackbone) -> AnyMethod:
    kind = method_class(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(backbone(), kind.Config(**settings(name)), NoisyAugment()).train()


def toy(norm: Norm) -> Callable[[], Backbone]:
    return lambda: ToyBackbone(BackboneConfig(norm=norm))


def job(folder: Path, name: str, **pretraining: Any) -> Job:
    """A training with the method's own optimiser and learning rate, SGD if it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {key: value for key, value in method_class(name).preset.get("pretrain", {}).items() if key != "warmup_epochs"}
    own = own or {"optimizer": "sgd", "lr": 0.1}
    values = {**own, "epochs": EPOCHS, "batch_size": BATCH, "accumulation": "exact", **pretraining}
    recipe = EncoderRecipe.checked({"seed": 3, "pretrain": values})
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")  # there is no fp16 autocast on a CPU
    return Job(build(name), Recorder(), range(VOLUMES), recipe, recipe.canonical(), fabric, folder, name)


def gradient(
    method: AnyMethod,
    micro_batch: int,
    batch: EffectiveBatch,
    source: Source | None = None,
    exact: bool = True,
    keep: int = 1,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[Tensor, WindowResult]:
    """One vector of all gradients, which are cleared again, and what the window left."""
    encoder = BatchEncoder(method, source or ToySource(VOLUMES), 3, autocast)
    outcome = Window(encoder, micro_batch, exact, Group(), keep=keep).backward(batch)
    found = torch.cat([p.grad.flatten().double() for p in method.parameters() if p.grad is not None])
    method.zero_grad(set_to_none=True)
    return found, outcome


def train(method: AnyMethod, steps: Iterable[int], source: Source | None = None, batch: int = BATCH) -> None:
    """Move everything that a step moves."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-3)
    for step in steps:
        encoder = BatchEncoder(method, source or ToySource(VOLUMES), 3)
        outcome = Window(encoder, batch, True, Group()).backward(EffectiveBatch(range(batch), step))
        optimizer.step()
        outcome.statistics.commit()
        method.after_step(step / 100, outcome.kept)
        optimizer.zero_grad(set_to_none=True)


# Twenty steps


def run(folder: Path, name: str, splits: Sequence[tuple[int, int]], **values: Any) -> Iterator[tuple[Any, ...]]:
    """For each split: the final state of the method, the log without times, the volumes in their order."""
    for micro_batch, keep in splits:
        place = folder / f"{micro_batch}-{keep}"
        made = job(place, name, precision="64-true", micro_batch=micro_batch, keep=keep, **values)
        state = pretrain(made)
        assert (state.step, len(state.rows)) == (2 * EPOCHS, EPOCHS)
        log = [{key: value for key, value in row.items() if key != "volumes_per_second"} for row in state.rows]
        yield made.method.state_dict(), log, made.source.asked


def far(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, float]:
    """What differs by more than rounding: the distance, by name."""
    assert first.keys() == second.keys()
    gaps = {key: float((value.double() - second[key].double()).norm()) for key, value in first.items()}
    return {key: gap for key, gap in gaps.items() if gap > 1e-11 * max(float(second[key].double().norm()), 1e-3)}


@every_method
def test_twenty_steps_of_the_loop_leave_the_same_however_they_are_split(name: str, tmp_path: Path) -> None:
    """Weights, momentum encoder, queue, running statistics; logged losses, learning rates, measures; data order."""
    (whole, log, order), *others = run(tmp_path, name, SPLITS[::2])
    assert far(build(name).double().state_dict(), whole)
    for split, (state, rows, asked) in zip(SPLITS[2::2], others, strict=True):
        assert far(state, whole) == {}, split
        assert all(row == pytest.approx(other, rel=1e-10) for row, other in zip(rows, log, strict=True)), split
        assert asked == order


@every_method
def test_twenty_steps_of_adamw_end_within_1e_8(name: str, tmp_path: Path) -> None:
    """AdamW divides a gradient by its own size. One that is zero in mathematics, a bias that a norm takes away again,
    is rounding in arithmetic, and rounding moves that bias; the loss does not depend on it."""
    (whole, log, _), *others = run(tmp_path, name, [(12, 1), (4, 2), (1, 1)], optimizer="adamw", lr=2e-3)
    ours = torch.cat([value.flatten().double() for value in whole.values()])
    for state, rows, _ in others:
        assert relative(torch.cat([value.flatten().double() for value in state.values()]), ours) < 1e-8
        assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in log], rel=1e-11)


@every_method
def test_each_of_twenty_gradients_is_that_of_one_pass(name: str) -> None:
    method = build(name).double()
    for step in range(20):
        batch = EffectiveBatch(range(5 * (step % 2), BATCH + 5 * (step % 2) - 3 * (step % 3)), step)
        whole, expected = gradient(method, len(batch), batch)
        if whole.any():  # MoCo's queue is empty at the first step: its loss is zero
            for micro_batch, keep in SPLITS[1:]:
                split, outcome = gradient(method, micro_batch, batch, keep=keep)
                assert relative(split, whole) < 1e-12, (step, micro_batch, keep)
                assert outcome.scalars == pytest.approx(expected.scalars, rel=1e-12)
        train(method, [step])


# What draws at random


def drawing(method: AnyMethod) -> dict[str, nn.Module]:
    return {n: m for n, m in method.named_modules() if isinstance(m, (nn.Dropout, StochasticDepth))}


@every_method
@pytest.mark.parametrize("micro_batch", [1, 3, 5])
def test_random_layers_of_both_networks_match_a_single_pass_with_the_same_draws(name: str, micro_batch: int) -> None:
    """The draws of the first pass are noted, and played back to one pass over all volumes at once."""
    method, batch = build(name, Random).double(), EffectiveBatch(range(BATCH), 50)
    train(method, range(2))
    parts = -(-BATCH // micro_batch)
    noted: dict[str, list[Tensor]] = {layer: [] for layer in drawing(method)}
    handles = [
        module.register_forward_hook(lambda *call, masks=noted[layer]: masks.append(call[2].detach() != 0))
        for layer, module in drawing(method).items()
    ]
    split, _ = gradient(method, micro_batch, batch)
    again = {layer: masks[:] for layer, masks in noted.items()}
    for handle in handles:
        handle.remove()
    for layer, module in drawing(method).items():
        online = not layer.startswith("momentum_")
        views = len((method.online_views if online else method.target_views) or range(2))
        first, second = again[layer][: parts * views], again[layer][parts * views :]
        assert len(second) == ((parts - 1) * views if online else 0)  # the last micro-batch was kept; targets come once
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=False))
        masks = iter([torch.cat(first[view::views]) for view in range(views)])
        module.register_forward_hook(lambda m, x, _, masks=masks: 2 * x[0] * next(masks))
    whole, _ = gradient(method, BATCH, batch)
    assert relative(split, whole) < 1e-12


@every_method
def test_the_networks_draw_apart_from_each_other_and_anew_at_each_step(name: str) -> None:
    method = build(name, Random).double()
    encoder, part = BatchEncoder(method, ToySource(VOLUMES), 3), range(BATCH)
    view = encoder.views(EffectiveBatch(part, 0), part).tensors[0]
    views = Views(view, view)
    first, other = (encoder.online(EffectiveBatch(part, step), part, views, 0) for step in (0, 1))
    assert not torch.allclose(first, other)
    for target in encoder.targets(EffectiveBatch(part, 0), part, views):  # equal weights: only the draws differ
        assert not torch.allclose(first, target)


# fp16


class Keeper(Progress):
    """Keeps what a method was after each step."""

    def __init__(self, method: AnyMethod) -> None:
        self.method = method
        self.states: list[dict[str, Tensor]] = []

    def advance(self, done: int, figures: Mapping[str, float]) -> None:
        self.states.append(copy.deepcopy(self.method.state_dict()))


@every_method
def test_a_step_that_fp16_skips_moves_nothing(name: str, tmp_path: Path) -> None:
    """Weights, momentum encoder, queue, running statistics of heads and backbone; and the next step moves them all."""
    made = replace(job(tmp_path, name, precision="16-mixed", micro_batch=4, epochs=2), method=build(name, toy("batch")))
    keeper = Keeper(made.method)
    made = replace(made, progress=keeper)
    weight = made.method.backbone.second.weight
    weight.register_hook(lambda grad: grad * float("inf") if len(keeper.states) == 2 else grad)
    pretrain(made)
    before, skipped, after = keeper.states[1:]
    assert [key for key in before if not torch.equal(before[key], skipped[key])] == []
    assert [key for key in weights(after) if torch.equal(after[key], skipped[key])] == []
    end = checkpoint.load(made.folder, torch.device("cpu"))
    assert end["scaler"]["scale"] == 2.0**15  # halved once
    steps = [state["step"] for state in end["optimizer"]["state"].values() if "step" in state]
    assert all(int(step) == 3 for step in steps)


def weights(state: Mapping[str, Tensor]) -> list[str]:
    """Names of what every step moves."""
    return [key for key in state if key.endswith(("second.weight", "running_mean", "queue.rows", "cursor"))]
