"""Accumulation is exact: the gradient of an effective batch does not depend on how it was split."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from ssl3d.backbone import BackboneConfig, Norm
from ssl3d.method import AnyMethod, Batch
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.processes import Group
from ssl3d.train.window import Window, WindowResult
from ssl3d_plugins.methods.byol import BYOL, BYOLConfig
from ssl3d_plugins.methods.moco import MoCo, MoCoConfig
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig
from tests.toys import NoisyAugment, ToyBackbone, ToySource

METHODS = {
    "byol": (BYOL, BYOLConfig(hidden_dim=8, projection_dim=5)),
    "simclr": (SimCLR, SimCLRConfig(hidden_dim=8, projection_dim=5)),
    "moco": (MoCo, MoCoConfig(hidden_dim=8, projection_dim=5, queue_size=40)),
}
every_method = pytest.mark.parametrize("name", METHODS)


def build(name: str, norm: Norm = "group", dropout: float = 0.0) -> AnyMethod:
    kind, config = METHODS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = ToyBackbone(BackboneConfig(norm=norm), dropout=dropout)
        method = kind(backbone, config, NoisyAugment()).double().train()
    if isinstance(method, MoCo):  # a part-filled queue, so that there are negatives
        method.queue.push(torch.nn.functional.normalize(torch.arange(50.0).reshape(10, 5).sin().double()))
    return method


def window(method: AnyMethod, micro_batch: int, exact: bool = True) -> Window:
    return Window(BatchEncoder(method, ToySource(), seed=3), micro_batch, exact, Group())


def gradients(
    method: AnyMethod, micro_batch: int, count: int = 16, exact: bool = True, keep: int = 1
) -> tuple[list[Tensor], WindowResult]:
    step = window(method, micro_batch, exact)
    step.keep = keep
    outcome = step.backward(EffectiveBatch(range(count), 0))
    grads = [p.grad.clone() for p in method.parameters() if p.grad is not None]
    for parameter in method.parameters():
        parameter.grad = None
    return grads, outcome


def relative(first: list[Tensor], second: list[Tensor]) -> float:
    one, two = torch.cat([g.flatten() for g in first]), torch.cat([g.flatten() for g in second])
    return float((one - two).norm() / two.norm())


@every_method
@pytest.mark.parametrize("count", [16, 13])
def test_gradient_and_loss_do_not_depend_on_the_micro_batch(name: str, count: int) -> None:
    whole, expected = gradients(build(name), count, count)
    for micro_batch in (1, 2, 4, 8):
        split, outcome = gradients(build(name), micro_batch, count)
        assert len(split) == len(whole)
        assert relative(split, whole) < 1e-12
        assert outcome.scalars == pytest.approx(expected.scalars, rel=1e-12)
        for key, rows in expected.kept.rows.items():
            torch.testing.assert_close(outcome.kept.rows[key], rows, rtol=1e-12, atol=1e-12)


@every_method
def test_window_equals_a_plain_autograd_step_written_out(name: str) -> None:
    method = build(name)
    encoder = BatchEncoder(method, ToySource(), seed=3)
    views = encoder.views(EffectiveBatch(range(16), 0), range(16))
    online = [method.online(views.tensors[index], {}) for index in method.online_views or range(2)]
    with torch.no_grad():
        target = [method.target(views.tensors[index], {}) for index in method.target_views or range(2)]
    seen = Batch(tuple(online), tuple(features for features in target if features is not None))
    method.loss(seen).value.backward()  # type: ignore[no-untyped-call]
    expected = [p.grad for p in method.parameters() if p.grad is not None]
    assert relative(gradients(build(name), 4)[0], expected) < 1e-12


@every_method
@pytest.mark.parametrize("keep", [0, 2, 4])
def test_keeping_activations_changes_no_gradient(name: str, keep: int) -> None:
    assert relative(gradients(build(name), 4, keep=keep)[0], gradients(build(name), 16)[0]) < 1e-12


@pytest.mark.parametrize("name", ["byol", "simclr"])  # moco couples volumes only through its queue
def test_plain_accumulation_has_another_gradient(name: str) -> None:
    assert relative(gradients(build(name), 4, exact=False)[0], gradients(build(name), 16)[0]) > 0.01


def test_plain_accumulation_divides_a_short_window_by_its_true_length() -> None:
    """Five volumes in micro-batches of 4 and 1 weigh 4/5 and 1/5; for MoCo's loss, that is the mean over all five."""
    assert relative(gradients(build("moco"), 4, 5, exact=False)[0], gradients(build("moco"), 5, 5)[0]) < 1e-12


@every_method
def test_dropout_agrees_between_the_passes(name: str) -> None:
    """With dropout, both passes must draw the same masks, or the gradient is that of another function."""
    method = build(name, dropout=0.5)
    kept, _ = gradients(method, 4, keep=4)  # every graph kept from the first pass: no second pass at all
    again, _ = gradients(method, 4, keep=0)  # every micro-batch encoded twice
    assert relative(again, kept) < 1e-12


@every_method
def test_a_window_leaves_the_global_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    gradients(build(name, dropout=0.5), 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("micro_batch", [1, 3, 16])
def test_running_statistics_move_once_and_by_the_whole_effective_batch(micro_batch: int) -> None:
    method = build("simclr", norm="batch")
    layer = method.backbone.first[1]
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    before = layer.running_mean.clone()
    _, outcome = gradients(method, micro_batch)
    handle.remove()
    assert torch.equal(layer.running_mean, before)
    outcome.statistics.commit()
    first = (
        torch.cat(seen)[:32] if micro_batch == 16 else torch.cat(seen[: 2 * -(-16 // micro_batch)])
    )  # the first pass
    mean, var = first.mean((0, 2, 3, 4)), first.var((0, 2, 3, 4))
    torch.testing.assert_close(layer.running_mean, 0.9 * before + 0.1 * mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * var, rtol=1e-10, atol=1e-12)
    assert int(layer.num_batches_tracked) == 1
    assert layer.momentum == 0.1


def test_backbone_batch_norm_deviates() -> None:
    """What cannot be exact is not: batch norm in the backbone sees micro-batches."""
    deviation = relative(
        gradients(build("simclr", norm="batch"), 4)[0], gradients(build("simclr", norm="batch"), 16)[0]
    )
    assert deviation > 1e-3


@every_method
def test_twenty_steps_end_in_the_same_weights(name: str) -> None:
    ends = []
    for micro_batch in (2, 16):
        method = build(name)
        optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9)
        for step in range(20):
            optimizer.zero_grad()
            outcome = window(method, micro_batch).backward(EffectiveBatch(range(step % 3, 12), step))
            optimizer.step()
            outcome.statistics.commit()
            method.after_step(step / 20, outcome.kept)
        ends.append(copy.deepcopy(method.state_dict()))
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=1e-9, atol=1e-12, msg=key)
