"""Memory layout and compiler: the same gradients, and a compiler that fails is left out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl3d.backbone import Backbone
from ssl3d.method import AnyMethod
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.pretrain import pretrain
from ssl3d.train.processes import Group
from ssl3d.train.tuning import layout
from ssl3d.train.tuning.layout import arrange
from ssl3d.train.tuning.tune import notes, tune
from ssl3d.train.window import Window
from tests.toys import SIZE, ToySource
from tests.train.test_window import METHODS, build
from tests.train.trials import BATCH, every_device, job, recipe, toy


def gradient(method: AnyMethod, channels_last: bool, compiled: bool = False) -> Tensor:
    arrange(method, channels_last, compiled)
    encoder = BatchEncoder(method, ToySource(), seed=3, channels_last=channels_last)
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
