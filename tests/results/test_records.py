"""Records: written last, read back unchanged, and never believed when a byte differs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssl3d.errors import RunError
from ssl3d.files import write_atomic
from ssl3d.recipe import CorpusPart, EncoderRecipe, PretrainRecipe, canonical
from ssl3d.results.folder import MODEL_CARD, WEIGHTS, RunFolder
from ssl3d.results.keys import encoder_key
from ssl3d.results.model import CorpusRecord, EncoderRecord, PlannedEvaluation, Price
from ssl3d.results.model_card import model_card
from ssl3d.results.predictions import parse_predictions, predictions_frame, probabilities_of, targets_of, to_csv
from ssl3d.results.provenance import made_by
from ssl3d.results.records import DamagedError, find_record, read_file, read_json, read_record, sound, write_record
from ssl3d.results.schema import KINDS, schema
from ssl3d.task import Task

RECIPE = EncoderRecipe(corpus=(CorpusPart(data="demo"),), pretrain=PretrainRecipe(epochs=2))


def record(name: str = "byol-tiny-s0-aaaaaaaaaa") -> EncoderRecord:
    return EncoderRecord(
        key="a" * 16,
        name=name,
        made_by=made_by({"method": "0f", "backbone": "1f"}),
        recipe=RECIPE,
        corpus=CorpusRecord(name="demo", synthetic=True, fingerprint="ab", volumes=7, excluded=1),
        exactness="exact",
        gradient_error=1.5e-13,
        price=Price(pretrain_seconds=0.1 + 0.2, flops=0.0),
    )


def written(tmp_path: Path) -> tuple[Path, EncoderRecord]:
    folder = tmp_path / record().name
    return folder, write_record(folder, record(), {WEIGHTS: b"weights", MODEL_CARD: "card"})


def test_a_record_is_read_back_unchanged_and_names_the_hashes_of_its_files(tmp_path: Path) -> None:
    folder, whole = written(tmp_path)
    assert read_record(folder, EncoderRecord) == whole
    assert set(whole.files) == {WEIGHTS, MODEL_CARD}
    assert read_file(folder, whole, WEIGHTS) == b"weights"
    assert sound(folder, whole)
    assert whole.price.flops == 0.0


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace('"volumes": 7', '"volumes": 8'))


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def older(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 0'))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (edited, "was changed after it was written"),
        (shortened, "is not valid JSON"),
        (older, "schema version 0"),
        (lambda path: path.write_text("[]"), "no JSON object"),
        (lambda path: path.write_text("[" * 100_000), "is not valid JSON"),
        (Path.unlink, "cannot be read"),
    ],
    ids=["edited", "shortened", "older", "a list", "nested", "absent"],
)
def test_a_damaged_record_is_one_sentence_and_never_found(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    folder, _ = written(tmp_path)
    damage(folder / "encoder.json")
    with pytest.raises(DamagedError, match=said) as raised:
        read_record(folder, EncoderRecord)
    assert "\n" not in str(raised.value)
    assert find_record(folder, EncoderRecord) is None


def test_a_changed_file_of_an_artifact_is_found(tmp_path: Path) -> None:
    folder, whole = written(tmp_path)
    (folder / WEIGHTS).write_bytes(b"weighty")
    assert not sound(folder, whole)
    with pytest.raises(DamagedError, match="its hash differs"):
        read_file(folder, whole, WEIGHTS)


def test_a_record_in_another_artifacts_folder_is_refused(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    folder.rename(tmp_path / "byol-tiny-s1-bbbbbbbbbb")
    with pytest.raises(DamagedError, match="folder of another artifact"):
        read_record(tmp_path / "byol-tiny-s1-bbbbbbbbbb", EncoderRecord)


def test_a_record_of_another_key_is_not_found(tmp_path: Path) -> None:
    folder, whole = written(tmp_path)
    assert find_record(folder, EncoderRecord, key=whole.key) == whole
    assert find_record(folder, EncoderRecord, key="b" * 16) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_record_holds_no_number_that_json_lacks(bad: float) -> None:
    with pytest.raises(ValidationError):
        Price(pretrain_seconds=bad)


@pytest.mark.parametrize("name", ["../outside", "/etc", "a/../../b"])
def test_a_plan_does_not_lead_out_of_the_run(name: str) -> None:
    with pytest.raises(ValidationError, match="leads out"):
        PlannedEvaluation.model_validate({"key": "ab", "name": name, "recipe": {}, "encoder": "cd"})


def test_links_among_the_artifacts_are_not_followed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.encoders.mkdir(parents=True)
    (run.encoders / "link").symlink_to(tmp_path)
    with pytest.raises(RunError, match="symbolic link"):
        run.folder_of(EncoderRecord, "link")


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="the disk is full; free some"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208  # hidden files, too


def test_every_schema_accepts_what_is_written(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    validator = jsonschema.Draft202012Validator(schema("encoder"))
    content = read_json(folder / "encoder.json")
    validator.validate(content)
    assert list(validator.iter_errors({**content, "exactness": "roughly"}))
    for kind in KINDS:
        jsonschema.Draft202012Validator.check_schema(schema(kind))


def test_a_model_card_says_what_the_encoder_saw() -> None:
    card = model_card(record())
    assert "Pretrained on 7 SYNTHETIC volumes of demo, without labels; 1 were left out" in card
    assert "1.5e-13" in card
    assert "as its weights were published" in model_card(record().model_copy(update={"corpus": None}))


def test_settings_are_shared_by_seeds_and_folds_and_by_nothing_else() -> None:
    one = record()
    other = one.model_copy(
        update={"recipe": RECIPE.model_copy(update={"seed": 3, "corpus": (CorpusPart(data="demo", folds=5, fold=2),)})}
    )
    folds = one.model_copy(update={"recipe": RECIPE.model_copy(update={"corpus": (CorpusPart(folds=5, fold=1),)})})
    assert other.settings == folds.settings
    assert one.settings != other.settings  # folds against the data set's own split
    edited_plugin = one.model_copy(update={"made_by": made_by({"method": "0e", "backbone": "1f"})})
    assert edited_plugin.settings != one.settings


def test_a_key_is_made_of_what_decides_the_encoder_and_nothing_else() -> None:
    given = {"corpus": "ab", "sources": {"method": "0f"}, "weights": None}
    key = encoder_key(RECIPE, **given)
    renamed = RECIPE.model_copy(update={"method": "path/to/byol.py:BYOL", "corpus": (CorpusPart(data="copy"),)})
    assert encoder_key(renamed, **given) == key
    for changed in (
        encoder_key(RECIPE.model_copy(update={"seed": 1}), **given),
        encoder_key(RECIPE, **{**given, "corpus": "ac"}),
        encoder_key(RECIPE, **{**given, "sources": {"method": "0e"}}),
        encoder_key(RECIPE, **{**given, "weights": "12"}),
        encoder_key(RECIPE.model_copy(update={"pretrain": PretrainRecipe(epochs=3)}), **given),
    ):
        assert changed != key
    assert canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'


@pytest.mark.parametrize("kind", ["binary", "multilabel", "regression"])
def test_predictions_come_back_to_the_bit(kind: str) -> None:
    rng = np.random.default_rng(0)
    tasks = {
        "binary": Task(name="t"),
        "multilabel": Task(name="t", kind="multilabel", classes=("x", "y")),
        "regression": Task(name="t", kind="regression", classes=(), unit="mm"),
    }
    targets = {
        "binary": np.array([0, 1, 1]),
        "multilabel": np.array([[0, 1], [1, 1], [0, 0]]),
        "regression": rng.normal(size=3),
    }
    p = rng.random((3, 1 if kind == "regression" else 2))
    table = predictions_frame(["NA", "0012", "c,d"], ["p", "p", "q"], targets[kind], p, tasks[kind])
    again = parse_predictions(to_csv(table).encode(), "here")
    assert again["case"].tolist() == ["NA", "0012", "c,d"]
    np.testing.assert_array_equal(probabilities_of(again), p)
    np.testing.assert_array_equal(targets_of(again), targets[kind])


FORMULAS = ["=1+1", "+1", "-12", "@SUM(A1)", "\tx", "\rx", "\nx", "'=1", "''-1", "\uff1d1", "=a,b"]
HARMLESS = ["'", "'a", "a=1", "", "0012", "a\r=1", "a\n=1"]


def written_cases(ids: list[str]) -> str:
    """CSV of predictions of cases with these ids."""
    p = np.full((len(ids), 2), -0.5)
    return to_csv(predictions_frame(ids, ids, np.zeros(len(ids), np.int64), p, Task(name="t")))


def test_no_text_of_a_csv_begins_like_a_formula_and_all_come_back() -> None:
    ids = FORMULAS + HARMLESS
    text = written_cases(ids)
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert [row[0] for row in rows] == [f"'{id}" for id in FORMULAS] + HARMLESS
    assert {row[3] for row in rows} == {"-0.5"}, "numbers stay numbers"
    table = parse_predictions(text.encode(), "here")
    assert table["case"].tolist() == table["patient"].tolist() == ids
    assert table["p_0"].tolist() == [-0.5] * len(ids)


@given(st.lists(st.text(st.sampled_from("'=+-@\t\r\n ab,\"\uff20"), max_size=5), min_size=1, max_size=4))
def test_every_id_comes_back_from_a_csv(ids: list[str]) -> None:
    assert parse_predictions(written_cases(ids).encode(), "here")["case"].tolist() == ids


def test_predictions_of_before_the_apostrophe_are_read_as_they_are() -> None:
    data = b"case,patient,label,p_0,p_1\n-12,=x,0,0.5,0.5\n"
    assert parse_predictions(data, "here")[["case", "patient"]].to_numpy().tolist() == [["-12", "=x"]]


@pytest.mark.parametrize("data", [b"", b"case,label\nx,1\n", b'case,"patient\n', b"\xff\xfe"])
def test_what_is_no_table_of_predictions_is_one_sentence(data: bytes) -> None:
    with pytest.raises(DamagedError, match="here"):
        parse_predictions(data, "here")


def test_a_record_is_plain_json(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    content = json.loads((folder / "encoder.json").read_text())
    assert content["recipe"]["pretrain"]["epochs"] == 2
    assert content["kind"] == "encoder"
