"""I-JEPA: its blocks, what the context and the predictor see, its targets and its loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl3d.data.augment import Augment
from ssl3d.errors import RecipeError
from ssl3d.parts.tokens import sincos_positions
from ssl3d_plugins.methods.ijepa import IJEPA
from tests.plugins.small import SMALL, VOLUMES, SmallViT, batch_of, relative, train, views_of

SOURCE = SMALL["ijepa"].source()
SHAPES = {(1, 2, 2)}  # of a target block on the grid of 2 x 3 x 3 patches


def build() -> IJEPA:
    method = SMALL["ijepa"].build()
    assert isinstance(method, IJEPA)
    return method


def inputs(method: IJEPA) -> tuple[Tensor, dict[str, Tensor]]:
    views = views_of(method, SOURCE)
    return views.tensors[0].double(), dict(views.rows)


def test_targets_are_blocks_outside_the_context() -> None:
    method = build()
    view, rows = inputs(method)
    assert tuple(view.shape[2:]) == (4, 9, 6)
    assert rows["context"].shape == (VOLUMES, 18 - 4 * 4)
    assert rows["targets"].shape == (VOLUMES, 4, 4)
    for context, targets in zip(rows["context"], rows["targets"], strict=True):
        assert not set(context.tolist()) & set(targets.flatten().tolist())
        assert len(set(context.tolist())) == len(context)
        for block in targets:
            place = torch.stack(torch.unravel_index(block, (2, 3, 3)))  # (3, L)
            sides = tuple((place.amax(1) - place.amin(1) + 1).tolist())
            assert sides in SHAPES
            assert len(set(block.tolist())) == 4  # so it is the whole box
    assert len({tuple(one.flatten().tolist()) for one in rows["targets"]}) > VOLUMES // 2


def test_the_context_comes_from_its_block_where_enough_is_left_of_it() -> None:
    method = IJEPA(SmallViT(), augment=Augment(size=(8, 24, 16)))  # 4 x 8 x 8 patches
    method.config = method.config.model_copy(update={"context_scale": (0.85, 0.85), "target_scale": (0.01, 0.02)})
    method.build()
    assert method.context_shape(0.85) == (4, 8, 8)
    assert method.context_shape(0.2) == (2, 5, 5)
    method.config = method.config.model_copy(update={"context_scale": (0.2, 0.2)})
    method.visible = 30
    for context in views_of(method, SOURCE).rows["context"]:
        place = torch.stack(torch.unravel_index(context, method.grid))
        sides = place.amax(1) - place.amin(1) + 1
        assert (sides <= torch.tensor([2, 5, 5])).all()


def test_draws_depend_on_volume_and_step_alone() -> None:
    method = build()
    whole, alone = views_of(method, SOURCE).rows, views_of(method, SOURCE, range(5, 7)).rows
    for name, row in whole.items():
        assert torch.equal(row[5:7], alone[name])
        assert not torch.equal(row, views_of(method, SOURCE, step=2).rows[name])


def test_the_encoder_sees_the_context_alone() -> None:
    method = build()
    view, rows = inputs(method)
    seen = torch.zeros(VOLUMES, 18, dtype=torch.bool).scatter(1, rows["context"], True).reshape(VOLUMES, 1, 2, 3, 3)
    for axis, size in enumerate((2, 3, 2), start=2):
        seen = seen.repeat_interleave(size, axis)
    other = torch.where(seen, view, view + 1)
    for name, ours in method.online(view, rows).items():
        assert torch.equal(ours, method.online(other, rows)[name])
    assert not torch.allclose(method.target(view, rows), method.target(other, rows))


def test_the_loss_is_the_smooth_distance_to_normalised_tokens_written_out() -> None:
    method = build()
    train(method, SOURCE, VOLUMES, [range(9)])  # the momentum encoder differs from the online one
    batch = batch_of(method, SOURCE)
    view = views_of(method, SOURCE).tensors[0].double()
    tokens = method.teacher.module.forward_tokens(view).patches
    terms = []
    for n, targets in enumerate(batch.rows["targets"]):
        for m, block in enumerate(targets):
            for place, patch in enumerate(block):
                token = tokens[n, patch]
                token = (token - token.mean()) / (token.var(unbiased=False) + 1e-5).sqrt()
                gap = (batch.online_maps[0]["predicted"][n, m, place] - token).abs()
                terms.append(torch.where(gap < 1, 0.5 * gap**2, gap - 0.5))
    torch.testing.assert_close(method.loss(batch).value, torch.stack(terms).mean(), rtol=1e-11, atol=0)
    assert not batch.target[0].requires_grad


def test_a_block_is_predicted_from_the_context_and_its_own_positions() -> None:
    method = build()
    view, rows = inputs(method)
    tokens = method.backbone.forward_tokens(view, keep=rows["context"]).patches
    predicted = method.predictor(tokens, rows["context"], rows["targets"])
    alone = method.predictor(tokens, rows["context"], rows["targets"][:, 2:3])
    torch.testing.assert_close(alone, predicted[:, 2:3], rtol=1e-10, atol=1e-12)  # blocks do not see each other
    swapped = method.predictor(tokens.flip(1), rows["context"].flip(1), rows["targets"])
    torch.testing.assert_close(swapped, predicted, rtol=1e-10, atol=1e-12)
    elsewhere = method.predictor(tokens, rows["context"].flip(1), rows["targets"])
    assert relative(elsewhere, predicted) > 1e-6
    assert len(sincos_positions(method.grid, 12, tokens).unique(dim=0)) == 18


def test_momentum_rises_linearly_and_the_momentum_encoder_is_evaluated() -> None:
    method = build()
    before = [p.clone() for p in method.teacher.module.parameters()]
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(1)
    base = method.resolved["momentum"]
    method.after_step(0.5, None)  # type: ignore[arg-type]  # nothing is kept
    for old, new in zip(before, method.encoder().parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, (1 - base) / 2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["target_scale", "context_scale", "target_aspect"])
def test_a_range_in_the_wrong_order_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"{name}: the first of \(0.9, 0.8\) must not be larger than the second"):
        IJEPA.Config.checked({name: [0.9, 0.8]})


def test_a_view_of_too_few_patches_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"view_size = \(2, 6, 4\) is 4 patches of \(2, 3, 2\) voxels, too few for 4"):
        IJEPA(SmallViT(), augment=Augment(size=(2, 6, 5)))
