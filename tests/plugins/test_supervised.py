"""Supervised: the loss of each kind of task against torch's own, and volumes without a label."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ssl3d.config import Config
from ssl3d.errors import PluginError
from ssl3d.method import Kept
from ssl3d.testing.toys import ToyBackbone, toy_task
from ssl3d_plugins.methods.supervised import Supervised
from tests.plugins.small import SMALL, VOLUMES, Small, batch_of

KINDS = ("binary", "multiclass", "ordinal", "multilabel", "regression")
KNOWN = [index for index in range(VOLUMES) if index % 5 != 4]  # what the toy source has labels of


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_the_task_over_volumes_with_a_label(kind: str) -> None:
    small = Small(Supervised, Config(), task=toy_task(kind))
    method = small.build()
    batch = batch_of(method, small.source())
    outputs, labels = method.head(batch.online[0])[KNOWN], batch.rows["labels"][KNOWN]
    if kind == "multilabel":
        expected = F.binary_cross_entropy_with_logits(outputs, labels)
    elif kind == "regression":
        expected = F.mse_loss(outputs[:, 0], torch.zeros_like(labels))  # the first step learns the mean and the unit
    else:
        expected = F.cross_entropy(outputs, labels)
    loss = method.loss(batch)
    torch.testing.assert_close(loss.value, expected, rtol=1e-12, atol=0)
    assert float(loss.weight) == labels.numel()
    assert loss.value > 0


@pytest.mark.parametrize("name", ["supervised binary", "supervised multilabel", "supervised regression"])
def test_a_volume_without_a_label_changes_nothing(name: str) -> None:
    method = SMALL[name].build()
    batch = batch_of(method, SMALL[name].source())
    features = batch.online[0].detach().clone().requires_grad_()
    method.loss(replace(batch, online_features=(features,))).value.backward()
    used = features.grad.abs().sum(1) > 0
    assert used.nonzero().flatten().tolist() == KNOWN


def test_a_single_missing_label_of_several_is_left_out() -> None:
    method = SMALL["supervised multilabel"].build()
    batch = batch_of(method, SMALL["supervised multilabel"].source(), 4)
    labels = batch.rows["labels"].clone()
    labels[2, 1] = torch.nan
    outputs = method.head(batch.online[0])
    each = F.binary_cross_entropy_with_logits(outputs, labels.nan_to_num(), reduction="none").flatten()
    loss = method.loss(replace(batch, rows={"labels": labels}))
    torch.testing.assert_close(loss.value, (each.sum() - each[5]) / 7, rtol=1e-12, atol=0)
    assert float(loss.weight) == 7


def test_no_label_at_all_has_no_weight() -> None:
    method = SMALL["supervised binary"].build()
    batch = batch_of(method, SMALL["supervised binary"].source())
    loss = method.loss(replace(batch, rows={"labels": torch.full((VOLUMES,), -1)}))
    assert float(loss.weight) == 0
    assert float(loss.value.detach()) == 0


def test_it_needs_a_task() -> None:
    with pytest.raises(PluginError, match="name one"):
        Supervised(ToyBackbone())


def test_the_head_has_an_output_for_each_class() -> None:
    for kind, outputs in zip(KINDS, (2, 3, 3, 2, 1), strict=True):
        assert Supervised(ToyBackbone(), task=toy_task(kind)).head.out_features == outputs


def test_the_unit_of_a_regression_drops_out_after_the_first_step() -> None:
    losses = []
    for unit, zero in ((1.0, 0.0), (1000.0, -7.0)):
        torch.manual_seed(0)
        method = SMALL["supervised regression"].build()
        batch = batch_of(method, SMALL["supervised regression"].source())
        batch = replace(batch, rows={"labels": unit * batch.rows["labels"] + zero})
        method.after_step(0.0, Kept(sums=method.loss(batch).sums))
        losses.append(float(method.loss(batch).value.detach()))
        known = batch.rows["labels"][KNOWN]
        expected = F.mse_loss(method.head(batch.online[0])[KNOWN, 0], (known - known.mean()) / known.std(correction=0))
        assert losses[-1] == pytest.approx(float(expected.detach()), rel=1e-9)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_a_regression_in_a_large_unit_is_learnt_as_well_as_in_a_small_one() -> None:
    left = []
    for unit, zero in ((1.0, 0.0), (3000.0, 40_000.0)):
        torch.manual_seed(0)
        method = SMALL["supervised regression"].build()
        batch = batch_of(method, SMALL["supervised regression"].source())
        batch = replace(batch, rows={"labels": unit * batch.rows["labels"] + zero})
        optimiser = torch.optim.AdamW(method.head.parameters(), lr=0.02)
        for _ in range(60):
            loss = method.loss(replace(batch, online_features=(batch.online[0].detach(),)))
            optimiser.zero_grad()
            loss.value.backward()
            optimiser.step()
            method.after_step(0.0, Kept(sums=loss.sums))
        left.append(float(loss.value.detach()))
    assert left[1] == pytest.approx(left[0], rel=0.01)
    assert left[1] < 0.9
