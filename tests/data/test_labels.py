"""Columns of a table as tasks and targets."""

from __future__ import annotations

import pytest

from ssl3d.data.reading.csv_table import Row
from ssl3d.data.reading.header import parse_header
from ssl3d.data.reading.labels import Labels, read_labels
from ssl3d.errors import DataError
from ssl3d.task import Target, Task


def read(header: str, *rows: str) -> Labels:
    """Read a table of labels alone; fields are separated by spaces."""
    parsed = parse_header("labels.csv", Row(1, ("path", *header.split())))
    return read_labels(parsed.labels, [("x.nii", *row.split(" ")) for row in rows], "labels.csv row 1")


def column(header: str, *values: str) -> Labels:
    return read(header, *values)


SOUND: dict[str, tuple[str, tuple[str, ...], Task, list[Target | None]]] = {
    "numbers": ("x", ("0", "1", ""), Task(name="x"), [0, 1, None]),
    "one of two": ("x", ("1", "1"), Task(name="x"), [1, 1]),
    "numeric order": (
        "x",
        ("10", "2", "1", "2"),
        Task(name="x", kind="multiclass", classes=("1", "2", "10")),
        [2, 1, 0, 1],
    ),
    "as pandas writes them": ("x", ("1.0", "0.0", "nan"), Task(name="x"), [1, 0, None]),
    "words": ("x", ("torn", "intact", "NA"), Task(name="x", classes=("intact", "torn")), [1, 0, None]),
    "three words": ("x", ("c", "a", "b"), Task(name="x", kind="multiclass", classes=("a", "b", "c")), [2, 0, 1]),
    "named order": (
        "x:binary(normal<abnormal)",
        ("abnormal", "normal", "N/A"),
        Task(name="x", classes=("normal", "abnormal")),
        [1, 0, None],
    ),
    "ordinal words": (
        "g:ordinal(mild<moderate<severe)",
        ("severe", "mild", "null"),
        Task(name="g", kind="ordinal", classes=("mild", "moderate", "severe")),
        [2, 0, None],
    ),
    "ordinal numbers": (
        "g:ordinal",
        ("3", "1", "2"),
        Task(name="g", kind="ordinal", classes=("1", "2", "3")),
        [2, 0, 1],
    ),
    "numbers named": ("x:binary(0<2)", ("2.0", "0"), Task(name="x", classes=("0", "2")), [1, 0]),
    "declared negative": ("x:binary", ("-1", "1"), Task(name="x", classes=("-1", "1")), [0, 1]),
    "regression": (
        "v:regression(mm3)",
        ("2.5", "3", "", "-1e2"),
        Task(name="v", kind="regression", classes=(), unit="mm3"),
        [2.5, 3.0, None, -100.0],
    ),
    "many by name": (
        "x:multiclass",
        tuple(str(i) for i in range(12)),
        Task(name="x", kind="multiclass", classes=tuple(str(i) for i in range(12))),
        list(range(12)),
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_a_column_becomes_a_task(case: str) -> None:
    header, values, task, targets = SOUND[case]
    labels = column(header, *values)
    assert (labels.faults, labels.row_faults) == ([], [])
    assert labels.tasks == [task]
    assert [found.get(task.name) for found in labels.targets] == targets
    types = {float if task.kind == "regression" else int}
    assert {type(target) for found in labels.targets for target in found.values()} <= types


def test_columns_of_a_multilabel_task_are_one_target() -> None:
    labels = read("a:multilabel(finding) tear b:multilabel(finding)", "0 1 1", "1 0 1", "NA 1 NA", "1 0 0.0")
    assert labels.tasks == [Task(name="finding", kind="multilabel", classes=("a", "b")), Task(name="tear")]
    assert [found.get("finding") for found in labels.targets] == [(0, 1), (1, 1), None, (1, 0)]
    assert [found["tear"] for found in labels.targets] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("header", "values", "row", "words"),
    [
        (
            "lesion",
            ("0", "1", "1", "maybe"),
            3,
            "'maybe' is not a class of 'lesion' (0, 1); correct it or leave it empty",
        ),
        ("lesion", ("0", "1", "-1"), 2, "'-1' is not a class of 'lesion' (0, 1)"),
        ("lesion", ("0", "1", "0.5"), 2, "declare the column as lesion:regression"),
        ("lesion", ("0", "1", "²"), 2, "'²' is not a class"),
        ("lesion", ("no", "yes", "no", "1"), 3, "'1' is not a class of 'lesion' (no, yes)"),
        ("g:ordinal(mild<severe)", ("mild", "Severe"), 1, "'Severe' is not a class of 'g' (mild, severe); correct it"),
        ("v:regression", ("1.5", "2,5"), 1, "'2,5' is not a number for 'v'; correct it (2.5, not 2,5)"),
        ("v:regression", ("1.5", "inf"), 1, "'inf' is not a number"),
    ],
)
def test_a_field_that_is_not_a_class_is_a_fault_of_its_row(
    header: str, values: tuple[str, ...], row: int, words: str
) -> None:
    ((found, sentence),) = column(header, *values).row_faults
    assert found == row
    assert words in sentence


@pytest.mark.parametrize("row", ["1 NA", "1 2", "1 x"])
def test_labels_of_one_task_are_given_together(row: str) -> None:
    ((found, sentence),) = read("a:multilabel(f) b:multilabel(f)", "0 1", row).row_faults
    assert found == 1
    assert "the labels of 'f' are a = '1', b = " in sentence


@pytest.mark.parametrize(
    ("header", "values", "words"),
    [
        ("x", tuple(str(20 + i) for i in range(60)), "60 different values (20, 21, 22, ...) in 60 rows, like an age"),
        ("x", tuple(str(500 + i) for i in range(60)), "like an identifier; declare it as x:regression"),
        ("x", ("0", "1000000000"), "x:multiclass"),
        ("x", ("2019", "2020", "2019"), "like a measurement, a date or an identifier"),
        ("x", tuple(f"name{i}" for i in range(40)), "like a name or free text"),
        ("x", ("", ""), "the column 'x' has no values"),
        ("x", ("3", "3"), "every value of 'x' is '3'"),
        ("x", ("yes", "yes"), "every value of 'x' is 'yes'"),
        ("x", ("0.5", "0.25"), "numbers that are not classes (0.25, 0.5); declare it as x:regression"),
        ("x:binary", ("0", "1", "2"), "declared as binary and has 3 classes (0, 1, 2)"),
        ("x:binary(1<1.0)", ("1",), "names a class of 'x' twice (1, 1)"),
        ("x:ordinal", ("mild", "severe"), "name it, as in x:ordinal(mild<severe)"),
    ],
)
def test_a_column_that_cannot_be_a_task_is_a_fault_that_says_what_to_do(
    header: str, values: tuple[str, ...], words: str
) -> None:
    labels = column(header, *values)
    (fault,) = labels.faults
    assert str(fault).startswith("labels.csv row 1: ")
    assert words in str(fault)


def test_eleven_organs_in_a_large_table_are_classes() -> None:
    assert column("organ", *[str(i % 11) for i in range(100)]).tasks[0].outputs == 11


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("x:ordinl", "kind 'ordinl', which is unknown; did you mean 'ordinal'"),
        ("x:ordinal(a)", "two or more different classes"),
        ("x:ordinal(a<a)", "two or more different classes"),
        ("x:ordinal(a<)", "two or more different classes"),
        ("x:binary(a<b<c)", "names 3 classes, and a binary task has two"),
        ("x:multilabel", "write x:multilabel(TASK)"),
        ("x:ordinal(a<b", "write NAME, NAME:KIND"),
        (":binary", "write NAME, NAME:KIND"),
        ("split:binary", "'split' cannot be a label"),
        ("f a:multilabel(f)", "both a label and a multi-label task"),
        ("x X", "names the column 'x' twice"),
    ],
)
def test_a_wrong_header_is_refused(header: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(header)
    assert str(caught.value).startswith("labels.csv row 1: ")
    assert words in str(caught.value)
