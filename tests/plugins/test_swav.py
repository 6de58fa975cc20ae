"""SwAV: its loss against lightly's, Sinkhorn's algorithm, prototypes and queue."""

from __future__ import annotations

import torch
from lightly.loss import SwaVLoss
from torch import Tensor
from torch.nn import functional as F

from ssl3d.method import Batch
from ssl3d.parts.prototypes import sinkhorn
from ssl3d_plugins.methods.swav import SwAV
from tests.plugins.small import SMALL, VOLUMES, batch_of, train, views_of

SOURCE = SMALL["swav"].source()


def trained() -> SwAV:
    """One step: the queues hold nine projections each."""
    method = SMALL["swav"].build()
    assert isinstance(method, SwAV)
    train(method, SOURCE, VOLUMES, [range(9)])
    return method


def scores(method: SwAV, batch: Batch) -> list[Tensor]:
    """Cosines (N, K) of each crop with the prototypes; all crops pass the projector together."""
    projected = F.normalize(method.projector(torch.cat(batch.online)), dim=1)
    return list((projected @ F.normalize(method.prototypes.weight, dim=1).T).chunk(len(batch.online)))


def test_loss_is_that_of_lightly_with_a_queue_and_without() -> None:
    for method in (SMALL["swav"].build(), trained()):
        method.normalize_prototypes()  # in float64: it was built in float32
        batch = batch_of(method, SOURCE)
        crops = scores(method, batch)
        queued = [method.prototypes(queue.held) for queue in (method.first_queue, method.second_queue)]
        expected = SwaVLoss()(crops[:2], crops[2:], queued if len(queued[0]) else None)
        torch.testing.assert_close(method.loss(batch).value, expected.squeeze(), rtol=1e-10, atol=0)
    assert len(queued[0]) == len(queued[1]) == 9


def test_sinkhorn_uses_the_prototypes_alike() -> None:
    drawn = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    assigned = sinkhorn(drawn, 200)
    torch.testing.assert_close(assigned.sum(0), torch.full((5,), 6.0).double(), rtol=1e-9, atol=0)
    torch.testing.assert_close(assigned.sum(1), torch.ones(30).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(sinkhorn(drawn, 3).sum(1), torch.ones(30).double(), rtol=1e-12, atol=0)


def test_sinkhorn_does_not_change_where_a_prototype_scores_more_with_every_volume() -> None:
    drawn = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.arange(5.0).double()
    torch.testing.assert_close(sinkhorn(drawn + shift, 3), sinkhorn(drawn, 3), rtol=1e-11, atol=0)


def test_sinkhorn_holds_the_sharpest_scores_in_float32() -> None:
    extreme = torch.tensor([[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]]) / 0.03
    assert sinkhorn(extreme, 3).isfinite().all()


def test_two_large_crops_are_assigned_and_all_predict() -> None:
    method = SMALL["swav"].build()
    views = views_of(method, SOURCE)
    assert [tuple(view.shape[2:]) for view in views.tensors] == [(4, 9, 7)] * 2 + [(2, 4, 3)] * 2
    assert method.local.recipe.crop == (0.05, 0.14)


def test_prototypes_keep_unit_length_and_are_frozen_at_first() -> None:
    method = trained()
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(11).double(), rtol=1e-12, atol=0)
    groups = SMALL["swav"].build(freeze_prototypes=0.01).parameter_groups()
    assert [group.frozen_until for group in groups] == [0, 0, 0.01]
    assert [tuple(one.shape) for one in groups[2].parameters] == [(11, 5)]
    listed = [id(one) for group in method.parameter_groups() for one in group.parameters]
    assert sorted(listed) == sorted(id(one) for one in method.parameters())


def test_the_queue_starts_late_and_holds_each_large_crop_apart() -> None:
    method = SMALL["swav"].build(queue_start=0.05)
    first = train(method, SOURCE, VOLUMES, [range(9), range(8)])  # progress 0 and 0.1
    assert len(method.first_queue.held) == 8
    torch.testing.assert_close(method.first_queue.held, first[1].values["row first"], rtol=1e-12, atol=0)
    torch.testing.assert_close(method.second_queue.held, first[1].values["row second"], rtol=1e-12, atol=0)


def test_assignments_carry_no_gradient() -> None:
    method = trained()
    crops = scores(method, batch_of(method, SOURCE))
    assert not method.assign(crops[0], method.first_queue).requires_grad
