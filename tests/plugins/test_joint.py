"""SimSiam, Barlow Twins, VICReg, NNCLR, MoCo v3: losses against their equations, and the faults of public code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from ssl3d.method import Batch, Kept, Loss, Rows
from ssl3d.parts.momentum import cosine_momentum
from ssl3d.train.encode import EffectiveBatch
from ssl3d_plugins.methods.moco_v3 import MoCoV3
from ssl3d_plugins.methods.nnclr import NNCLR
from ssl3d_plugins.methods.simsiam import SimSiam
from tests.plugins.small import SMALL, VOLUMES, batch_of, step, train

SOURCE = SMALL["simsiam"].source()
WHOLE = EffectiveBatch(range(VOLUMES), 1, 0.2)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean cosine of the rows, by its definition."""
    return torch.stack([a @ b / (a @ a).sqrt() / (b @ b).sqrt() for a, b in zip(first, second, strict=True)]).mean()


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log of each query's share of its own key, by its definition."""
    queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    scores = [[(query @ key / temperature).exp() for key in keys] for query in queries]
    return torch.stack([-(row[place] / torch.stack(row).sum()).log() for place, row in enumerate(scores)]).mean()


@pytest.mark.parametrize("name", ["simsiam", "barlow twins", "vicreg", "moco v3", "nnclr"])
def test_losses_are_symmetrical_in_the_views(name: str) -> None:
    method = SMALL[name].build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch = batch_of(method, SOURCE)
    swapped = replace(batch, online_features=batch.online_features[::-1], target_features=batch.target_features[::-1])
    torch.testing.assert_close(method.loss(swapped).value, method.loss(batch).value, rtol=1e-11, atol=0)


def test_simsiam_loss_is_equation_4_written_out() -> None:
    method = SMALL["simsiam"].build()
    batch = batch_of(method, SOURCE)
    first, second = (method.projector(one) for one in batch.online)
    expected = -(cosine(method.predictor(first), second) + cosine(method.predictor(second), first)) / 2
    torch.testing.assert_close(method.loss(batch).value, expected, rtol=1e-11, atol=0)


class WithoutStop(SimSiam):
    """SimSiam without its stop-gradient: the same loss, another gradient."""

    def loss(self, batch: Batch) -> Loss:
        first, second = (self.projector(features) for features in batch.online)
        similarity = self.similarity(self.predictor(first), second) + self.similarity(self.predictor(second), first)
        return Loss(similarity / 2)


def test_simsiam_sends_no_gradient_through_the_projection_that_is_predicted() -> None:
    ours = step(SMALL["simsiam"].build(), SOURCE, VOLUMES, WHOLE)
    other = step(replace(SMALL["simsiam"], kind=WithoutStop).build(), SOURCE, VOLUMES, WHOLE)
    assert ours.distance(other).keys() == {"gradient"}


def test_barlow_twins_loss_is_equation_1_written_out() -> None:
    method = SMALL["barlow twins"].build(redundancy=0.3)
    batch = batch_of(method, SOURCE)
    first, second = (method.projector(one) for one in batch.online)
    terms = []
    for i in range(8):
        for j in range(8):
            a, b = first[:, i] - first[:, i].mean(), second[:, j] - second[:, j].mean()
            # A variance gets 1e-5 added, as in the batch norm of the authors' code.
            c = (a @ b / VOLUMES) / ((a @ a / VOLUMES + 1e-5) * (b @ b / VOLUMES + 1e-5)).sqrt()
            terms.append((1 - c) ** 2 if i == j else 0.3 * c**2)
    torch.testing.assert_close(method.loss(batch).value, torch.stack(terms).sum(), rtol=1e-11, atol=0)


def test_vicreg_loss_is_equation_6_written_out() -> None:
    method = SMALL["vicreg"].build(invariance=3.0, variance=5.0, covariance=7.0)
    batch = batch_of(method, SOURCE)
    views = [method.projector(one) for one in batch.online]
    expected = 3.0 * (views[0] - views[1]).square().mean()
    for view in views:
        covariance = torch.cov(view.T)
        lacking = (1 - (covariance.diagonal() + 1e-4).sqrt()).clamp(min=0)
        expected = expected + 5.0 * lacking.mean() / 2
        expected = expected + 7.0 * (covariance - covariance.diag().diag()).square().sum() / 8
    torch.testing.assert_close(method.loss(batch).value, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", ["barlow twins", "vicreg"])
def test_a_shift_of_all_projections_does_not_matter(name: str) -> None:
    method = SMALL[name].build()
    batch = batch_of(method, SOURCE)
    before, shift = method.loss(batch).value, torch.arange(8.0).double()
    method.projector.register_forward_hook(lambda _, __, output: output + shift)
    torch.testing.assert_close(method.loss(batch).value, before, rtol=1e-11, atol=0)


def test_moco_v3_loss_is_algorithm_1_written_out() -> None:
    method = SMALL["moco v3"].build()
    train(method, SOURCE, VOLUMES, [range(9)])
    batch = batch_of(method, SOURCE)
    queries = [method.predictor(method.projector(one)) for one in batch.online]
    keys = [method.momentum_projector(one) for one in batch.target]
    expected = 2 * 0.2 * (info_nce(queries[0], keys[1], 0.2) + info_nce(queries[1], keys[0], 0.2))
    torch.testing.assert_close(method.loss(batch).value, expected, rtol=1e-11, atol=0)


def test_each_key_of_moco_v3_counts_once_and_the_own_one_is_no_negative() -> None:
    method = SMALL["moco v3"].build()
    axes = torch.eye(4, dtype=torch.float64)
    right, wrong = method.contrast(axes, axes), method.contrast(axes, axes.roll(1, 0))
    odds = torch.tensor(5.0).exp()  # of a similarity of 1 at temperature 0.2
    torch.testing.assert_close(right, (0.4 * (1 + 3 / odds).log()).double(), rtol=1e-6, atol=0)
    assert wrong > right + 1.9


def test_momentum_copies_of_moco_v3_move_once_per_step_and_not_in_the_forward_pass() -> None:
    method = SMALL["moco v3"].build(momentum=0.9)
    followers = (method.momentum_backbone, method.momentum_projector)
    before = [parameters_to_vector(one.module.parameters()).detach() for one in followers]
    with torch.no_grad():
        for parameter in (p for one in followers for p in one.source.parameters()):
            parameter.add_(0.1)
    found = step(method, SOURCE, 2, WHOLE)
    for old, one in zip(before, followers, strict=True):
        assert torch.equal(parameters_to_vector(one.module.parameters()), old)
    method.after_step(0.2, found.kept)
    momentum = cosine_momentum(0.9, 0.2)
    for old, one in zip(before, followers, strict=True):
        now, source = (parameters_to_vector(net.parameters()) for net in (one.module, one.source))
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * source, rtol=1e-12, atol=1e-15)


class MomentumInForward(MoCoV3):
    """The fault of the reference code: the momentum encoder moves whenever it encodes."""

    def target(self, view: Tensor, rows: Rows) -> Tensor:
        self.momentum_backbone.update(0.9)
        return self.momentum_backbone(view)


def test_a_momentum_encoder_that_moves_with_every_micro_batch_is_noticed() -> None:
    found = []
    for micro_batch in (VOLUMES, 3):
        method = replace(SMALL["moco v3"], kind=MomentumInForward).build()
        with torch.no_grad():
            for parameter in method.backbone.parameters():
                parameter.mul_(1.5)
        found.append(step(method, SOURCE, micro_batch, WHOLE))
    assert "gradient" in found[1].distance(found[0])


def trained() -> NNCLR:
    """One step: the queue holds nine projections."""
    method = SMALL["nnclr"].build()
    assert isinstance(method, NNCLR)
    train(method, SOURCE, VOLUMES, [range(9)])
    return method


def test_nnclr_loss_is_equation_3_written_out() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    projections = [F.normalize(method.projector(one), dim=1) for one in batch.online]
    predictions = [method.predictor(method.projector(one)) for one in batch.online]
    assert len(method.queue.held) == 9
    expected = []
    for projection, prediction in zip(projections, predictions[::-1], strict=True):
        distances = torch.cdist(projection, method.queue.held)  # the nearest, not the most similar: they are the same
        expected.append(info_nce(method.queue.held[distances.argmin(1)], prediction, 0.1))
    torch.testing.assert_close(method.loss(batch).value, torch.stack(expected).mean(), rtol=1e-11, atol=0)


def test_nnclr_looks_up_before_it_enqueues() -> None:
    """The fault of public code: pushed first, a projection is its own nearest neighbour."""
    method = trained()
    batch = batch_of(method, SOURCE)
    loss, held = method.loss(batch), method.queue.held.clone()
    projection = loss.rows["projections"]
    assert torch.equal(method.queue.held, held)
    assert torch.cdist(method.neighbour(projection), projection).diagonal().min() > 1e-6
    method.after_step(0.1, Kept(loss.rows))
    torch.testing.assert_close(method.neighbour(projection), projection, rtol=1e-12, atol=0)  # as it would be
    assert not torch.isclose(method.loss(batch).value, loss.value, rtol=1e-3)


def test_nnclr_starts_with_a_projection_as_its_own_neighbour() -> None:
    method = SMALL["nnclr"].build()
    batch = batch_of(method, SOURCE)
    first, second = (method.projector(one) for one in batch.online)
    expected = info_nce(first, method.predictor(second), 0.1) + info_nce(second, method.predictor(first), 0.1)
    torch.testing.assert_close(method.loss(batch).value, expected / 2, rtol=1e-11, atol=0)


def test_neighbours_do_not_depend_on_the_order_of_the_queue() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    before = method.loss(batch).value
    method.queue.rows[:9] = method.queue.rows[:9].flip(0)
    torch.testing.assert_close(method.loss(batch).value, before, rtol=1e-12, atol=0)
