"""A choice at the edge of its grid is said once per row."""

import numpy as np
import pytest

from ssl3d.evaluate.protocols.edge import edge_note
from ssl3d.evaluate.protocols.linear import Linear, LinearConfig
from ssl3d.protocol import FeatureProblem, Prediction
from ssl3d.task import Task

LABELS = Task(name="findings", kind="multilabel", classes=("tear", "fluid"))


def predicted(task: Task, strengths: tuple[float, ...] = (1e-3, 1e-1, 10.0)) -> Prediction:
    """Return a linear probe of 60 cases without a signal: the strongest penalty is as good as any and comes first."""
    y = np.stack([np.arange(60) % 2, np.arange(60) % 3 == 0], axis=1).astype(int)
    x = np.zeros((60, 4))
    patients = np.array([f"p{i}" for i in range(60)])
    problem = FeatureProblem(x, y if task is LABELS else y[:, 0], x[:3], task, patients, folds=3)
    return Linear(LinearConfig(strengths=strengths)).predict(problem)


def test_the_note_says_which_edge_and_where_to_go_on() -> None:
    grid = (1e-4, 1e-3, 1e-2)
    assert edge_note("learning rate", 1e-2, grid, "protocol.finetune.lr") == (
        "the chosen learning rate is the largest of the grid (0.01): add larger values to protocol.finetune.lr",
    )
    assert "smallest" in edge_note("learning rate", 1e-4, grid, "x")[0]
    assert edge_note("penalty", 1e-4, grid, "protocol.linear.strengths", inverse="C") == (
        "the chosen penalty is the largest of the grid (C = 0.0001): add smaller values to protocol.linear.strengths",
    )
    assert edge_note("penalty", 1e-3, grid, "x") == ()


@pytest.mark.parametrize("grid", [(1e-3,), (1e-3, 1e-2), (1e-3, 1e-3, 1e-2)])
def test_a_grid_of_edges_only_says_nothing(grid: tuple[float, ...]) -> None:
    assert edge_note("learning rate", 1e-3, grid, "x") == ()


def test_a_linear_probe_notes_a_penalty_at_the_edge() -> None:
    (note,) = predicted(Task(name="tear")).notes
    assert note.startswith("the chosen penalty is the largest of the grid (C = 0.001)")
    assert predicted(Task(name="tear"), (0.1,)).notes == ()


def test_labels_are_named_in_the_notes_of_a_multi_label_task() -> None:
    assert [note.partition(":")[0] for note in predicted(LABELS).notes] == ["tear", "fluid"]
