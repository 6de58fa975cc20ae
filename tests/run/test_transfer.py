"""Pretrain once, evaluate everywhere: ``--corpus A,B --data B,C``, without the patients and volumes that are tested."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from ssl3d.cli import run as command
from ssl3d.results.read import read_results
from ssl3d.results.results import Results
from tests.run.watched import Watcher, watched, write_folder
from tests.runs import SMALL, Listener, small_run

A, B, C = (
    "folder:a.csv",
    "folder:b.csv",
    "folder:c.csv",
)  # B and C are tables of one folder: their patients are the same
FIELDS = {"data__name": f"{B},{C}", "corpus": f"{A},{B}", "controls": "none", "evaluate__protocols": "knn"}


@dataclass(frozen=True)
class Transfer:
    """A run of simclr on a corpus of two data sets, evaluated on one of them and on a third."""

    folder: Path
    roots: dict[str, Path]
    results: Results
    watcher: Watcher


def labelled(prefix: str, train: int, test: int, **patients: str) -> list[str]:
    """Return rows of training and test volumes, each of a patient of its own but for those that are named."""
    names = [f"{prefix}{number}" for number in range(train + test)]
    splits = train * ["train"] + test * ["test"]
    return [
        f"{name}.npy,{split},{patients.get(name, name)},{number % 2}"
        for number, (name, split) in enumerate(zip(names, splits, strict=True))
    ]


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    folder = tmp_path_factory.mktemp("transfer")
    unlabelled = [f"a{number}.npy,unlabelled,a{number}" for number in range(7)]
    a = write_folder(folder / "many", unlabelled, "path,split,patient", "a.csv")
    b = write_folder(folder / "few", labelled("b", 6, 4, b0="P0", b1="P0"), table="b.csv")
    write_folder(b, labelled("c", 6, 4, c7="P0"), table="c.csv")
    shutil.copyfile(b / "b8.npy", a / "a3.npy")  # a volume that B tests, under another name
    shutil.copyfile(b / "c9.npy", a / "a5.npy")  # one that C tests
    roots = {A: a, B: b, C: b}
    with watched() as watcher:
        run = small_run(a, folder / "run", ("simclr",), watcher, roots=roots, **FIELDS).folder
    return Transfer(run, roots, read_results(run), watcher)


def test_one_encoder_serves_every_data_set(transfer: Transfer) -> None:
    assert len(transfer.results.encoders) == 1
    assert transfer.watcher.pretrained == ["simclr"]
    found = {one.record.recipe.data: one for one in transfer.results.evaluated}
    assert found.keys() == {B, C}
    assert len({one.record.encoder for one in found.values()}) == 1
    assert {name: list(one.predictions["case"]) for name, one in found.items()} == {
        B: [f"b{number}.npy" for number in range(6, 10)],
        C: [f"c{number}.npy" for number in range(6, 10)],
    }


def test_patients_and_volumes_that_any_data_set_tests_are_not_pretrained_on(transfer: Transfer) -> None:
    (label,) = transfer.watcher.losses
    assert label == "simclr on tiny, seed 0, pretrained on folder:a.csv + folder:b.csv"
    read = {case for _, case in transfer.watcher.reads[label]}
    by_id, by_bytes = {"b0.npy", "b1.npy"}, {"a3.npy", "a5.npy"}  # of patient P0, whom C tests; copies
    everything = {*(f"a{number}.npy" for number in range(7)), *(f"b{number}.npy" for number in range(6))}
    assert read == everything - by_id - by_bytes
    (encoder,) = transfer.results.encoders.values()
    assert encoder.corpus is not None
    assert (encoder.corpus.volumes, encoder.corpus.excluded) == (9, 4)
    assert encoder.corpus.name == "folder many:a.csv + folder few:b.csv"


def test_what_is_not_pretrained_on_is_still_learnt_from_where_it_is_evaluated(transfer: Transfer) -> None:
    (one,) = [one for one in transfer.results.evaluated if one.record.recipe.data == B]
    assert one.training is not None
    assert set(one.training["case"]) == {f"b{number}.npy" for number in range(6)}


def test_the_tables_say_what_was_pretrained_on(transfer: Transfer) -> None:
    board = pd.read_csv(transfer.folder / "leaderboard.csv")
    assert dict(zip(board["data"], board["corpus"], strict=True)) == dict.fromkeys(
        (B, C), "folder many:a.csv + folder few:b.csv"
    )
    rows = pd.read_csv(transfer.folder / "evaluations.csv")
    assert set(zip(rows["corpus_volumes"], rows["corpus_excluded"], strict=True)) == {(9, 4)}


def test_the_same_from_the_command_line_makes_nothing_again(
    transfer: Transfer, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {name: value for name, value in SMALL.items() if name not in {"data.name", "controls"}}
    line = ["bench", "--methods=simclr", f"--data={B},{C}", f"--corpus={A},{B}", "--protocols=knn", "--controls=none"]
    line += [f"--root={name}={root}" for name, root in transfer.roots.items()]
    line += [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    assert command([*line, f"--out={transfer.folder}", "--device=cpu", "--json"]) == 0
    events = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    outcomes = {event["outcome"] for event in events if event["event"] == "finished"}
    assert outcomes == {"done before"}
    assert {row["data"] for row in events[-1]["rows"]} == {B, C}


def test_an_evaluated_data_set_less_is_another_corpus(transfer: Transfer, tmp_path: Path) -> None:
    """Patient P0 is tested by C alone: without it, the corpus holds P0 and the encoder is pretrained again."""
    listener = Listener()
    roots = {name: transfer.roots[name] for name in (A, B)}
    cache = {"cache": tmp_path / "cache"}
    fields = {**FIELDS, "data__name": B, **cache}
    run = small_run(transfer.roots[A], tmp_path / "run", ("simclr",), listener, roots=roots, **fields).folder
    (encoder,) = read_results(run).encoders.values()
    assert encoder.key not in transfer.results.encoders
    assert encoder.corpus is not None
    assert (encoder.corpus.volumes, encoder.corpus.excluded) == (12, 1)
