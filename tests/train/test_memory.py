"""Memory that runs out, and a resumed run that keeps the engine it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl3d.engine import Engine
from ssl3d.train import checkpoint
from ssl3d.train.interrupt import Interrupted
from ssl3d.train.pretrain import State, pretrain
from ssl3d.train.tuning import memory
from ssl3d.train.tuning.fallback import fallback
from tests.train.jobs import Stopper, assert_same
from tests.train.trials import job, memory_for, pretraining, recipe, toy


def test_a_step_that_runs_out_of_memory_is_repeated_in_smaller_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pretrain(job(tmp_path / "plain", recipe(), Engine(micro_batch=2)))
    listener = Stopper(-1)
    with memory_for(3, monkeypatch):
        made = job(tmp_path / "tight", recipe(), Engine(micro_batch=8), progress=listener)
        state = pretrain(made)
    assert state.engine["micro_batch"] == 2
    assert [note.split(":")[0] for note in state.notes] == ["step 1", "step 1"]
    assert listener.notes == [f"byol: {note}" for note in state.notes]
    assert_same(without(plain), without(state))
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "tight"))


def without(state: State) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "volumes_per_second"} for row in state.rows]


def weights(folder: Path) -> dict[str, Tensor]:
    saved = checkpoint.load(folder, torch.device("cpu"))
    assert saved is not None
    return dict(saved["method"])


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_running_statistics_move_once_though_a_step_was_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ends = []
    for folder, engine, volumes in (("plain", 2, 99), ("tight", 8, 3)):
        with memory_for(volumes, monkeypatch):
            pretrain(job(tmp_path / folder, recipe(), Engine(micro_batch=engine), toy(name, norm="batch")))
        ends.append(weights(tmp_path / folder))
    assert_same(*ends)


@pytest.mark.parametrize(("values", "micro_batch"), [({"micro_batch": 8}, 8), ({"micro_batch": "auto"}, 1)])
def test_a_micro_batch_that_was_named_or_is_one_runs_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], micro_batch: int
) -> None:
    engine = Engine(micro_batch=micro_batch)
    with memory_for(0, monkeypatch), pytest.raises(torch.OutOfMemoryError):
        pretrain(job(tmp_path, recipe(**values), engine))


def test_smaller_portions_come_to_an_end_at_one_volume() -> None:
    engine, sizes = Engine(micro_batch=12, keep=4), []
    while (found := fallback(engine, pretraining(recipe()), torch.OutOfMemoryError("x"))) is not None:
        engine = found[0]
        sizes.append((engine.micro_batch, engine.keep))
    assert sizes == [(6, 4), (3, 4), (1, 4), (1, 2), (1, 1)]
    assert fallback(engine, pretraining(recipe()), RuntimeError("shapes differ")) is None
    assert memory.out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))


def test_a_resumed_run_keeps_the_engine_it_was_begun_with(tmp_path: Path) -> None:
    begun = Engine(micro_batch=2, keep=2, channels_last=True, trials=({"what": "x", "outcome": "done"},))
    pretrain(job(tmp_path / "unbroken", recipe(), begun))
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path / "broken", recipe(), begun, progress=Stopper(1)))
    assert checkpoint.engine(tmp_path / "broken") == begun.model_dump(mode="json")
    state = pretrain(job(tmp_path / "broken", recipe(), Engine(micro_batch=8)))
    assert Engine.model_validate(state.engine) == begun
    assert_same(weights(tmp_path / "unbroken"), weights(tmp_path / "broken"))


def test_the_lower_of_the_machine_and_its_cgroups_is_available(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9 kB\nMemFree: 100 kB\nMemAvailable:   4000 kB\n")
    assert memory.available(tmp_path) == 4000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/user/job\n")
    folder = tmp_path / "sys/fs/cgroup/user/job"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) == 4000 * 1024
    (folder / "memory.max").write_text("3000000\n")
    (folder / "memory.current").write_text("2500000\n")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 400000\n")
    assert memory.available(tmp_path) == 900000
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/job\n0::/\n")
    old = tmp_path / "sys/fs/cgroup/memory/job"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("700000\n")
    (old / "memory.usage_in_bytes").write_text("100000\n")
    assert memory.available(tmp_path) == 600000
