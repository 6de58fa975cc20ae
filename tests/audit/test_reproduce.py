"""Artifacts made again from their records: the same numbers, or what differs and what may explain it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl3d.audit.compare_artifacts import circumstances
from ssl3d.audit.plan_of_record import plan_of_record, settled
from ssl3d.audit.reproduce import reproduce
from ssl3d.audit.verify import verify
from ssl3d.cli import run as command
from ssl3d.engine import Engine
from ssl3d.errors import RunError
from ssl3d.recipe import PretrainRecipe
from ssl3d.results.model import EncoderRecord, EvaluationRecord
from ssl3d.results.read import read_plan
from ssl3d.results.records import read_record
from ssl3d.run.options import ONLY, Options
from tests.audit.test_verify import rewrite
from tests.records import encoder
from tests.runs import small_run, write_knees

Capture = pytest.CaptureFixture[str]
CPU = Options(device="cpu", cache=None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of simclr and the untrained encoder, with half of the labels, too, in two planes."""
    folder = tmp_path_factory.mktemp("reproduce")
    return small_run(
        write_knees(folder / "knees"),
        folder / "run",
        methods=("simclr", "random"),
        controls="none",
        data__plane=["sagittal", "axial"],
        evaluate__protocols=["linear"],
        evaluate__labels=[0.5, 1.0],
        evaluate__draws=2,
    ).folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("stores", "leases")))


def evaluations(run: Path, begins: str = "simclr") -> list[Path]:
    """Folders of the evaluations in the sagittal plane: with all labels, then with half of them."""
    found = [path.parent for path in (run / "evaluations").glob(f"*sagittal*/{begins}-*/evaluation.json")]
    return sorted(found, key=lambda path: read_record(path, EvaluationRecord).recipe.condition)


def test_a_run_of_real_artifacts_is_sound(finished: Path) -> None:
    verdicts = list(verify(finished))
    assert [verdict.name for verdict in verdicts if not verdict.sound or verdict.notes] == []
    assert len(verdicts) > 20
    assert {verdict.said for verdict in verdicts} == {"same"}


def test_artifacts_in_a_shared_cache_are_verified_and_reproduced(tmp_path: Path) -> None:
    knees, cache = write_knees(tmp_path / "knees"), tmp_path / "cache"
    options: dict[str, Any] = {"controls": "none", "cache": cache, "evaluate__protocols": ["linear"]}
    run = small_run(knees, tmp_path / "run", methods=("simclr",), **options).folder
    small_run(knees, tmp_path / "other", methods=("byol",), **options)
    verdicts = list(verify(run))
    assert {verdict.said for verdict in verdicts} == {"same"}
    assert not any("byol" in verdict.name for verdict in verdicts)  # which the other run needs
    (folder,) = (cache / "encoders").glob("simclr-*")
    assert next(verify(folder)).said == "same"
    found = reproduce(folder, Options(device="cpu", roots={ONLY: knees}, cache=None))
    assert found.same, found
    assert found.folder == tmp_path / f"reproduce-{folder.name}"


def test_an_evaluation_is_the_same_beside_its_run_and_is_not_made_twice(copied: Path, capsys: Capture) -> None:
    folder = evaluations(copied)[0]
    assert command(["reproduce", str(folder), "--device", "cpu", "--quiet"]) == 0
    out = copied.parent / f"reproduce-{folder.name}"
    lines = capsys.readouterr().out.splitlines()
    parts = ("encoder", "predictions", "training predictions", "scores")
    assert lines == [
        *(f"{folder.name}, {part}: same" for part in parts),
        f"{folder.name}: reproduced, made again in {out}",
    ]
    (made,) = out.glob("evaluations/*/*/evaluation.json")  # nothing but what was asked for
    (again,) = out.glob("encoders/*/encoder.json")
    assert (made.parent.name, again.parent.name) == (folder.name, encoder_folder_of(copied, folder).name)
    written = made.stat().st_mtime_ns, again.stat().st_mtime_ns
    assert command(["reproduce", str(folder), "--device", "cpu", "--quiet"]) == 0
    assert (made.stat().st_mtime_ns, again.stat().st_mtime_ns) == written


def encoder_folder_of(run: Path, folder: Path) -> Path:
    key = read_record(folder, EvaluationRecord).encoder
    return run / "encoders" / read_plan(run).encoders[key].name


def test_one_draw_of_a_part_of_the_labels_is_made_alone(copied: Path, tmp_path: Path) -> None:
    folder = evaluations(copied)[-1]
    assert read_record(folder, EvaluationRecord).recipe.condition == "labels=0.5 draw=1"
    found = reproduce(folder, Options(device="cpu", out=tmp_path / "again", cache=None))
    assert found.same, found
    assert len(list((tmp_path / "again").glob("evaluations/*/*/evaluation.json"))) == 1


def test_an_encoder_alone_is_the_same(copied: Path, tmp_path: Path) -> None:
    folder = encoder_folder_of(copied, evaluations(copied)[0])
    found = reproduce(folder, Options(device="cpu", out=tmp_path / "again", cache=None))
    assert [str(part) for part in found.parts] == ["encoder: same"]
    assert found.same
    assert not list((tmp_path / "again").glob("evaluations/*/*"))
    assert len(list((tmp_path / "again").glob("encoders/*/encoder.json"))) == 1


def test_an_encoder_that_was_not_trained_is_the_same(copied: Path, tmp_path: Path) -> None:
    found = reproduce(evaluations(copied, "random")[0], Options(device="cpu", out=tmp_path / "again", cache=None))
    assert found.same, found


def test_what_differs_is_reported_with_the_largest_difference_and_what_may_explain_it(
    copied: Path, capsys: Capture, tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["score"]["metrics"]["brier"] += 0.25
        content["made_by"]["versions"]["torch"] = "0.1"
        content["data"]["fingerprint"] = "f00d"

    folder = evaluations(copied, "random")[0]
    rewrite(folder / "evaluation.json", change)
    path = encoder_folder_of(copied, folder) / "encoder.json"
    rewrite(path, lambda content: content["price"].update(device="an abacus"))
    assert command(["reproduce", str(folder), "--device", "cpu", "--quiet", "--out", str(tmp_path / "again")]) == 1
    out = capsys.readouterr().out
    assert "encoder: same" in out
    assert "scores: different (largest difference 0.25, brier)" in out
    assert "torch was 0.1 and is " in out
    assert "fingerprint of the evaluated cases was f00d and is " in out
    assert ": not reproduced, made again in " in out


def test_the_files_are_found_by_the_plan_or_asked_for(copied: Path) -> None:
    assert [Path(root).name for root in read_plan(copied).roots.values()] == ["knees"]
    rewrite(copied / "plan.json", lambda content: content.update(roots={}))
    with pytest.raises(Exception, match="--root"):
        reproduce(evaluations(copied)[0], CPU)


def test_what_cannot_be_reproduced_is_refused(copied: Path, tmp_path: Path) -> None:
    folder = evaluations(copied)[0]
    with pytest.raises(RunError, match="is no complete encoder or evaluation"):
        reproduce(tmp_path, CPU)
    with pytest.raises(RunError, match="holds what is to be reproduced"):
        reproduce(folder, Options(out=copied, cache=None))
    path = encoder_folder_of(copied, folder) / "encoder.json"
    rewrite(path, lambda content: content.update(weights="kinetics400", weights_sha256="0123456789abcdef"))
    with pytest.raises(RunError, match=r"started from weights with the hash 0123456789, and .* give the file"):
        reproduce(folder, CPU)
    plugin = tmp_path / "mine.py"
    plugin.write_text("from ssl3d_plugins.methods.simclr import SimCLR\n\n\nclass Mine(SimCLR): ...\n")
    rewrite(path, lambda content: content["recipe"].update(method=f"{plugin}:Mine"))
    with pytest.raises(RunError, match=r"names code .*'Mine' of .*mine\.py' \(SHA-256 .*--allow-code"):
        reproduce(folder, CPU)
    with pytest.raises(RunError, match=r"mine\.py:Mine was changed since"):
        reproduce(folder, CPU, allow_code=True)
    path.unlink()
    with pytest.raises(RunError, match=r"encoder\.json cannot be read"):
        reproduce(folder, CPU)


def test_what_trials_decided_is_not_tried_again() -> None:
    auto = {"micro_batch": "auto", "precision": "auto", "channels_last": "auto", "compile": False}
    engine = Engine(micro_batch=4, keep=2, precision="bf16-mixed", channels_last=True)
    found = settled(encoder(recipe={"pretrain": PretrainRecipe.checked(auto, "")}, engine=engine)).pretrain
    assert found == PretrainRecipe(micro_batch=4, keep=2, precision="bf16-mixed", channels_last=True)


def test_a_recipe_that_left_nothing_open_stays_as_it_was() -> None:
    record = encoder(engine=Engine(micro_batch=64))
    assert settled(record) == record.recipe


def test_only_circumstances_that_changed_are_reported() -> None:
    record = encoder(engine=Engine(micro_batch=64))
    assert list(circumstances(record, record)) == []
    made_by = record.made_by.model_copy(update={"versions": {**record.made_by.versions, "pandas": "3"}})
    engine = Engine(micro_batch=8)
    other = record.model_copy(update={"made_by": made_by, "engine": engine})
    assert list(circumstances(record, other)) == ["pandas was absent and is 3", "micro_batch was 64 and is 8"]


def test_a_plan_of_a_record_leaves_out_what_its_run_tests_on(finished: Path) -> None:
    folder = evaluations(finished)[0]
    record = read_record(encoder_folder_of(finished, folder), EncoderRecord)
    run = read_plan(finished)
    roots = {name: Path(root) for name, root in run.roots.items()}
    whole = plan_of_record(record, read_record(folder, EvaluationRecord).recipe, run, roots)
    assert [(one.data, one.plane) for one in whole.evaluated] == [("mrnet", "sagittal"), ("mrnet", "axial")]
    alone = plan_of_record(record, None, None, roots)
    assert [(one.data, one.plane) for one in alone.evaluated] == [("mrnet", "sagittal")]
    assert alone.requests[0].evaluations == ()
    assert json.loads(whole.requests[0].recipe.canonical()) == json.loads(record.recipe.canonical())
