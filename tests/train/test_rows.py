"""Rows, sums, weights and draws of a loss: the same however an effective batch is split, in however many processes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl3d.errors import PluginError
from ssl3d.method import AnyMethod, Batch, Card, Config, Features, Kept, Loss, Method, Rng, Rows, Views, Volumes
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.processes import Group
from ssl3d.train.window import Window, WindowResult
from tests.toys import SIZE, NoisyAugment, ToyBackbone, ToySource

COUNT = 11
SPLITS = (1, 2, 4, COUNT)


class Toy(Method[Config]):
    """A linear head in ``online``, so that features are maps of any shape."""

    card: ClassVar[Card] = Card("Toy", "a head")

    def build(self) -> None:
        self.head = nn.Linear(self.backbone.embed_dim, 5)


class Coupled(Toy):
    """Everything that the contract can carry, in a loss that couples its volumes and draws at random."""

    needs = frozenset({"labels", "patient", "case"})
    online_views = (0, 2)
    target_views = (1,)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        first, second = self.augment(volumes, rng), self.augment(volumes, rng)
        chosen = torch.from_numpy(rng.numbers(count=3) > 0.5)  # (B, 3)
        small = second[..., :6, :5]  # another size
        mask = (rng.uniform(), None, rng.uniform())  # one row per volume and view
        return Views(first, second, torch.cat([small, small], 1), chosen=chosen, mask=mask)

    def online(self, view: Tensor, rows: Rows) -> Features:
        features = self.backbone(view[:, :1]) * (1 + rows["mask"][:, None])  # (B, F)
        return {"head": self.head(features), "map": features[:, :, None], "raw": rows["chosen"]}

    def target(self, view: Tensor, rows: Rows) -> Features:
        assert "mask" not in rows
        return {"voxels": view.flatten(1)[:, :7] * rows["chosen"].sum(1, keepdim=True)}

    def loss(self, batch: Batch) -> Loss:
        first, second = batch.online_maps
        same = (batch.rows["patient"][:, None] == batch.rows["patient"]).to(first["head"].dtype)  # (N, N)
        noise = torch.randn(same.shape, dtype=same.dtype)
        value = (F.softmax(first["head"] @ second["head"].T + noise, dim=1) * same).sum(1).log().mean()
        value = value + (first["map"].mean((1, 2)) * batch.view_rows[0]["mask"] * (1 + batch.progress)).sum()
        value = value + (first["map"].mean() - batch.target_maps[0]["voxels"].mean()) ** 2
        known = batch.rows["labels"] >= 0
        return Loss(
            value,
            scalars={"known": known.double().mean()},
            rows={"case": batch.rows["case"], "kept": first["head"], "chosen": first["raw"]},
            sums={"total": first["head"].sum(0), "known": known.sum()},
        )


class Masked(Toy):
    """A mean over the chosen values of all volumes, which do not touch each other; some volumes have none."""

    coupled = False
    online_views = (0,)

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        chosen = torch.from_numpy((rng.numbers(count=5) > 0.7) & (rng.numbers() > 0.4)[:, None])  # (B, 5)
        return Views(self.augment(volumes, rng), chosen=chosen)

    def online(self, view: Tensor, rows: Rows) -> Tensor:
        return self.head(self.backbone(view))  # type: ignore[no-any-return]

    def loss(self, batch: Batch) -> Loss:
        chosen = batch.rows["chosen"]
        value = batch.online[0].square()[chosen].mean()  # NaN where nothing is chosen
        return Loss(value, weight=chosen.sum(), rows={"chosen": chosen}, sums={"count": chosen.sum()})


def build(kind: type[Toy]) -> AnyMethod:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(ToyBackbone(), None, NoisyAugment()).double().train()


def run(method: AnyMethod, micro_batch: int, keep: int = 1, count: int = COUNT) -> tuple[Tensor, WindowResult]:
    window = Window(BatchEncoder(method, ToySource(COUNT), 3), micro_batch, True, Group(), keep=keep)
    outcome = window.backward(EffectiveBatch(range(count), 2, 0.25))
    gradients = [parameter.grad.flatten() for parameter in method.parameters() if parameter.grad is not None]
    return torch.cat(gradients) if gradients else torch.zeros(0), outcome


def assert_close(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-12, atol=1e-13, msg=name)


@pytest.mark.parametrize("kind", [Coupled, Masked])
@pytest.mark.parametrize("keep", [0, 1, 3])
def test_gradient_rows_sums_and_scalars_do_not_depend_on_the_split(kind: type[Toy], keep: int) -> None:
    whole, expected = run(build(kind), COUNT)
    for micro_batch in SPLITS:
        split, found = run(build(kind), micro_batch, keep)
        torch.testing.assert_close(split, whole, rtol=1e-11, atol=1e-14)
        assert_close(found.kept.rows, expected.kept.rows)
        assert_close(found.kept.sums, expected.kept.sums)
        assert found.scalars == pytest.approx(expected.scalars, rel=1e-12)
        for ours, theirs in zip(found.features, expected.features, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_rows_of_the_data_set_reach_the_loss_in_the_order_of_the_volumes() -> None:
    _, outcome = run(build(Coupled), 3)
    assert outcome.kept.rows["case"].tolist() == list(range(COUNT))
    assert outcome.kept.rows["chosen"].dtype == torch.bool
    assert int(outcome.kept.sums["known"]) == 9  # of eleven toy volumes, two have no label


def test_an_uncoupled_loss_is_the_mean_over_what_it_counts() -> None:
    method = build(Masked)
    views = BatchEncoder(method, ToySource(COUNT), 3).views(EffectiveBatch(range(COUNT), 2, 0.25), range(COUNT))
    chosen = views.rows["chosen"]
    assert not bool(chosen.any(1).all())  # some volumes have no weight at all
    features = method.online(views.tensors[0], views.view_rows[0])
    assert isinstance(features, Tensor)
    (features.square() * chosen).sum().div(chosen.sum()).backward()  # type: ignore[no-untyped-call]
    expected = torch.cat([parameter.grad.flatten() for parameter in method.parameters() if parameter.grad is not None])
    torch.testing.assert_close(run(method, 2)[0], expected, rtol=1e-11, atol=1e-14)


class Weightless(Masked):
    """Counts nothing, as a supervised loss of unlabelled volumes."""

    def loss(self, batch: Batch) -> Loss:
        found = super().loss(batch)
        return Loss(found.value * torch.nan, weight=0.0)


def test_an_effective_batch_without_weight_gives_no_gradient_and_no_nan() -> None:
    gradient, outcome = run(build(Weightless), 4)
    assert not len(gradient)
    assert outcome.scalars["loss"] == 0.0


def test_draws_in_a_loss_do_not_depend_on_the_global_generators_and_leave_them_alone() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        before = torch.get_rng_state()
        found.append(run(build(Coupled), 3)[0])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


class Frozen(Toy):
    """The backbone is frozen; a head in the loss is trained."""

    def build(self) -> None:
        super().build()
        self.backbone.requires_grad_(False)

    def loss(self, batch: Batch) -> Loss:
        return Loss(F.mse_loss(self.head(batch.online[0]), self.head(batch.online[1])))


@pytest.mark.parametrize("keep", [0, 1])
def test_a_frozen_backbone_trains_its_head(keep: int) -> None:
    whole, outcome = run(build(Frozen), COUNT)
    split, _ = run(build(Frozen), 2, keep)
    torch.testing.assert_close(split, whole, rtol=1e-11, atol=1e-14)
    assert whole.any()
    assert outcome.kept == Kept()  # its loss hands nothing on


class Clash(Toy):
    """Draws a row under the name of one that it needs from the data set."""

    needs = frozenset({"labels"})

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(self.augment(volumes, rng), labels=torch.zeros(len(volumes)))

    def loss(self, batch: Batch) -> Loss:
        return Loss(batch.online[0].mean())


def test_a_row_under_the_name_of_one_of_the_data_set_is_refused() -> None:
    with pytest.raises(PluginError, match="the data set gives rows 'labels'"):
        run(build(Clash), COUNT)


def test_views_may_hand_on_their_geometry() -> None:
    rows = {"case": torch.arange(3), "box": (torch.zeros(3, 6), torch.ones(3, 6))}
    views = Views(torch.zeros(3, 1, *SIZE), torch.zeros(3, 2, *SIZE), **rows)  # type: ignore[arg-type]
    assert set(views.rows) == {"case"}
    assert [float(own["box"].mean()) for own in views.view_rows] == [0.0, 1.0]
