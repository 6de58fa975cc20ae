"""The global random state: read and moved here alone, to show that plugins do neither."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ssl3d.testing.runner import require


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random inside, and put their states back."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)


@contextmanager
def untouched(what: str, advice: str) -> Iterator[None]:
    """Demand that the global random states are the same after the block as before it.

    Args:
        what: named in the message, "views".
        advice: what to do, "draw every number from rng".
    """
    before = states()
    yield
    moved = [name for name, state in states().items() if state != before[name]]
    require(not moved, f"{what} moves the global random state of {', '.join(moved)}; {advice}")


def states() -> dict[str, object]:
    """Return the global random states of torch, numpy and random, as values that can be compared."""
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (numpy["state"]["key"].tobytes(), numpy["state"]["pos"], numpy["has_gauss"]),
        "random": random.getstate(),
    }
