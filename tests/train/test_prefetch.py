"""Views made ahead are those that are requested, in any order; errors are raised where their views are requested."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl3d.method import Views
from ssl3d.train import encode
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.prefetch import Prefetch
from ssl3d.train.window import Window
from tests.toys import ToySource
from tests.train.test_window import METHODS, build

CPU = torch.device("cpu")


class Maker:
    """Makes a tensor of a number, and remembers which and in which thread."""

    def __init__(self, fails: int = -1) -> None:
        self.made: list[int] = []
        self.threads: set[str] = set()
        self.fails = fails

    def __call__(self, key: int) -> Views:
        self.made.append(key)
        self.threads.add(threading.current_thread().name)
        if key == self.fails:
            raise ValueError(f"cannot make {key}")
        return Views(torch.tensor(float(key)))


def values(ahead: Prefetch[int], keys: list[int]) -> list[float]:
    return [float(ahead.get(key).tensors[0]) for key in keys]


def test_views_requested_in_the_expected_order_are_made_once_in_another_thread() -> None:
    maker = Maker()
    ahead = Prefetch(maker, CPU)
    ahead.follow(iter(range(5)))
    assert values(ahead, [0, 1, 2, 3, 4]) == [0, 1, 2, 3, 4]
    ahead.close()
    assert maker.made == [0, 1, 2, 3, 4]
    assert threading.current_thread().name not in maker.threads


def test_at_most_one_is_made_ahead() -> None:
    maker = Maker()
    ahead = Prefetch(maker, CPU)
    ahead.follow(iter(range(100)))
    ahead.get(0)
    ahead.close()  # waits for the current item
    assert maker.made in ([0], [0, 1])


def test_views_that_were_not_expected_are_made_when_requested() -> None:
    ahead = Prefetch(Maker(), CPU)
    ahead.follow(iter([0, 1, 2]))
    assert values(ahead, [0, 7, 1, 9, 2, 3]) == [0, 7, 1, 9, 2, 3]
    ahead.follow(iter([5, 6]))
    assert values(ahead, [5, 6]) == [5, 6]
    ahead.close()


def test_an_error_is_raised_where_its_views_are_requested() -> None:
    ahead = Prefetch(Maker(fails=1), CPU)
    ahead.follow(iter([0, 1, 2]))
    assert values(ahead, [0]) == [0]
    with pytest.raises(ValueError, match="cannot make 1"):
        ahead.get(1)
    assert values(ahead, [2]) == [2]
    ahead.close()


STEPS = [EffectiveBatch(range(12), 0), EffectiveBatch(range(4, 15), 1), EffectiveBatch(range(8), 2)]


def gradients(name: str, micro_batch: int, keep: int, ahead: bool) -> list[Tensor]:
    """Gradients of three windows, one after the other."""
    method = build(name)
    window = Window(BatchEncoder(method, ToySource(), seed=3), micro_batch, keep=keep)

    def requests() -> Iterator[Any]:
        for batch in STEPS:
            yield from window.requests(batch)

    if ahead:
        window.encoder.prefetch(requests())
    for batch in STEPS:
        window.backward(batch)
    window.encoder.close()
    return [parameter.grad for parameter in method.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("micro_batch", "keep"), [(12, 1), (5, 1), (3, 2), (1, 4)])
@pytest.mark.parametrize("kept_views", [True, False])
def test_gradients_are_the_same_bits_with_views_made_ahead(
    name: str, micro_batch: int, keep: int, kept_views: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "VIEW_BYTES", 2**30 if kept_views else 0)
    plain, ahead = (gradients(name, micro_batch, keep, flag) for flag in (False, True))
    assert len(plain) > 4
    for first, second in zip(plain, ahead, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kept_views", [True, False])
@pytest.mark.parametrize(("micro_batch", "keep"), [(12, 1), (5, 1), (3, 2)])
def test_the_order_that_a_window_announces_is_that_of_its_requests(
    micro_batch: int, keep: int, kept_views: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "VIEW_BYTES", 2**30 if kept_views else 0)
    window = Window(BatchEncoder(build("byol"), ToySource()), micro_batch, keep=keep)
    asked: list[tuple[int, range]] = []
    make = window.encoder._make

    def listen(request: tuple[EffectiveBatch, range]) -> Views:
        asked.append((request[0].step, request[1]))
        return make(request)

    monkeypatch.setattr(window.encoder, "_make", listen)
    for batch in STEPS:
        before = len(asked)
        window.backward(batch)
        announced = [(found.step, part) for found, part in window.requests(batch)]
        assert asked[before:] == announced


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    gradients("byol", 4, 1, ahead=True)
    assert threading.active_count() == before


@pytest.mark.gpu
def test_on_a_gpu_views_made_ahead_give_the_same_gradients() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = []
    for ahead in (False, True):
        method = build("simclr").float().cuda()
        window = Window(BatchEncoder(method, ToySource(), seed=3), 3)
        if ahead:
            window.encoder.prefetch(request for batch in STEPS for request in window.requests(batch))
        for batch in STEPS:
            window.backward(batch)
        window.encoder.close()
        found.append([parameter.grad.cpu() for parameter in method.parameters() if parameter.grad is not None])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
