"""Draws depend on (seed, step, position, number of the draw) and on nothing else."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from ssl3d.data.rng import Rng, mix


def draws(rng: Rng) -> list[torch.Tensor]:
    return [
        rng.uniform(-2.0, 3.0),
        rng.bernoulli(0.3),
        rng.normal((2, 3)),
        torch.from_numpy(rng.numbers(count=5)),
        torch.stack([torch.rand(4, generator=one) for one in rng.generators()]),
    ]


def global_state() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


@pytest.mark.parametrize("split", [(1,) * 7, (2, 5), (3, 1, 3), (6, 1)])
def test_a_row_does_not_depend_on_the_rows_beside_it(split: tuple[int, ...]) -> None:
    together = draws(Rng(3, 11, range(7)))
    bounds = np.cumsum((0, *split)).tolist()
    parts = [draws(Rng(3, 11, range(a, b))) for a, b in pairwise(bounds)]
    for one, pieces in zip(together, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(pieces))


def test_positions_may_come_in_any_order() -> None:
    order = [4, 0, 9, 2]
    for sorted_, shuffled in zip(draws(Rng(0, 0, range(10))), draws(Rng(0, 0, order)), strict=True):
        assert torch.equal(sorted_[order], shuffled)


def test_seed_step_position_and_draw_each_change_the_numbers() -> None:
    rng = Rng(1, 1, range(50))
    first, second = rng.numbers(), rng.numbers()
    others = [
        second,
        Rng(2, 1, range(50)).numbers(),
        Rng(1, 2, range(50)).numbers(),
        Rng(1, 1, range(50, 100)).numbers(),
    ]
    everything = np.concatenate([first, *others])
    assert len(np.unique(everything)) == len(everything)


def test_seed_and_step_do_not_stand_in_for_each_other() -> None:
    assert len({int(mix(*parts)) for parts in [(1, 2), (2, 1), (3, 0), (0, 3), (1, 2, 0), (0, 1, 2)]}) == 6


def test_uniform_draws_are_uniform_over_positions_steps_and_seeds() -> None:
    per_position = Rng(0, 0, range(20_000)).numbers()
    per_step = np.concatenate([Rng(0, step, [0]).numbers() for step in range(5_000)])
    per_seed = np.concatenate([Rng(seed, 0, [0]).numbers() for seed in range(5_000)])
    per_count = Rng(0, 0, [0]).numbers(count=20_000)[0]
    for numbers in (per_position, per_step, per_seed, per_count):
        share = np.histogram(numbers, bins=10, range=(0, 1))[0] / len(numbers)
        assert np.abs(share - 0.1).max() < 5 * np.sqrt(0.09 / len(numbers))


def test_neighbouring_draws_are_not_correlated() -> None:
    rng = Rng(0, 0, range(20_000))
    a, b = rng.numbers(), rng.numbers()
    for left, right in ((a, b), (a[1:], a[:-1])):
        assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(len(left))


def test_draws_stay_inside_their_bounds() -> None:
    numbers = Rng(0, 5, range(10_000)).numbers(-2.5, -2.0)
    assert numbers.min() >= -2.5
    assert numbers.max() < -2.0
    assert set(Rng(0, 5, range(10)).uniform(7.0, 7.0).tolist()) == {7.0}


def test_bernoulli_is_certain_at_the_ends_and_fair_between() -> None:
    rng = Rng(0, 0, range(10_000))
    assert not rng.bernoulli(0.0).any()
    assert rng.bernoulli(1.0).all()
    assert rng.bernoulli(0.3).float().mean().item() == pytest.approx(0.3, abs=0.025)


def test_normal_draws_are_standard_normal_and_differ_between_rows() -> None:
    rows = Rng(0, 0, range(3)).normal((40, 50, 20))
    assert rows.shape == (3, 40, 50, 20)
    assert rows.dtype == torch.float32
    assert rows.mean(dim=(1, 2, 3)).abs().max() < 0.03
    assert (rows.std(dim=(1, 2, 3)) - 1).abs().max() < 0.03
    assert torch.corrcoef(rows.flatten(1)).fill_diagonal_(0).abs().max() < 0.03


def test_the_global_generators_stay_where_they_were() -> None:
    before = global_state()
    draws(Rng(0, 0, range(4)))
    assert global_state() == before
