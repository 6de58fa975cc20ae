"""Batch norm kept, frozen or replaced."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ssl3d.parts.norm import REPLACED_NORM, FrozenBatchNorm, GroupNorm, convert_norm, groups, resolve_norm
from ssl3d.registry import load, plugins

DIMENSIONS = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}
SPACE = (5, 6, 7)


def network(dimension: int) -> nn.Sequential:
    """A stem on one channel, a convolution, and batch norms whose statistics are no longer the initial ones."""
    conv, norm = DIMENSIONS[dimension]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(dimension)
        net = nn.Sequential(
            conv(1, 8, 3, bias=False), norm(8), nn.ReLU(), nn.Sequential(conv(8, 12, 3, stride=2, bias=False), norm(12))
        ).double()  # fmt: skip
        for _ in range(3):
            net(2 * torch.randn(6, 1, *SPACE[:dimension], dtype=torch.float64) + 1)
    return net


def volumes(dimension: int, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 1, *SPACE[:dimension], dtype=torch.float64, generator=generator)


@given(st.integers(1, 4096))
def test_groups_divide_the_channels_with_four_or_more_in_each(channels: int) -> None:
    count = groups(channels)
    assert channels % count == 0
    assert 1 <= count <= 32
    assert count == 1 or channels // count >= 4


def test_common_widths_get_the_usual_number_of_groups() -> None:
    assert [groups(c) for c in (16, 64, 128, 512, 45)] == [4, 16, 32, 32, 9]


@pytest.mark.parametrize(
    ("norm", "pretrained", "meant"),
    [("auto", True, "frozen"), ("auto", False, "group"), ("batch", True, "batch"), ("group", True, "group")],
)
def test_auto_is_frozen_with_weights_and_group_from_scratch(norm, pretrained, meant) -> None:
    assert resolve_norm(norm, pretrained) == meant


@pytest.mark.parametrize("norm", ["auto", "group", "frozen"])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_features_do_not_depend_on_the_neighbours(dimension: int, norm) -> None:
    net, x = convert_norm(network(dimension), norm).train(), volumes(dimension)
    torch.testing.assert_close(net(x)[:1], net(x[:1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_batch_is_left_as_it_is(dimension: int) -> None:
    net = network(dimension)
    parts = list(net.modules())
    assert list(convert_norm(net, "batch").modules()) == parts


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_frozen_is_batch_norm_in_evaluation_whatever_the_mode(dimension: int) -> None:
    x = volumes(dimension)
    expected = network(dimension).eval()(x)
    frozen = convert_norm(network(dimension), "frozen").train()
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    torch.testing.assert_close(frozen(x), expected, rtol=0, atol=1e-12)
    assert all(torch.equal(before[key], value) for key, value in frozen.state_dict().items())


def test_the_affine_parameters_of_a_frozen_norm_still_train() -> None:
    frozen = convert_norm(network(3), "frozen")
    frozen(volumes(3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in frozen.parameters())


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_names_of_tensors_stay_those_of_the_original(norm) -> None:
    original, converted = network(3).state_dict(), convert_norm(network(3), norm).state_dict()
    gone = original.keys() - converted.keys()
    assert converted.keys() < original.keys()
    assert all(key.endswith("num_batches_tracked") or (norm == "group" and "running" in key) for key in gone)


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_timms_norm_keeps_its_activation(norm) -> None:
    net = convert_norm(nn.Sequential(BatchNormAct2d(8, act_layer=nn.SiLU)), norm)
    x = torch.linspace(-3, 3, 2 * 8 * 3 * 4).view(2, 8, 3, 4)
    plain = convert_norm(nn.Sequential(nn.BatchNorm2d(8)), norm)
    torch.testing.assert_close(net(x), nn.functional.silu(plain(x)))


def test_a_norm_without_affine_parameters_stays_so() -> None:
    net = convert_norm(nn.Sequential(nn.BatchNorm3d(8, affine=False), nn.Conv3d(8, 8, 1)), "group")
    assert isinstance(net[0], GroupNorm)
    assert net[0].weight is None


def test_a_norm_keeps_weights_that_start_at_zero() -> None:
    net = nn.Sequential(nn.BatchNorm3d(8))
    nn.init.zeros_(net[0].weight)
    assert not convert_norm(net, "group")[0].weight.any()


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_standardised_kernel_is_that_of_the_paper_up_to_scale(dimension: int) -> None:
    net, x = convert_norm(network(dimension), "group"), volumes(dimension)
    conv = net[3][0]
    inside = net[:3](x)
    flat = conv.weight.flatten(1)
    kernel = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True, correction=0)  # arXiv 1903.10520
    kernel = kernel / flat.shape[1] ** 0.5
    function = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}[dimension]
    expected = function(inside, kernel.view_as(conv.weight), stride=2)
    torch.testing.assert_close(conv(inside), expected, rtol=1e-7, atol=1e-7)


def test_scaling_and_shifting_a_standardised_kernel_changes_nothing() -> None:
    net, x = convert_norm(network(3), "group"), volumes(3)
    before = net(x)
    with torch.no_grad():
        net[3][0].weight.mul_(5).add_(2)
    torch.testing.assert_close(net(x), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "conv", [nn.Conv3d(1, 8, 3, bias=False), nn.Conv3d(8, 8, 3, groups=8, bias=False), nn.Conv3d(8, 8, 1)]
)
def test_kernels_of_one_channel_and_convolutions_with_a_bias_are_not_standardised(conv: nn.Module) -> None:
    assert convert_norm(nn.Sequential(conv, nn.BatchNorm3d(8)), "group")[0] is conv


def test_a_network_without_batch_norm_comes_back_as_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.GroupNorm(2, 8))
    parts = list(net.modules())
    assert list(convert_norm(net, "group").modules()) == parts


def test_no_random_numbers_are_drawn() -> None:
    net, state = network(2), torch.get_rng_state()
    convert_norm(net, "group")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_frozen_norm_does_not_count_as_batch_norm() -> None:
    frozen = convert_norm(network(3), "frozen")
    assert isinstance(frozen[1], FrozenBatchNorm)
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in frozen.modules())


def test_the_card_of_every_backbone_that_converts_its_norm_says_so() -> None:
    found = {name: load("backbones", name) for name in plugins("backbones")}
    converting = {name for name, kind in found.items() if hasattr(sys.modules[kind.__module__], "convert_norm")}
    assert {"tiny", "r3d_18", "slow_r50", "timm"} <= converting
    assert {name for name, kind in found.items() if REPLACED_NORM in kind.card.departures} == converting
