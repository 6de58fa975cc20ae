"""SimCLR, BYOL and MoCo: their losses written out, and the faults of public code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from ssl3d.parts.momentum import cosine_momentum
from ssl3d.train.encode import EffectiveBatch
from tests.plugins.small import SMALL, VOLUMES, batch_of, state, step, train

SOURCE = SMALL["simclr"].source()


def test_simclr_loss_is_equation_1_written_out() -> None:
    method = SMALL["simclr"].build()
    batch = batch_of(method, SOURCE)
    views = F.normalize(torch.cat([method.projector(one) for one in batch.online]), dim=1)  # (2N, P)
    terms = []
    for i in range(2 * VOLUMES):
        scores = (views[i] @ views.T / 0.1).exp()
        others = torch.arange(2 * VOLUMES) != i
        terms.append(-(scores[(i + VOLUMES) % (2 * VOLUMES)] / scores[others].sum()).log())
    torch.testing.assert_close(method.loss(batch).value, torch.stack(terms).mean(), rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_losses_are_symmetrical_in_the_views(name: str) -> None:
    method = SMALL[name].build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch = batch_of(method, SOURCE)
    swapped = replace(batch, online_features=batch.online_features[::-1], target_features=batch.target_features[::-1])
    torch.testing.assert_close(method.loss(swapped).value, method.loss(batch).value, rtol=1e-12, atol=0)


def test_byol_loss_is_the_distance_of_unit_vectors_in_both_directions() -> None:
    method = SMALL["byol"].build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch = batch_of(method, SOURCE)
    predicted = [F.normalize(method.predictor(method.projector(one)), dim=1) for one in batch.online]
    targets = [F.normalize(method.momentum_projector(one), dim=1) for one in batch.target]
    expected = sum((predicted[i] - targets[1 - i]).square().sum(1).mean() for i in range(2))
    torch.testing.assert_close(method.loss(batch).value, expected, rtol=1e-11, atol=0)


def test_moco_loss_is_info_nce_against_the_queue_written_out() -> None:
    method = SMALL["moco"].build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch = batch_of(method, SOURCE)
    queries = F.normalize(method.projector(batch.online[0]), dim=1)
    keys = F.normalize(method.momentum_projector(batch.target[0]), dim=1)
    terms = []
    for query, key in zip(queries, keys, strict=True):
        positive, negatives = (query @ key / 0.2).exp(), (method.queue.held @ query / 0.2).exp()
        terms.append(-(positive / (positive + negatives.sum())).log())
    loss = method.loss(batch)
    assert len(method.queue.held) == 9
    torch.testing.assert_close(loss.value, torch.stack(terms).mean(), rtol=1e-11, atol=0)
    torch.testing.assert_close(loss.rows["keys"], keys, rtol=1e-12, atol=0)
    assert torch.cdist(loss.rows["keys"], method.queue.held).min() > 1e-6  # not yet among the negatives


@pytest.mark.parametrize("name", ["byol", "moco"])
def test_momentum_copies_move_once_per_step_and_not_within_a_window(name: str) -> None:
    method = SMALL[name].build(momentum=0.9)
    followers = (method.momentum_backbone, method.momentum_projector)
    before = [parameters_to_vector(one.module.parameters()).detach() for one in followers]
    for old, one in zip(before, followers, strict=True):
        assert torch.equal(old, parameters_to_vector(one.source.parameters()))  # the head is a copy, too
    with torch.no_grad():
        for parameter in (p for one in followers for p in one.source.parameters()):
            parameter.add_(0.1)
    found = step(method, SOURCE, 2, EffectiveBatch(range(VOLUMES), 1, 0.25))
    for old, one in zip(before, followers, strict=True):
        assert torch.equal(parameters_to_vector(one.module.parameters()), old)
    method.after_step(0.25, found.kept)
    momentum = cosine_momentum(0.9, 0.25) if name == "byol" else 0.9
    for old, one in zip(before, followers, strict=True):
        now, source = (parameters_to_vector(net.parameters()) for net in (one.module, one.source))
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * source, rtol=1e-12, atol=1e-15)


def test_the_queue_survives_a_resume() -> None:
    method, other = SMALL["moco"].build(), SMALL["moco"].build()
    train(method, SOURCE, VOLUMES, [range(12), range(3, 12)])  # 21 keys: the end of the queue is wrapped round
    other.load_state_dict(method.state_dict())
    for one in (method, other):
        train(one, SOURCE, 3, [range(9)])
    assert state(other).distance(state(method)) == {}
    assert int(method.queue.cursor) == (21 + 9) % 17
