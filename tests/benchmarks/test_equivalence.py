"""The script behind the table of equivalence, on two methods and two steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.equivalence import COLUMNS, main, trainable

TABLE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "equivalence.md"


def rows(text: str) -> dict[str, dict[str, str]]:
    """Cells by method and column."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]}


def test_split_is_whole_in_ssl3d_and_not_in_the_usual_loop(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--methods", "simclr", "moco", "--steps", "2"])
    found = rows(capsys.readouterr().out)
    assert list(found) == ["simclr", "moco"]
    for cells in found.values():
        assert float(cells["gradient"]) < 1e-12
        assert float(cells["state"]) < 1e-9
        assert float(cells["float32"]) < 1e-4
        assert 1e-4 < float(cells["bf16"]) < 0.1
        assert float(cells["usual state"]) > 1e-3
    assert float(found["simclr"]["usual gradient"]) > 0.1
    assert found["moco"]["differs most"] in {"backbone", "heads", "momentum encoder", "queue"}


def test_every_method_that_trains_is_measured_and_the_table_has_the_columns_of_the_script() -> None:
    assert {"byol", "dino", "mae", "supervised"} <= set(trainable())
    assert not {"random", "voxels"} & set(trainable())
    published = rows(TABLE.read_text("utf-8"))
    assert list(published["byol"]) == list(COLUMNS)
    assert all(float(cells["gradient"]) < 1e-12 and float(cells["state"]) < 1e-8 for cells in published.values())
