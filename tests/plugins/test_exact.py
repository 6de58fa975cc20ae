"""Accumulation is exact for every method: any split of a batch has the gradient, rows and sums of the whole."""

from __future__ import annotations

import copy
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.method import Method
from ssl3d.train.encode import EffectiveBatch, Part
from tests.plugins.small import SMALL, VOLUMES, Step, state, step, train

WHOLE = EffectiveBatch(range(VOLUMES), 2, 0.2)
every_method = pytest.mark.parametrize("name", SMALL)


@cache
def _trained(name: str) -> Method[Any]:
    """Two steps, so that queues hold keys, and momentum encoders and centres have moved."""
    method = SMALL[name].build()
    train(method, SMALL[name].source(), VOLUMES, [range(9), range(3, VOLUMES)])
    return method


def trained(name: str) -> Method[Any]:
    return copy.deepcopy(_trained(name))


@cache
def whole(name: str) -> Step:
    return step(trained(name), SMALL[name].source(), VOLUMES, WHOLE)


@every_method
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_gradient_rows_and_sums_do_not_depend_on_the_micro_batch(name: str, micro_batch: int) -> None:
    assert float(whole(name).values["gradient"].norm()) > 1e-6
    split = step(trained(name), SMALL[name].source(), micro_batch, WHOLE)
    assert split.distance(whole(name)) == {}


@st.composite
def partitions(draw: st.DrawFn) -> list[Part]:
    """Draw micro-batches of unequal sizes."""
    edges = draw(st.sets(st.integers(1, VOLUMES - 1), min_size=1, max_size=5))
    places = [0, *sorted(edges), VOLUMES]
    return [range(*pair) for pair in pairwise(places)]


@every_method
@settings(max_examples=8, deadline=None, derandomize=True)
@given(cut=partitions(), keep=st.integers(0, 3))
def test_gradient_rows_and_sums_of_random_partitions(name: str, cut: list[Part], keep: int) -> None:
    split = step(trained(name), SMALL[name].source(), VOLUMES, WHOLE, cut, keep)
    assert split.distance(whole(name)) == {}


@every_method
def test_state_after_several_steps_does_not_depend_on_the_split(name: str) -> None:
    """Weights, momentum encoders, queues in their order, centre."""
    windows = [range(7), range(2, 12), range(5), range(3, 12)]
    ends = []
    for micro_batch in (VOLUMES, 2):
        method = SMALL[name].build()
        train(method, SMALL[name].source(), micro_batch, windows)
        ends.append(state(method))
    assert ends[1].distance(ends[0]) == {}
    assert ends[0].distance(state(SMALL[name].build()))  # they have moved
