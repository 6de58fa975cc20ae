"""DenseCL: its losses written out, its queues, and the faults of public code."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from ssl3d.method import Batch, Kept, Loss
from ssl3d.train.encode import EffectiveBatch
from ssl3d_plugins.methods.densecl import DenseCL
from tests.plugins.small import SMALL, VOLUMES, batch_of, relative, state, step, train

SOURCE = SMALL["densecl"].source()


def trained() -> DenseCL:
    method = SMALL["densecl"].build()
    train(method, SOURCE, VOLUMES, [range(9)])
    assert isinstance(method, DenseCL)
    return method


def info_nce(query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
    """Equation 1 for one query: -log of the softmax at its own key."""
    scores = torch.stack([query @ key, *(query @ negative for negative in negatives)]) / 0.2
    return -(scores[0].exp() / scores.exp().sum()).log()


def test_loss_is_that_of_the_paper_written_out_place_by_place() -> None:
    method = trained()
    batch = batch_of(method, SOURCE, 3)
    assert (len(method.queue.held), len(method.dense_queue.held)) == (9, 9)
    whole, dense = [], []
    for ours, theirs in zip(batch.online[0].flatten(2), batch.target[0].flatten(2), strict=True):  # (F, S)
        query, key = method.projector(ours.mean(1)), method.key_projector(theirs.mean(1))
        whole.append(info_nce(F.normalize(query, dim=0), F.normalize(key, dim=0), method.queue.held))
        for place in ours.T:  # (F,)
            cosines = torch.stack([F.cosine_similarity(place, other, dim=0) for other in theirs.T])
            match = method.key_dense_projector(theirs.T[cosines.argmax()])
            query = F.normalize(method.dense_projector(place), dim=0)
            dense.append(info_nce(query, F.normalize(match, dim=0), method.dense_queue.held))
    loss = method.loss(batch)
    torch.testing.assert_close(loss.scalars["global"], torch.stack(whole).mean(), rtol=1e-11, atol=0)
    torch.testing.assert_close(loss.scalars["dense"], torch.stack(dense).mean(), rtol=1e-11, atol=0)
    torch.testing.assert_close(loss.value, (sum(whole) / len(whole) + sum(dense) / len(dense)) / 2, rtol=1e-11, atol=0)


def test_loss_does_not_depend_on_where_the_matching_place_is() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    moved = batch.target[0].flip(3, 4)
    other = method.loss(replace(batch, target_features=(moved,)))
    torch.testing.assert_close(other.value, method.loss(batch).value, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.rows["dense_keys"], method.loss(batch).rows["dense_keys"], rtol=1e-12, atol=1e-15)


def test_queues_hold_the_keys_of_earlier_steps_in_their_order() -> None:
    method, expected = SMALL["densecl"].build(), []
    for number, volumes in enumerate([range(7), range(3, 12), range(5)]):  # 7 + 9 + 5 keys, a queue of 17
        found = step(method, SOURCE, 2, EffectiveBatch(volumes, number))
        method.after_step(0, found.kept)
        expected += found.kept.rows["dense_keys"].tolist()
    places = [*range(17, 21), *range(4, 17)]  # the last four have overwritten the first four
    torch.testing.assert_close(method.dense_queue.rows, torch.tensor([expected[p] for p in places]).double())
    assert (int(method.dense_queue.cursor), len(method.dense_queue.held)) == (4, 17)


def test_keys_are_unit_vectors_and_not_yet_among_the_negatives() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    for name, queue in (("keys", method.queue), ("dense_keys", method.dense_queue)):
        keys = method.loss(batch).rows[name]
        torch.testing.assert_close(keys.norm(dim=1), torch.ones(VOLUMES).double())
        assert torch.cdist(keys, queue.held).min() > 1e-6
        assert not keys.requires_grad


def test_momentum_networks_start_as_copies_and_move_once_per_step() -> None:
    method = SMALL["densecl"].build(momentum=0.9)
    followers = (method.key_backbone, method.key_projector, method.key_dense_projector)
    before = [parameters_to_vector(one.module.parameters()).detach() for one in followers]
    for old, one in zip(before, followers, strict=True):
        assert torch.equal(old, parameters_to_vector(one.source.parameters()))
    train(method, SOURCE, 2, [range(9)])  # moves nothing: the queues are empty
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 if parameter.requires_grad else 0.0)
    method.after_step(0.5, step(method, SOURCE, 2, EffectiveBatch(range(9), 1)).kept)
    for old, one in zip(before, followers, strict=True):
        source, now = (parameters_to_vector(net.parameters()) for net in (one.source, one.module))
        torch.testing.assert_close(now, 0.9 * old + 0.1 * source, rtol=1e-12, atol=1e-15)


class PushesInLoss(DenseCL):
    """The fault of lightly-train #973: queues and key encoder move with every micro-batch."""

    def loss(self, batch: Batch) -> Loss:
        loss = super().loss(batch)
        self.queue, self.dense_queue = copy.deepcopy(self.queue), copy.deepcopy(self.dense_queue)  # autograd has these
        self.after_step(0.0, Kept(loss.rows))
        return loss


class PushesBeforeTheLogits(DenseCL):
    """The fault of stable-pretraining's MoCo v2: each key is among its own negatives."""

    def loss(self, batch: Batch) -> Loss:
        self.after_step(0.0, Kept(super().loss(batch).rows))
        return super().loss(batch)


def test_queues_that_move_with_every_micro_batch_are_noticed() -> None:
    method = replace(SMALL["densecl"], kind=PushesInLoss).build()
    batch = EffectiveBatch(range(VOLUMES), 0)
    whole = step(copy.deepcopy(method), SOURCE, VOLUMES, batch)
    assert "gradient" in step(method, SOURCE, 2, batch).distance(whole)


def test_keys_pushed_before_the_logits_change_the_loss() -> None:
    sound = trained()
    faulty = replace(SMALL["densecl"], kind=PushesBeforeTheLogits).build()
    faulty.load_state_dict(sound.state_dict())
    batch = batch_of(sound, SOURCE)
    assert relative(faulty.loss(batch).value, sound.loss(batch).value) > 0.05


def test_queues_survive_a_resume() -> None:
    method, other = trained(), SMALL["densecl"].build()
    other.load_state_dict(method.state_dict())
    windows = [range(12), range(4, 12)]
    for one in (method, other):
        train(one, SOURCE, 3, windows)
    assert state(other).distance(state(method)) == {}
