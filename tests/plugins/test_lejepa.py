"""LeJEPA: its loss against lightly's, SIGReg as an integral, its directions, and the fault of plain accumulation."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from lightly.loss.lejepa_loss import LeJEPALoss
from torch import Tensor

from ssl3d.data.rng import Stream
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.processes import Group
from ssl3d.train.window import Window
from ssl3d_plugins.methods.lejepa import LeJEPA
from tests.plugins.small import SMALL, VOLUMES, batch_of, step, views_of

SOURCE = SMALL["lejepa"].source()
WHOLE = EffectiveBatch(range(VOLUMES), 1, 0.2)


def built() -> LeJEPA:
    method = SMALL["lejepa"].build()
    assert isinstance(method, LeJEPA)
    return method


def drawn(count: int, seed: int = 0) -> Tensor:
    """Standard normal numbers (1, N, 3)."""
    return torch.randn(1, count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_loss_is_that_of_lightly() -> None:
    """With the same directions, which both draw from the generator of the loss."""
    method = built()
    batch = batch_of(method, SOURCE)
    projected = method.projector(torch.cat(batch.online)).view(4, VOLUMES, 5)
    reference = LeJEPALoss(lambda_param=0.05, sigreg_num_vectors=7)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        value = method.loss(batch).value
        torch.manual_seed(1)
        expected = reference(local_proj=projected[2:].float(), global_proj=projected[:2].float())
    torch.testing.assert_close(value.float(), expected, rtol=1e-4, atol=0)  # lightly's directions are float32


def test_sigreg_is_the_integral_of_equation_6() -> None:
    """One direction, by quadrature on a fine grid from -3 to 3."""
    projection = drawn(20) * 1.5 + 0.3
    method = SMALL["lejepa"].build(frequencies=2001)
    direction = torch.tensor([[0.6], [0.0], [0.8]], dtype=torch.float64)
    x = (projection[0] @ direction).numpy()  # (N, 1)
    t = np.linspace(-3, 3, 4001)
    distance = np.abs(np.exp(1j * x * t).mean(0) - np.exp(-(t**2) / 2)) ** 2
    expected = 20 * np.trapezoid(distance * np.exp(-(t**2) / 2), t)
    assert float(method.sigreg(projection, direction)) == pytest.approx(expected, rel=1e-5)


def test_sigreg_is_least_for_a_standard_gaussian() -> None:
    method, axes = built(), torch.eye(3, dtype=torch.float64)
    gaussian = float(method.sigreg(drawn(2000), axes))
    # For a Gaussian the mean of N |phi_N - phi|^2 is 1 - phi^2, whatever N.
    t = np.linspace(-3, 3, 4001)
    expected = np.trapezoid((1 - np.exp(-(t**2))) * np.exp(-(t**2) / 2), t)
    assert gaussian == pytest.approx(expected, rel=0.7)
    for other in (drawn(2000) * 2, drawn(2000) + 0.5, drawn(2000).sign(), torch.zeros(1, 2000, 3).double()):
        assert float(method.sigreg(other, axes)) > 20 * gaussian


def test_sigreg_does_not_change_when_projections_and_directions_turn_together() -> None:
    method, projection = built(), drawn(20)
    turn = torch.linalg.qr(drawn(3)[0]).Q
    torch.testing.assert_close(
        method.sigreg(projection @ turn, turn.T), method.sigreg(projection, torch.eye(3).double()), rtol=1e-11, atol=0
    )


def test_directions_are_drawn_anew_in_every_step_and_are_the_same_however_the_batch_is_split() -> None:
    method, found = built(), []
    for micro_batch, number in ((VOLUMES, 1), (5, 1), (VOLUMES, 2)):
        batch = EffectiveBatch(range(VOLUMES), number, 0.2)
        outcome = Window(BatchEncoder(copy.deepcopy(method), SOURCE, 3), micro_batch, True, Group()).backward(batch)
        found.append(outcome.scalars["sigreg"])
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    seen = batch_of(method, SOURCE)
    values = []
    for number in (1, 2):
        with BatchEncoder(method, SOURCE, 3).seeded(Stream.LOSS, number, range(VOLUMES)):
            values.append(float(method.loss(seen).scalars["sigreg"].detach()))
    assert not math.isclose(*values, rel_tol=1e-6)


def test_plain_accumulation_computes_the_statistic_of_micro_batches_and_is_noticed() -> None:
    """The fault of public code: SIGReg over 32 volumes in place of 256 is another loss, not a mean of the same."""
    exact = step(built(), SOURCE, 3, WHOLE)
    plain = Window(BatchEncoder(built(), SOURCE, 3), 3, exact=False, group=Group()).backward(WHOLE)
    assert float(exact.values["scalar sigreg"]) != pytest.approx(plain.scalars["sigreg"], rel=0.01)


def test_two_large_and_two_small_crops() -> None:
    views = views_of(built(), SOURCE)
    assert [tuple(view.shape[2:]) for view in views.tensors] == [(4, 9, 7)] * 2 + [(2, 4, 3)] * 2
