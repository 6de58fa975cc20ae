"""The numbers that keys stand for: a change of the core's arithmetic that forgets to raise NUMERICS fails here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl3d.budget import Budget
from ssl3d.data.augment import Augment, whole
from ssl3d.data.rng import Rng
from ssl3d.data.volumes import Volumes
from ssl3d.evaluate.protocols.knn import KNN
from ssl3d.evaluate.protocols.linear import Linear
from ssl3d.evaluate.protocols.objective import Objective
from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.inference import interval
from ssl3d.parts.momentum import AutoMomentum
from ssl3d.parts.queue import AutoQueue
from ssl3d.protocol import FeatureProblem
from ssl3d.recipe import AugmentRecipe, PretrainRecipe
from ssl3d.results.keys import NUMERICS
from ssl3d.task import Task
from ssl3d.train.encode import BatchEncoder, EffectiveBatch
from ssl3d.train.processes import Group
from ssl3d.train.schedule import Schedule
from ssl3d.train.window import Window
from ssl3d_plugins.methods.byol import BYOL, BYOLConfig
from tests.toys import NoisyAugment, ToyBackbone, ToySource

# By NUMERICS: where a number changes on purpose, raise NUMERICS and replace these by the new ones.
GOLDEN = {
    3: {
        "views": [0.179913075, -0.00320330809],
        "whole volumes": [0.163514151, 0.000999243261],
        "gradient": [0.0915887502, -0.0097699641],
        "learning rates": [6.25e-05, 0.000249358665, 0.000118668854],
        "linear": [0.666638976, 0.666616874, 0.666618829, 0.666651747],
        "knn": [0.716023949, 0.00109836362, 0.00100927127, 0.862034722],
        "auc": [0.975, 0.834240477, 0.996702013],
        "auto": [0.94925, 512.0],
        "balance undone": [0.75, 0.25],
    }
}
TOLERANCE = 2e-4  # relative; where other versions of libraries stop an optimisation elsewhere


def volumes(count: int = 3) -> Volumes:
    """Volumes of 8 bits and several depths, by arithmetic alone."""
    voxels = []
    for number in range(count):
        shape = (1, 5 + number, 14, 13)
        ramp = torch.arange(int(np.prod(shape)), dtype=torch.float64)
        voxels.append((127 + 127 * torch.sin(ramp * (0.011 + 0.003 * number))).to(torch.uint8).reshape(shape))
    mean = torch.stack([one.float().mean() for one in voxels])
    return Volumes(tuple(voxels), mean, torch.stack([one.float().std() for one in voxels]))


def fixed(module: torch.nn.Module) -> None:
    """Set all parameters by arithmetic, whatever torch's generator gives."""
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            place = torch.arange(parameter.numel(), dtype=parameter.dtype).reshape(parameter.shape)
            parameter.copy_(0.3 * torch.sin(1.7 * place + number))


def summary(x: Tensor) -> list[float]:
    """Two numbers that a change of any element moves."""
    flat = x.double().flatten()
    return [float(flat.square().mean()), float((flat * torch.cos(torch.arange(len(flat)))).mean())]


def found() -> dict[str, list[float]]:
    """Return numbers of views, window, schedule, protocols and statistics."""
    every = AugmentRecipe(flip=(0.5, 0.5, 0.5), slice_dropout=0.3, blur=1.0)
    views = Augment(every, (4, 9, 8))(volumes(), Rng(3, 2, range(3)))
    method = BYOL(ToyBackbone(), BYOLConfig(hidden_dim=8, projection_dim=5), NoisyAugment()).double()
    fixed(method)
    Window(BatchEncoder(method, ToySource(), 3), 2, group=Group()).backward(EffectiveBatch(range(5), 1, 0.3))
    gradients = torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])
    schedule = Schedule.of(PretrainRecipe(epochs=7, batch_size=4), 18)
    x = np.sin(np.arange(40 * 3).reshape(40, 3) ** 1.5)
    y = (x[:, 0] + 0.5 * np.cos(np.arange(40)) > 0).astype(np.int64)
    problem = FeatureProblem(x[:30], y[:30], x[30:], Task(name="tear"), np.array([f"p{i // 2}" for i in range(30)]))
    linear, knn = Linear().predict(problem), KNN().predict(problem)
    auc = interval(estimate_auc(y[:30], np.stack([1 - x[:30, 0], x[:30, 0]], axis=1)[None]))
    objective = Objective.of(Task(name="tear"), np.array([0, 0, 0, 1]), balance="weights", device=torch.device("cpu"))
    return {
        "views": summary(views),
        "whole volumes": summary(whole(volumes(), (4, 9, 8))),
        "gradient": summary(gradients),
        "learning rates": [schedule.lr(step) for step in (0, 5, 20)],
        "linear": [*linear.probabilities[:3, 1], float(linear.threshold or 0)],
        "knn": [*knn.probabilities[:3, 1], float(knn.threshold or 0)],
        "auc": [auc.estimate, auc.low, auc.high],
        "auto": [AutoMomentum(0.996).auto(Budget(steps=178)), AutoQueue(65536).auto(Budget(1800, 1130, 64))],
        "balance undone": objective.calibrate(torch.tensor([[0.5, 0.5]])).flatten().tolist(),
    }


def test_numbers_are_those_that_keys_stand_for() -> None:
    assert NUMERICS in GOLDEN, f"write the numbers of NUMERICS = {NUMERICS} into GOLDEN: {found()}"
    numbers = found()
    for name, expected in GOLDEN[NUMERICS].items():
        message = f"{name}: the core computes something else; raise NUMERICS in ssl3d/results/keys.py, then GOLDEN"
        assert numbers[name] == pytest.approx(expected, rel=TOLERANCE), message
    assert numbers.keys() == GOLDEN[NUMERICS].keys()
