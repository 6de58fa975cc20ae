"""Which files are opened, what large ones need, and how text from files is shown."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from ssl3d.data.check import check
from ssl3d.data.reading.csv_table import Row
from ssl3d.data.reading.files import LARGEST, LARGEST_SETTING, LINKS_SETTING
from ssl3d.data.reading.header import parse_header
from ssl3d.data.reading.labels import read_labels
from ssl3d.data.sets.folder import Folder
from ssl3d.errors import DataError, UserError, hidden, printable, quoted, shortened
from tests.data.scans import GREY, rows, save_nifti


def test_a_setting_allows_links_that_lead_outside_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(root.parent / "elsewhere.npy", GREY)
    (root / "d.npy").symlink_to("../elsewhere.npy")
    rows("path,x,split\na.nii.gz,0,train\nd.npy,1,train\n")(root)
    with pytest.raises(DataError, match=rf"d\.npy.*outside the root.*{LINKS_SETTING}=1"):
        Folder(root).cases()
    monkeypatch.setenv(LINKS_SETTING, "1")
    data = Folder(root)
    assert data.read(data.cases()[1]).voxels.shape == (1, 5, 9, 14)


def test_a_root_that_is_a_link_is_a_root(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert len(Folder(link).cases()) == 3


def test_a_setting_bounds_the_voxels_of_a_volume(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows("path,x,split\na.nii.gz,0,train\nb.nii,0,test\nc.npy,1,train\n")(root)
    monkeypatch.setenv(LARGEST_SETTING, str(GREY.size))
    assert not check(Folder(root)).faults
    monkeypatch.setenv(LARGEST_SETTING, str(GREY.size - 1))
    faults = check(Folder(root)).faults
    assert len(faults) == 3
    assert all(
        f"more than {GREY.size - 1:,} voxels" in fault and f"{LARGEST_SETTING}=VOXELS" in fault for fault in faults
    )


@pytest.mark.parametrize("text", ["", "many", "-1", "1e9", "9" * 30, "\u00b2"])
def test_a_setting_that_is_no_number_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(LARGEST_SETTING, text)
    with pytest.raises(DataError, match=rf"{LARGEST_SETTING} is not a number of voxels; .*={LARGEST}"):
        Folder(root).read(Folder(root).cases()[2])


def test_a_bit_that_changed_in_a_compressed_volume_is_found(root: Path) -> None:
    path = root / "a.nii.gz"
    save_nifti(path, GREY)
    sound = path.read_bytes()
    found = 0
    places = range(12, len(sound), 37)
    for place in places:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(DataError, match=r"a\.nii\.gz \(labels\.csv row 2\)"):
            Folder(root).read(Folder(root).cases()[0])
        found += 1
    assert found == len(places) > 20


@pytest.mark.parametrize(
    "values", [[str(i % 7) for i in range(100_000)], [f"n{i}" for i in range(100_000)]], ids=["classes", "names"]
)
def test_labels_are_read_in_linear_time(values: list[str]) -> None:
    header = parse_header("labels.csv", Row(1, ("path", "x")))
    start = time.perf_counter()
    labels = read_labels(header.labels, [("a.npy", value) for value in values], "labels.csv row 1")
    assert time.perf_counter() - start < 5
    assert bool(labels.faults) == (len(set(values)) > 7)


def test_no_message_steers_a_terminal() -> None:
    assert str(UserError("a\x1b[2Jb\x9b\u202e\ud800")) == r"a\x1b[2Jb\x9b\u202e\ud800"
    assert str(UserError("two\nlines")) == "two\nlines"
    assert printable("a\nb\tc\\d \u00a0\u819d\U0001f9b4") == "a\\nb\\tc\\d \u00a0\u819d\U0001f9b4"
    assert [hidden("knee \u00a0\u00e9"), hidden("a\u2028"), hidden("\ufeff")] == [None, "\u2028", "\ufeff"]


def test_long_text_is_cut_in_messages() -> None:
    assert quoted("it's") == '"it\'s"'
    assert quoted("x" * 5000) == f"'{'x' * 80}'... (5,000 characters)"
    assert shortened("x" * 5000, 3) == "xxx... (5,000 characters)"
    assert shortened("a\x1bb") == r"a\x1bb"
