"""Stopping and resuming at any step, and checkpoints that are whole or absent."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from ssl3d.errors import RunError
from ssl3d.files import CHECKPOINT, partial_prefix
from ssl3d.train import checkpoint
from ssl3d.train.interrupt import Interrupted, deferred
from ssl3d.train.pretrain import State, pretrain
from tests.train.jobs import EPOCHS, Stopper, assert_same, job, saved


@pytest.mark.parametrize(
    ("name", "optimizer", "step", "precision"),
    [
        ("byol", "adamw", 4, "32-true"),
        ("byol", "lars", 3, "64-true"),
        ("byol", "sgd", 8, "bf16-mixed"),
        ("moco", "adamw", 1, "32-true"),
        ("moco", "sgd", 5, "bf16-mixed"),
        ("simclr", "lars", 6, "32-true"),
    ],
)
def test_a_stopped_run_continues_to_the_same_bits(
    tmp_path: Path, name: str, optimizer: str, step: int, precision: str
) -> None:
    """Weights, momentum encoder, queue, optimiser, log: all but the times."""
    values = {"optimizer": optimizer, "precision": precision}
    pretrain(job(tmp_path / "unbroken", name, **values))
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path / "broken", name, Stopper(step), **values))
    assert saved(tmp_path / "broken")["step"] == step
    listener = Stopper(0)
    pretrain(job(tmp_path / "broken", name, listener, **values))
    assert listener.notes == [f"{name}: continues after step {step}"]
    assert_same(saved(tmp_path / "unbroken"), saved(tmp_path / "broken"))
    logs = [
        pd.read_csv(tmp_path / part / "log.csv").drop(columns="volumes_per_second") for part in ("unbroken", "broken")
    ]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    assert len(logs[0]) == EPOCHS


def test_a_run_stopped_after_every_step_ends_in_the_same_bits(tmp_path: Path) -> None:
    pretrain(job(tmp_path / "unbroken", "moco"))
    for step in range(1, 10):
        with pytest.raises(Interrupted):
            pretrain(job(tmp_path / "broken", "moco", Stopper(step)))
    pretrain(job(tmp_path / "broken", "moco"))
    assert_same(saved(tmp_path / "unbroken"), saved(tmp_path / "broken"))


def test_a_resume_restores_the_queue_and_the_momentum_encoder(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, "moco", Stopper(2)))
    state = saved(tmp_path)["method"]
    assert int(state["queue.filled"]) == 10 + 8
    assert not torch.equal(state["momentum_backbone.module.second.weight"], state["backbone.second.weight"])


def test_a_run_that_is_done_takes_no_further_step(tmp_path: Path) -> None:
    pretrain(job(tmp_path))
    before = saved(tmp_path)
    state = pretrain(job(tmp_path, progress=Stopper(9)))
    assert (state.step, len(state.rows)) == (9, EPOCHS)
    assert_same(before, saved(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_end_of_the_step(tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, "byol", Stopper(2, number)))
    assert saved(tmp_path)["step"] == 2


def test_a_second_signal_acts_at_once() -> None:
    with deferred() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with deferred() as stop:
        assert not stop.requested
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, progress=Stopper(2)))
    leftover = tmp_path / f"{partial_prefix(CHECKPOINT)}abc"
    leftover.write_bytes((tmp_path / CHECKPOINT).read_bytes()[:100])
    listener = Stopper(0)
    pretrain(job(tmp_path, progress=listener))
    assert listener.notes == ["byol: continues after step 2"]
    assert not leftover.exists()


def test_saving_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, {"key": "old"})

    def half(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(RunError, match="the disk is full"):
        checkpoint.save(tmp_path, {"key": "new"})
    assert saved(tmp_path) == {"key": "old"}
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not a checkpoint"),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save(State(), path),  # an object: only pickle could load it
    ],
)
def test_a_corrupt_checkpoint_is_named_and_not_loaded(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, progress=Stopper(1)))
    damage(tmp_path / CHECKPOINT)
    with pytest.raises(RunError, match=r"checkpoint\.pt cannot be read as a checkpoint.*delete it") as caught:
        pretrain(job(tmp_path))
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_the_checkpoint_of_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pretrain(job(tmp_path, progress=Stopper(1)))
    with pytest.raises(RunError, match=r"checkpoint\.pt belongs to another encoder"):
        pretrain(job(tmp_path, lr=0.5))


def test_checkpoints_are_written_no_more_often_than_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Counter[int] = Counter()
    monkeypatch.setattr(checkpoint, "save", lambda folder, state: steps.update([state["step"]]))
    pretrain(job(tmp_path, checkpoint_seconds=1e9))
    assert steps == {9: 1}
    pretrain(job(tmp_path, checkpoint_seconds=0.0))
    assert set(steps) == set(range(1, 10))
