"""An installed package whose helper module is edited: exactly what it touches is made again, in a row of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ssl3d.registry import plugins
from tests.runs import Listener, small_run, write_knees

PACKAGE = {
    "__init__.py": "",
    "helper.py": "SCALE = 1.0\n",
    "unused.py": "SCALE = 1.0\n",
    "scaled.py": """
from acme_plugins.helper import SCALE
from ssl3d_plugins.methods.simclr import SimCLR


class Scaled(SimCLR):
    def online(self, view, rows):
        return super().online(SCALE * view, rows)
""",
    "plain.py": """
from ssl3d_plugins.methods.simclr import SimCLR


class Plain(SimCLR): ...
""",
    "lazy.py": """
from ssl3d_plugins.methods.simclr import SimCLR


class Lazy(SimCLR):
    def online(self, view, rows):
        from .helper import SCALE

        return super().online(SCALE * view, rows)
""",
}
LOOSE = """
from ssl3d_plugins.methods.simclr import SimCLR


class Loose(SimCLR):
    def online(self, view, rows):
        import acme_plugins_beside

        return super().online(acme_plugins_beside.SCALE * view, rows)
"""
METHODS = ("acme_scaled", "acme_plain", "random")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an installed package of two methods, one of which has a helper."""
    site = tmp_path / "site"
    info = site / "acme_plugins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-plugins\nVersion: 1.0\n")
    points = [f"acme_{name} = acme_plugins.{name}:{name.title()}" for name in ("scaled", "plain", "lazy")]
    (info / "entry_points.txt").write_text("\n".join(["[ssl3d.methods]", *points, ""]))
    folder = site / "acme_plugins"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()
    yield folder
    forget()
    plugins.cache_clear()


def forget() -> None:
    """Make the package's modules be imported again, as in a new process."""
    for name in [name for name in sys.modules if name.startswith("acme_plugins")]:
        del sys.modules[name]


def made(knees: Path, run: Path, seed: int = 0, methods: tuple[str, ...] = METHODS) -> Counter[str]:
    """Carry out the run as a new process would; return how many artifacts of each method it made."""
    forget()
    listener = Listener()
    fields = {"controls": "none", "seeds": (seed,), "evaluate__protocols": "knn", "pretrain__epochs": 1}
    assert small_run(knees, run, methods, listener, **fields).failures == {}
    return Counter(label.partition(" ")[0] for label in listener.made)


def test_an_edited_helper_makes_its_own_encoders_again_and_is_not_averaged_with_what_it_was(
    package: Path, tmp_path: Path
) -> None:
    knees, run = write_knees(tmp_path / "knees"), tmp_path / "run"
    whole = dict.fromkeys(METHODS, 3)  # encoder, features, evaluation
    assert made(knees, run) == whole
    (package / "unused.py").write_text("SCALE = 1.5  # nothing imports it\n")
    (package / "helper.py").write_text("SCALE = 1.25  # it was 1\n")
    assert made(knees, run) == {"acme_scaled": 3}
    board = pd.read_csv(run / "leaderboard.csv")
    assert dict(zip(board["method"], board["seeds"], strict=True)) == dict.fromkeys(METHODS, 1)

    (package / "helper.py").write_text("SCALE = 1.125  # it was 1.25\n")
    assert made(knees, run, seed=1) == whole  # seed 0 of the old code is in the run, too
    board = pd.read_csv(run / "leaderboard.csv")
    assert sorted(zip(board["method"], board["seeds"], strict=True)) == [
        ("acme_plain", 2), ("acme_scaled", 1), ("acme_scaled", 1), ("random", 2),
    ]  # fmt: skip
    scaled = board[board["method"] == "acme_scaled"]
    assert scaled["settings"].nunique() == 2
    assert scaled["note"].str.contains("its code differs from that of settings").all()


def test_an_edited_helper_that_is_imported_in_a_function_makes_its_encoder_again(package: Path, tmp_path: Path) -> None:
    """Of an installed package, and beside a plugin file whose folder is on no path."""
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "mine.py").write_text(LOOSE)
    (loose / "acme_plugins_beside.py").write_text("SCALE = 1.0\n")
    methods = ("acme_lazy", f"{loose / 'mine.py'}:Loose")
    knees, run = write_knees(tmp_path / "knees"), tmp_path / "run"
    assert made(knees, run, methods=methods) == {"acme_lazy": 3, "Loose": 3}
    assert made(knees, run, methods=methods) == {}
    (package / "helper.py").write_text("SCALE = 1.25\n")
    assert made(knees, run, methods=methods) == {"acme_lazy": 3}
    (loose / "acme_plugins_beside.py").write_text("SCALE = 1.25\n")
    assert made(knees, run, methods=methods) == {"Loose": 3}
