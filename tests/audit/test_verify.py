"""A run checked against its own files: what was edited is named, by its field; what is sound is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl3d.audit.verdict import Verdict, same
from ssl3d.audit.verify import verify
from ssl3d.cli import run as command
from ssl3d.errors import RunError
from ssl3d.recipe import canonical
from ssl3d.results.feature_file import pack_features
from ssl3d.results.folder import FEATURES, PLAN, RunFolder
from ssl3d.results.model import EncoderRecord, EvaluationRecord, FeaturesRecord
from ssl3d.results.read import read_results
from ssl3d.results.records import read_record, sha256, write_record
from ssl3d.results.results import Evaluated
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import write_tables
from tests import records
from tests.records import LABELS, encoder, evaluated, failed, results, write_run

Capture = pytest.CaptureFixture[str]
WRITTEN = sha256(b"no weights")  # of the weights that the builder writes


def sound_encoder(method: str, **fields: Any) -> EncoderRecord:
    """An encoder whose key follows from what its record says."""
    made = encoder(method, plane=None, **fields)
    if made.corpus is None:
        return made
    fingerprint = made.corpus.fingerprint + b"None".hex()  # which is what the builder's key is made with
    return made.model_copy(update={"corpus": made.corpus.model_copy(update={"fingerprint": fingerprint})})


def sound(method: str = "simclr", strength: float = 1.0, of: EncoderRecord | None = None, **fields: Any) -> Evaluated:
    of = of or sound_encoder(method)
    given = {"training": True, "n_positive": 100, **fields}  # which is what the builder's training cases have
    return evaluated(method, 0, strength, plane=None, of=of, encoder_sha256=WRITTEN, **given)


def make(folder: Path) -> Path:
    """Two methods, one of them with half of the labels and under two protocols, as a run leaves them."""
    of = sound_encoder("simclr")
    write_run(
        folder,
        results(
            sound(of=of),
            sound(of=of, protocol="knn"),
            sound(of=of, recipe={"labels": 0.5}, training=False),
            sound("random", 0.1, sound_encoder("random", recipe={"pretrain": None, "corpus": (), "augment": None})),
        ),
    )
    write_tables(folder, Tables(read_results(folder)))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("verify") / "run")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def evaluation(run: Path, begins: str = "simclr", protocol: str = "linear") -> Path:
    """Folder of the evaluation with all labels."""
    found = [path.parent for path in (run / "evaluations").glob(f"*/{begins}-*-{protocol}-*/evaluation.json")]
    (folder,) = [path for path in found if read_record(path, EvaluationRecord).recipe.labels == 1]
    return folder


def encoder_folder(run: Path, begins: str = "simclr") -> Path:
    (folder,) = (run / "encoders").glob(f"{begins}-*")
    return folder


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record, and its content hash with it: as someone would who knows how."""
    content = json.loads(path.read_text())
    change(content)
    content.pop("content_sha256")
    path.write_text(json.dumps({**content, "content_sha256": sha256(canonical(content).encode())}))


def repredict(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "predictions.csv") -> None:
    """Change a table of predictions, and its hash in the record with it."""
    table = pd.read_csv(folder / name, dtype={"case": "str", "patient": "str"})
    text = change(table).to_csv(index=False, lineterminator="\n")
    (folder / name).write_text(text)
    rewrite(folder / "evaluation.json", lambda content: content["files"].update({name: sha256(text.encode())}))


def found(folder: Path) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verify(folder)}


def only(folder: Path) -> Verdict:
    """What is found of a single artifact."""
    (verdict,) = verify(folder)
    return verdict


def fields(verdict: Verdict) -> set[str]:
    return {f"{difference.file} {difference.field}" for difference in verdict.differences}


def test_a_sound_run_is_the_same_and_nothing_is_written(copied: Path, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert command(["verify", str(copied)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0].partition("/")[0] for line in lines] == [
        *["plan.json:", "encoders", "encoders", "evaluations", "evaluations", "evaluations", "evaluations"],
        *["leaderboard.csv:", "leaderboard.md:", "comparisons.csv:", "evaluations.csv:", "curves.csv:"],
    ]
    assert all(line.endswith(": same") for line in lines)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_encoders_and_evaluations_are_taken_alone(copied: Path, capsys: Capture) -> None:
    folders = [encoder_folder(copied), evaluation(copied)]
    assert command(["verify", *map(str, folders)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("/")[2] for line in lines] == [f"{folder.name}: same" for folder in folders]


@pytest.mark.parametrize("folder", ["/proc", "evaluations/demo-acl", "nowhere"])
def test_a_folder_that_holds_nothing_to_verify_is_one_sentence(folder: str, copied: Path) -> None:
    with pytest.raises(RunError, match="holds nothing to verify"):
        list(verify(copied / folder))


def test_the_answer_can_be_had_as_json(copied: Path, capsys: Capture) -> None:
    path = evaluation(copied, protocol="knn") / "evaluation.json"
    rewrite(path, lambda content: content["score"]["metrics"].update(auc=0.123))
    assert command(["verify", "--json", str(copied)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["same"] is False
    (wrong,) = [checked for checked in answer["checked"] if not checked["sound"]]
    (difference,) = wrong["differences"]
    assert (difference["file"], difference["field"]) == ("evaluation.json", "score.metrics.auc")
    assert difference["recorded"] == 0.123
    assert difference["recomputed"] != 0.123


@pytest.mark.parametrize("name", ["auc", "accuracy", "sensitivity", "brier", "ece", "mcc"])
def test_an_edited_score_is_named_with_what_it_should_be(copied: Path, name: str) -> None:
    folder = evaluation(copied)
    true = read_record(folder, EvaluationRecord).score.metrics[name]
    assert true is not None
    rewrite(folder / "evaluation.json", lambda content: content["score"]["metrics"].update({name: true + 1e-6}))
    verdicts = found(copied)
    (difference,) = verdicts[f"evaluations/{folder.parent.name}/{folder.name}"].differences
    assert difference.field == f"score.metrics.{name}"
    assert same(difference.recomputed, true)
    assert [verdict.name for verdict in verdicts.values() if not verdict.sound] == [
        f"evaluations/{folder.parent.name}/{folder.name}"
    ]
    assert verdicts["tables"].said == "not checked: an artifact is not sound"


def test_an_edited_threshold_changes_what_is_made_from_it(copied: Path) -> None:
    folder = evaluation(copied)
    rewrite(folder / "evaluation.json", lambda content: content["score"].update(threshold=-1.0))
    named = fields(only(folder))
    assert "evaluation.json score.metrics.accuracy" in named
    assert "evaluation.json score.metrics.auc" not in named


def test_an_edited_interval_is_named(copied: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["score"]["interval"][1] += 0.01

    folder = evaluation(copied, protocol="knn")
    rewrite(folder / "evaluation.json", change)
    assert fields(only(folder)) == {"evaluation.json score.interval.1"}


def test_an_edit_that_left_the_hash_is_a_fault_and_its_value_is_named(copied: Path, capsys: Capture) -> None:
    path = evaluation(copied) / "evaluation.json"
    content = json.loads(path.read_text())
    content["score"]["metrics"]["auc"] = 0.99
    path.write_text(json.dumps(content))
    other = evaluation(copied, "random") / "predictions.csv"
    other.write_text(other.read_text().replace(",1,", ",0,", 1))
    assert command(["verify", str(copied)]) == 1
    out = capsys.readouterr().out
    assert "evaluation.json was changed after it was written" in out
    assert "score.metrics.auc: recorded 0.99, recomputed" in out
    assert "predictions.csv, SHA-256: recorded" in out
    assert "tables: not checked: an artifact is not sound" in out


@pytest.mark.parametrize("cut", [40, *(pytest.param(cut, marks=pytest.mark.slow) for cut in (0, 300))])
def test_files_that_are_cut_short_are_findings(finished: Path, tmp_path: Path, cut: int) -> None:
    names = [path.relative_to(finished) for path in finished.rglob("*") if path.is_file()]
    assert len(names) > 15
    for name in names:
        run = Path(shutil.copytree(finished, tmp_path / "cut", dirs_exist_ok=True))
        (run / name).write_bytes((run / name).read_bytes()[:cut] + b"\xff\x00")
        verdicts = list(verify(run))
        assert [verdict.name for verdict in verdicts if not verdict.sound], name


def test_a_plan_that_is_damaged_is_a_finding_and_the_artifacts_are_checked(copied: Path) -> None:
    (copied / PLAN).write_text("{")
    verdicts = found(copied)
    assert not verdicts.pop(PLAN).sound
    assert [verdict.said for verdict in verdicts.values()] == ["same"] * 6 + ["not checked: an artifact is not sound"]


def test_a_case_left_out_and_a_case_held_twice_are_named(copied: Path) -> None:
    folder = evaluation(copied)
    repredict(folder, lambda table: table.drop(table.index[0]))
    named = fields(only(folder))
    assert {f"evaluation.json data.n_test, n_test_patients, outputs.{i}" for i in (0, 1)} <= named
    repredict(folder, lambda table: table.assign(case=table["case"].iloc[0]))
    assert any("holds case '0001' more than once" in fault for fault in only(folder).faults)


def test_a_patient_on_both_sides_is_a_leak(copied: Path) -> None:
    folder = evaluation(copied)
    repredict(folder, lambda table: table.assign(patient=["0003", *table["patient"][1:]]), "training.csv")
    assert any("share patient '0003': the test set leaks" in fault for fault in only(folder).faults)


@pytest.mark.parametrize(
    "change",
    [{"p_0": 2.0}, {"p_0": "many"}, {"label": 7}, {"label": "yes"}],
    ids=["above one", "text", "no such class", "text as label"],
)
def test_predictions_that_cannot_be_scored_are_named(copied: Path, change: dict[str, Any]) -> None:
    folder = evaluation(copied)
    repredict(folder, lambda table: table.assign(**change))
    assert any("cannot be scored" in fault for fault in only(folder).faults)


def test_another_recipe_makes_another_key_and_differs_from_the_plan(copied: Path) -> None:
    folder = encoder_folder(copied)
    rewrite(folder / "encoder.json", lambda content: content["recipe"]["pretrain"].update(epochs=99))
    named = fields(only(folder))
    assert "encoder.json key" in named
    assert any(name.startswith("plan.json encoders.") and name.endswith("pretrain.epochs") for name in named)
    folder = evaluation(copied)
    rewrite(folder / "evaluation.json", lambda content: content["recipe"].update(inner_folds=3))
    named = fields(only(folder))
    assert "evaluation.json key" in named
    assert any(name.startswith("plan.json evaluations.") and name.endswith("inner_folds") for name in named)


def test_an_artifact_in_the_folder_of_another_is_named(copied: Path) -> None:
    folder = evaluation(copied)
    other = folder.with_name("byol-tiny-s0-linear-0123456789")
    folder.rename(other)
    assert "evaluation.json name" in fields(only(other))


def test_another_number_of_positives_is_named(copied: Path) -> None:
    folder = evaluation(copied)
    rewrite(folder / "evaluation.json", lambda content: content.update(n_positive=99))
    assert fields(only(folder)) == {"evaluation.json n_positive"}


def test_a_link_to_another_encoder_is_named(copied: Path) -> None:
    folder = evaluation(copied)
    rewrite(folder / "evaluation.json", lambda content: content.update(encoder_sha256="ab"))
    assert fields(only(folder)) == {"evaluation.json encoder_sha256"}


def test_weights_that_were_changed_are_named(copied: Path) -> None:
    (encoder_folder(copied) / "encoder.safetensors").write_bytes(b"other weights")
    assert fields(only(encoder_folder(copied))) == {"encoder.safetensors SHA-256"}
    (encoder_folder(copied) / "encoder.safetensors").unlink()
    assert any("encoder.safetensors cannot be read" in fault for fault in only(encoder_folder(copied)).faults)


def test_an_encoder_that_is_gone_leaves_its_evaluations_sound_with_a_note(copied: Path) -> None:
    shutil.rmtree(encoder_folder(copied))
    verdict = only(evaluation(copied))
    assert verdict.sound
    assert verdict.notes[0].endswith("is not there, so the link to it is not checked")


def test_a_key_of_other_numerics_is_not_recomputed(copied: Path) -> None:
    folder = encoder_folder(copied)
    rewrite(folder / "encoder.json", lambda content: content["made_by"].update(numerics=0))
    (note,) = only(folder).notes
    assert note.startswith("its key is not recomputed: it was made by numerics version 0")


def features(run: Path, x: np.ndarray, **changes: Any) -> Path:
    """Write features of the run's encoder."""
    of = read_record(encoder_folder(run), EncoderRecord)
    key = sha256(x.tobytes())[:16]
    values = {"encoder": of.key, "encoder_sha256": WRITTEN, "data": "demo", "fingerprint": "f0", "volumes": len(x)}
    record = FeaturesRecord(
        key=key, name=f"simclr-{key[:10]}", made_by=of.made_by, **{**values, "widths": {"last": x.shape[1]}, **changes}
    )
    folder = RunFolder(run).folder_of(FeaturesRecord, record.name)
    write_record(folder, record, {FEATURES: pack_features([str(i) for i in range(len(x))], {"last": x})})
    return folder


def test_features_are_checked_for_their_encoder_their_size_and_their_bytes(copied: Path) -> None:
    x = np.zeros((5, 3), np.float32)
    folder = features(copied, x)
    assert found(copied)[f"features/{folder.name}"].said == "same"
    assert fields(only(features(copied, x, volumes=6))) == {"features.json volumes, widths.last.0"}
    assert fields(only(features(copied, x, encoder_sha256="ab"))) == {"features.json encoder_sha256"}
    folder = features(copied, x)
    (folder / FEATURES).write_bytes((folder / FEATURES).read_bytes()[:-10])
    assert fields(only(folder)) == {"features.npz SHA-256"}


@pytest.mark.parametrize("table", ["leaderboard.csv", "comparisons.csv", "evaluations.csv"])
def test_an_edited_table_is_named_by_its_row_and_column(copied: Path, table: str) -> None:
    path = copied / table
    rows = path.read_text().splitlines()
    column = rows[0].split(",").index({"comparisons.csv": "difference"}.get(table, "auc"))
    values = rows[1].split(",")
    values[column] = "0.123"
    path.write_text("\n".join([rows[0], ",".join(values), *rows[2:], ""]))
    (difference,) = found(copied)[table].differences
    assert difference.field.startswith("row 1 (")
    assert difference.field.endswith(rows[0].split(",")[column])
    assert difference.recorded == 0.123


def test_a_table_with_a_row_or_column_less_and_other_markdown_are_named(copied: Path) -> None:
    board, table, text = (copied / name for name in ("leaderboard.csv", "evaluations.csv", "leaderboard.md"))
    board.write_text("\n".join(board.read_text().splitlines()[:-1]))
    pd.read_csv(table).drop(columns="mcc").to_csv(table, index=False)
    text.write_text(text.read_text() + "ours is best")
    verdicts = found(copied)
    assert "has 2 rows, and the records give 3" in verdicts["leaderboard.csv"].faults[0]
    assert "has other columns" in verdicts["evaluations.csv"].faults[0]
    assert "is not what the records give" in verdicts["leaderboard.md"].faults[0]


def test_curves_that_no_record_gives_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(sound()))
    (run / "curves.csv").write_text("protocol\n")
    (fault,) = found(run)["curves.csv"].faults
    assert fault.endswith("curves.csv is there, and the records give no such table; delete it")


def test_failed_unfinished_and_absent_artifacts_are_reported_and_are_no_fault(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", results(sound(), sound("byol"), failed("moco", reason="no memory")))
    (evaluation(run) / "evaluation.json").unlink()
    shutil.rmtree(evaluation(run, "byol"))
    assert command(["verify", str(run)]) == 0
    out = capsys.readouterr().out
    assert ": not finished" in out
    assert ": not started" in out
    assert ": failed: no memory" in out


def test_several_tasks_kinds_are_scored_again(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    run = write_run(
        tmp_path / "run",
        results(sound(labels=labels, K=3, target=records.task("grade", 3, "ordinal"), n_positive=None)),
    )
    (folder,) = (path.parent for path in (run / "evaluations").glob("*/*/evaluation.json"))
    assert only(folder).sound
    assert len(LABELS) != len(labels)
    repredict(folder, lambda table: table.assign(p_0=table["p_1"], p_1=table["p_0"]))
    assert "evaluation.json score.metrics.quadratic_kappa" in fields(only(folder))
