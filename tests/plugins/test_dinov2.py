"""DINOv2: its three losses written again, what the student and the teacher see, and iBOT's settings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl3d.data.augment import Augment
from ssl3d.errors import RecipeError
from ssl3d.method import Batch
from ssl3d.parts.prototypes import masked_cross_entropy
from ssl3d.train.encode import EffectiveBatch
from ssl3d_plugins.methods.dinov2 import DINOv2, koleo
from tests.plugins.small import SMALL, VOLUMES, SmallViT, batch_of, relative, step, train, views_of

SOURCE = SMALL["dinov2"].source()
NAMES = ("dinov2", "ibot")


def trained(name: str) -> DINOv2:
    """Two steps: the teacher differs from the student, and the centres are not zero."""
    method = SMALL[name].build()
    train(method, SOURCE, VOLUMES, [range(9), range(3, VOLUMES)])
    assert isinstance(method, DINOv2)
    return method


def balanced(outputs: Tensor, center: Tensor | None) -> Tensor:
    """Assignments at the teacher's last temperature: prototypes and rows are normalised three times, or centred."""
    if center is not None:
        return ((outputs - center) / 0.07).softmax(1)
    q = (outputs / 0.07).exp()
    for _ in range(3):
        q = q / q.sum(0) / q.shape[1]
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


def entropy(assigned: Tensor, scores: Tensor) -> Tensor:
    return -(assigned * (scores / 0.1).softmax(-1).log()).sum(-1)


def by_hand(method: DINOv2, batch: Batch) -> dict[str, Tensor]:
    """The three losses, volume by volume and crop by crop."""
    teacher, head = method.teacher_heads.module, method.patch_head
    centers = method.centers if method.config.centering == "center" else (None, None)
    pooled = torch.cat([crop["pooled"] for crop in batch.target_maps])
    assigned = balanced(teacher["crops"](pooled), centers[0]).chunk(2)
    crops = [
        entropy(assigned[t], method.heads["crops"](crop["pooled"])).mean()
        for t in range(2)
        for s, crop in enumerate(batch.online_maps)
        if s != t
    ]
    masks = [rows["mask"] for rows in batch.view_rows[:2]]
    hidden = torch.cat([crop["patches"][mask] for crop, mask in zip(batch.target_maps, masks, strict=True)])
    targets = iter(balanced(teacher[head](hidden), centers[1]))
    patches = torch.zeros(2, VOLUMES).double()
    for c, mask in enumerate(masks):
        for n in range(VOLUMES):
            scores = method.heads[head](batch.online_maps[c]["patches"][n][mask[n]])
            if len(scores):
                patches[c, n] = torch.stack([entropy(next(targets), one) for one in scores]).mean()
    return {"crops": torch.stack(crops).mean(), "patches": patches.mean()}


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_are_those_written_out(name: str) -> None:
    method = trained(name)
    batch = batch_of(method, SOURCE)
    loss, expected = method.loss(batch), by_hand(method, batch)
    for part, value in expected.items():
        torch.testing.assert_close(loss.scalars[part], value, rtol=1e-11, atol=0)
    weight = {"dinov2": 0.1, "ibot": 0.0}[name]
    total = sum(expected.values()) + weight * koleo(batch.online_maps[0]["pooled"])
    torch.testing.assert_close(loss.value, total, rtol=1e-11, atol=0)


def test_koleo_is_the_logarithm_of_the_nearest_distance_by_brute_force() -> None:
    features = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = []
    for i, one in enumerate(features):
        near = min(float((one / one.norm() - z / z.norm()).norm()) for j, z in enumerate(features) if j != i)
        terms.append(-torch.tensor(near).double().log())
    assert float(koleo(features)) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-6)
    assert float(koleo(3 * features)) == pytest.approx(float(koleo(features)), rel=1e-12)
    assert float(koleo(features[:1])) == 0


def test_the_loss_of_patches_ignores_those_that_are_not_masked() -> None:
    method = trained("dinov2")
    batch = batch_of(method, SOURCE)
    before = method.loss(batch).scalars["patches"]
    for crop, rows in zip(batch.online_maps, batch.view_rows[:2], strict=False):
        crop["patches"].data[~rows["mask"]] += 1
    assert torch.equal(method.loss(batch).scalars["patches"], before)
    batch.online_maps[0]["patches"].data[batch.view_rows[0]["mask"]] += torch.arange(12.0).double()
    assert relative(method.loss(batch).scalars["patches"], before) > 1e-6


def test_a_batch_without_masked_patches_has_no_loss_of_patches() -> None:
    nothing = torch.zeros(0, 11)
    assert float(masked_cross_entropy(nothing, nothing, torch.zeros(2, 3, 18, dtype=torch.bool))) == 0
    method = SMALL["ibot"].build(mask_probability=0.0)
    found = step(method, SOURCE, VOLUMES, EffectiveBatch(range(VOLUMES), 0))
    method.after_step(0.0, found.kept)
    assert not method.centers[1].any()
    assert method.centers.isfinite().all()


@pytest.mark.parametrize(("probability", "masked"), [(0.0, {0}), (0.5, {1}), (0.75, {1, 2}), (1.0, {2})])
def test_each_volume_has_its_share_of_masked_crops(probability: float, masked: set[int]) -> None:
    views = views_of(SMALL["dinov2"].build(mask_probability=probability), SOURCE)
    masks = torch.stack([rows["mask"] for rows in views.view_rows[:2]])  # (2, N, T)
    assert set(masks.any(2).sum(0).tolist()) == masked
    assert masks.sum(2).max() <= 9  # half of 18 patches
    assert "mask" not in views.view_rows[2]


def test_the_student_does_not_see_masked_patches_and_the_teacher_does() -> None:
    method = trained("dinov2")
    views = views_of(method, SOURCE)
    view, rows = views.tensors[0].double(), views.view_rows[0]
    hidden = rows["mask"].reshape(VOLUMES, 1, 2, 3, 3)
    for axis, size in enumerate((2, 3, 2), start=2):
        hidden = hidden.repeat_interleave(size, axis)
    other = torch.where(hidden, view + 1, view)
    for name, ours in method.online(view, rows).items():
        assert torch.equal(ours, method.online(other, rows)[name])
    assert not torch.allclose(method.target(view, rows)["pooled"], method.target(other, rows)["pooled"])


def test_centres_move_once_per_step_by_the_whole_effective_batch() -> None:
    method = trained("ibot")
    centers, batch = method.centers.clone(), EffectiveBatch(range(VOLUMES), 2, 0.2)
    found = step(method, SOURCE, 2, batch)
    seen = batch_of(method, SOURCE, step=batch.step)
    head = method.teacher_heads.module["crops"]
    pooled = torch.cat([head(crop["pooled"]) for crop in seen.target_maps])
    masked = [
        head(crop["patches"][rows["mask"]]) for crop, rows in zip(seen.target_maps, seen.view_rows[:2], strict=True)
    ]
    method.after_step(0.2, found.kept)
    expected = 0.9 * centers + 0.1 * torch.stack([pooled.mean(0), torch.cat(masked).mean(0)])
    torch.testing.assert_close(method.centers, expected, rtol=1e-11, atol=1e-14)


def test_heads_are_separate_or_shared_and_the_teacher_is_evaluated() -> None:
    separate, shared = SMALL["dinov2"].build(), SMALL["ibot"].build()
    assert (set(separate.heads), set(shared.heads)) == ({"crops", "patches"}, {"crops"})
    assert separate.encoder() is separate.teacher.module
    frozen = separate.parameter_groups()[2].parameters
    assert [tuple(one.shape) for one in frozen] == [(11, 5)] * 2


def test_a_view_of_too_few_patches_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"view_size = \(2, 3, 4\) is 2 patches of \(2, 3, 2\) voxels, too few"):
        DINOv2(SmallViT(), augment=Augment(size=(3, 3, 4)))
