"""DINO: its loss against lightly's, its centre and temperature, its crops, and the faults of public code."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from lightly.loss import DINOLoss
from torch import Tensor

from ssl3d.method import Batch, Loss
from ssl3d.train.encode import EffectiveBatch
from ssl3d_plugins.methods.dino import DINO
from tests.plugins.small import SMALL, VOLUMES, batch_of, state, step, train, views_of

SOURCE = SMALL["dino"].source()


def trained() -> DINO:
    """Two steps: the teacher differs from the student, and the centre is not zero."""
    method = SMALL["dino"].build()
    train(method, SOURCE, VOLUMES, [range(9), range(3, VOLUMES)])
    assert isinstance(method, DINO)
    return method


def outputs(method: DINO, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """What the heads of student and teacher make of each crop."""
    return [method.head(one) for one in batch.online], [method.teacher_head(one) for one in batch.target]


def test_loss_and_centre_are_those_of_lightly() -> None:
    method = trained()
    batch = batch_of(method, SOURCE, progress=0.075)
    reference = DINOLoss(11, warmup_teacher_temp=1, teacher_temp=1, student_temp=0.1).double()
    reference.center.copy_(method.center)
    student, teacher = outputs(method, batch)
    loss = method.loss(batch)
    torch.testing.assert_close(loss.value, reference(teacher, student, teacher_temp=0.0625), rtol=1e-12, atol=0)
    center = 0.9 * method.center + 0.1 * loss.sums["teacher"] / loss.sums["count"]
    torch.testing.assert_close(center, reference.center.flatten(), rtol=1e-12, atol=1e-15)


def test_loss_is_the_cross_entropy_of_equation_3_written_out() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    student, teacher = outputs(method, batch)
    terms = []
    for t, assigned in enumerate(teacher):
        for s, predicted in enumerate(student):
            if s != t:
                p = ((assigned - method.center) / 0.07).softmax(1)
                terms.append(-(p * (predicted / 0.1).softmax(1).log()).sum(1).mean())
    assert len(terms) == 2 * 5
    torch.testing.assert_close(method.loss(batch).value, torch.stack(terms).mean(), rtol=1e-12, atol=0)


def test_a_shift_of_all_teacher_outputs_with_the_centre_changes_nothing() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    before, shift = method.loss(batch).value, torch.arange(11.0).double()
    method.teacher_head.register_forward_hook(lambda _, __, output: output + shift)
    method.center += shift
    torch.testing.assert_close(method.loss(batch).value, before, rtol=1e-12, atol=0)


def test_prototypes_have_a_direction_and_no_magnitude() -> None:
    method = trained()
    batch = batch_of(method, SOURCE)
    before = method.loss(batch).value
    with torch.no_grad():
        method.head.prototypes.weight.mul_(torch.linspace(0.5, 3, 11)[:, None])
    torch.testing.assert_close(method.loss(batch).value, before, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.04), (0.05, 0.055), (0.1, 0.07), (0.9, 0.07)])
def test_the_teacher_temperature_rises_with_progress(progress: float, expected: float) -> None:
    assert SMALL["dino"].build().config.temperature(progress) == pytest.approx(expected)
    assert SMALL["dino"].build(temperature_warmup=0.0).config.temperature(progress) == 0.07


def test_two_large_and_four_small_crops_of_which_the_teacher_sees_the_large_ones() -> None:
    method = SMALL["dino"].build()
    views = views_of(method, SOURCE)
    assert [tuple(view.shape[2:]) for view in views.tensors] == [(4, 9, 7)] * 2 + [(2, 4, 3)] * 4
    batch = batch_of(method, SOURCE)
    assert (len(batch.online), len(batch.target)) == (6, 2)
    assert method.local.recipe.crop == (0.05, 0.4)


def test_teacher_and_its_head_start_as_copies_and_never_train() -> None:
    method = SMALL["dino"].build()
    for follower in (method.teacher, method.teacher_head):
        for ours, theirs in zip(follower.module.parameters(), follower.source.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert not ours.requires_grad


def test_the_centre_moves_once_per_step_by_the_whole_effective_batch() -> None:
    method = trained()
    center, batch = method.center.clone(), EffectiveBatch(range(VOLUMES), 2, 0.2)
    found = step(method, SOURCE, 2, batch)
    assert torch.equal(method.center, center)  # not within the window
    teacher = torch.stack(outputs(method, batch_of(method, SOURCE, step=batch.step))[1])
    method.after_step(0.2, found.kept)
    torch.testing.assert_close(method.center, 0.9 * center + 0.1 * teacher.mean((0, 1)), rtol=1e-11, atol=1e-14)


class CentreInLoss(DINO):
    """The fault of several public implementations: the centre moves in every forward pass."""

    def loss(self, batch: Batch) -> Loss:
        loss = super().loss(batch)
        self.center.lerp_(loss.sums["teacher"] / loss.sums["count"], 0.1)
        return loss


def test_a_centre_that_moves_with_every_micro_batch_is_noticed() -> None:
    small = replace(SMALL["dino"], kind=CentreInLoss)
    batch, method = EffectiveBatch(range(VOLUMES), 0), small.build()
    whole = step(copy.deepcopy(method), SOURCE, VOLUMES, batch)
    assert "gradient" in step(method, SOURCE, 2, batch).distance(whole)


def test_parameter_groups_freeze_the_prototypes_at_first_and_cover_all_parameters_once() -> None:
    method = SMALL["dino"].build(freeze_prototypes=0.01)
    groups = method.parameter_groups()
    listed = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(listed) == sorted(id(p) for p in method.parameters() if p.requires_grad)
    assert [group.frozen_until for group in groups] == [0, 0, 0.01]
    assert groups[2].parameters[0] is method.head.prototypes.weight


def test_the_centre_is_part_of_the_state() -> None:
    method, other = trained(), SMALL["dino"].build()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.center, method.center)
    assert method.center.any()
    assert state(other).distance(state(method)) == {}
