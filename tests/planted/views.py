"""Methods, each with one fault in views or their rows."""

from __future__ import annotations

import numpy as np
import torch

from ssl3d.method import Rng, Views, Volumes
from ssl3d_plugins.methods.simclr import SimCLR


class ViewsOfGlobalTorch(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*(view + 0.1 * torch.randn_like(view) for view in super().views(volumes, rng).tensors))


class ViewsOfGlobalNumpy(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*(view + float(np.random.rand()) for view in super().views(volumes, rng).tensors))


class ViewsOfTheClock(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*(view + np.random.default_rng().random() for view in super().views(volumes, rng).tensors))


class RowsOfTheClock(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        drawn = torch.from_numpy(np.random.default_rng().random(len(volumes)))
        return Views(*super().views(volumes, rng).tensors, drawn=drawn)


class ViewsChangeTheirInput(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        views = super().views(volumes, rng)
        volumes.voxels[0].mul_(0)
        return views


class ViewsOfTheBatch(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*(view - view.mean() for view in super().views(volumes, rng).tensors))


class PlacesOfTheMicroBatch(SimCLR):
    """A row that counts within the micro-batch."""

    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*super().views(volumes, rng).tensors, place=torch.arange(len(volumes)))


class ViewsNeverChange(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return super().views(volumes, Rng(0, 0, rng.positions))


class ViewsWithoutAChannel(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*(view.squeeze(1) for view in super().views(volumes, rng).tensors))


class ViewsInATuple(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return super().views(volumes, rng).tensors  # type: ignore[return-value]


class OneRowForAll(SimCLR):
    def views(self, volumes: Volumes, rng: Rng) -> Views:
        return Views(*super().views(volumes, rng).tensors, mask=rng.uniform().mean())
