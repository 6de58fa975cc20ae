"""Tables of labels, and what is put in the place of files and folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.data.bad_files import (
    TABLE,
    Bad,
    Make,
    bomb,
    column,
    fifo,
    folder,
    link_to,
    nifti,
    npy,
    row,
    saved,
    sparse,
    table,
    unix_socket,
    unreadable,
    volume,
    zipped,
)  # fmt: skip
from tests.data.scans import GREY

LONG = "x" * 5000
ESCAPE = "\x1b[2J\x1b]0;owned\x07"
OUTSIDE = "SSL3D_FOLLOW_LINKS"


def _outside(path: Path) -> None:
    """Link to a volume beside the root."""
    np.save(path.parent.parent / "outside.npy", GREY)
    path.symlink_to("../outside.npy")


def _inside(path: Path) -> None:
    """Link to a volume in the root."""
    np.save(path.with_name("f.npy"), GREY)
    path.symlink_to("f.npy")


def _outside_folder(root: Path) -> None:
    """Reach a volume through a linked folder."""
    (root.parent / "other").mkdir()
    np.save(root.parent / "other" / "v.npy", GREY)
    (root / "linked").symlink_to("../other")
    row("linked/v.npy,0,train")(root)


def _closed(root: Path) -> None:
    root.chmod(0)


INSTEAD: list[tuple[str, Make, str]] = [
    ("FIFO", fifo, "FIFO"),
    ("socket", unix_socket, "socket"),
    ("folder", folder, "folder"),
    ("link to itself", link_to(""), "links"),
    ("link to nothing", link_to("nowhere.npy"), "absent"),
    ("link to a folder", link_to("."), "folder"),
    ("link to /dev/zero", link_to("/dev/zero"), "device"),
    ("link to /dev/null", link_to("/dev/null"), "device"),
    ("link to /dev/full", link_to("/dev/full"), "device"),
    ("link to a terminal", link_to("/dev/ptmx"), "device"),
    ("link outside the root", _outside, OUTSIDE),
    ("link to /etc/passwd", link_to("/etc/passwd"), OUTSIDE),
    ("link to memory", link_to("/proc/self/mem"), OUTSIDE),
]
PATHS: list[tuple[str, str]] = [
    *((path, "inside the root") for path in ("../c.npy", "x/../../c.npy", "/etc/c.npy", "//etc/c.npy", "C:\\c.npy")),
    *(
        (path, "inside the root")
        for path in ("..\\c.npy", "\\c.npy", "\\\\host\\c.npy", "sub/../c.npy", "..", "/", "C:c.npy")
    ),
    *((path, "convert") for path in (".", "labels.csv", "a.npy.bak", "a", "a.dcm", "a.npy.gz", "a.nii.bz2")),
    *(
        (path, "absent")
        for path in ("A.npy", "~/a.npy", "$HOME/a.npy", "*.npy", "a.npy/b.npy", " ?.npy", "e\u0301.npy")
    ),
    ("", "inside the root"),
    ("s" * 300 + ".npy", "too long"),
    ("s/" * 490 + "a.npy", "absent"),
    ("d.npy", "row 5"),
    ("./d.npy", "row 5"),
]
FIELDS: list[tuple[str, str, str]] = [
    ("path of 5,000 characters", f"{LONG}.npy,0,train", "5,004 characters"),
    ("label of 5,000 characters", f"a.npy,{LONG},train", "5,000 characters"),
    ("split of 5,000 characters", f"a.npy,0,{LONG}", "5,000 characters"),
    ("label of 5,000 digits", f"a.npy,{'9' * 5000},train", "5,000 characters"),
    ("field of 10 million characters", f"a.npy,{'y' * 10_000_000},train", "1,000,000 characters"),
    ("path with an escape sequence", f"{ESCAPE}.npy,0,train", "\\x1b"),
    ("split with an escape sequence", f"a.npy,0,{ESCAPE}", "\\x1b"),
    ("label with an escape sequence", f"a.npy,{ESCAPE},train", "\\x1b"),
    ("C1 control", "a.npy,\x9b31m,train", "\\x9b"),
    ("NUL", "a\0.npy,0,train", "\\x00"),
    ("backspace", "a.npy,0\b1,train", "\\x08"),
    ("delete", "a.npy,0\x7f,train", "\\x7f"),
    ("direction override", "a\u202eypn.npy,0,train", "\\u202e"),
    ("line separator", "a.npy,0,tra\u2028in", "\\u2028"),
    ("newline in quotes", '"a\nb.npy",0,train', "\\n"),
    ("carriage return in quotes", '"a\rb.npy",0,train', "\\r"),
    ("tab", "a.npy,0,tr\tain", "\\t"),
    ("no split", "e.npy,0", "2 fields"),
    ("a field too many", "e.npy,0,train,1", "4 fields"),
    ("nine thousand fields", "e.npy" + ",1" * 9000, "9001 fields"),
    ("unclosed quote", '"e.npy,0,train', "CSV"),
    ("text after a quote", '"e.npy"x,0,train', "CSV"),
    ("unknown split", "a.npy,0,trial", "'trial'"),
]
HEADERS: list[tuple[str, str]] = [
    ("x,y,split", "without a column 'path'"),
    ("path,x,X,split", "twice"),
    ("path,path,split", "twice"),
    ("path,x,split,Split", "twice"),
    ("path,x,,split", "no name"),
    (f"path,{LONG},split", "5,000 characters"),
    (f"{'x' * 900},split", "without a column 'path'"),
    (f"path,x{ESCAPE},split", "\\x1b"),
    ("path,x\0,split", "\\x00"),
    ("path,x:binary(a<\u202eb),split", "\\u202e"),
    ("path,x:ordinl,split", "'ordinal'"),
    ("path,x:ordinal(a<a),split", "different classes"),
    ("path,x:binary(a<b<c),split", "3 classes"),
    ("path,x:multilabel,split", "multilabel(TASK)"),
    ("path,x:(),split", "NAME:KIND"),
    ("path,:binary,split", "NAME:KIND"),
    ("path,x:a:b,split", "NAME:KIND"),
    ("path,path:binary,x", "twice"),
    ("path,split:binary,x", "cannot be a label"),
    ("path," + ",".join(f"c{i}" for i in range(1_000_000)), "1,000,000 characters"),
    ("path," + "x," * 1_000_000 + "split", "1,000,000 characters"),
    ("path," + "x," * 20_000 + "split", "20,002 columns"),
]
VALUES: list[tuple[str, str, list[str], str]] = [
    ("class index 10^9", "x", ["0", "1000000000", "0", "1"], "1000000000"),
    ("class index 10^30", "x", ["0", "1" + "0" * 30, "0", "1"], "x:multiclass"),
    ("class index 1e308", "x", ["0", "1e308", "0", "1"], "x:multiclass"),
    ("true for 1", "x", ["0", "true", "0", "1"], "'true'"),
    ("true among numbers of a multi-label task", "x:multilabel(f)", ["0", "true", "0", "1"], "'true'"),
    ("true in a regression", "x:regression", ["0", "true", "0", "1"], "'true'"),
    ("all unknown", "x", ["nan", "NaN", "NA", ""], "no values"),
    ("1e400", "x", ["0", "1e400", "0", "1"], "'1e400'"),
    ("1e400 in a regression", "x:regression", ["0", "1e400", "0", "1"], "'1e400'"),
    ("-inf in a regression", "x:regression", ["0", "-inf", "0", "1"], "'-inf'"),
    ("decimal comma", "x:regression", ["0", '"2,5"', "0", "1"], "'2,5'"),
    ("900 digits", "x", ["9" * 900] * 3 + ["8" * 900], "declare"),
    ("900 digits among classes", "x", ["0", "9" * 900, "0", "1"], "not a class"),
    ("900 digits in a regression", "x:regression", ["0", "9" * 900, "0", "1"], "not a number"),
    ("superscript", "x", ["0", "\u00b2", "0", "1"], "not a class"),
    ("other digits", "x", ["0", "\u0661", "0", "1"], "not a class"),
    ("hexadecimal", "x", ["0", "0x1", "0", "1"], "'0x1'"),
    ("underscore", "x", ["0", "1_0", "0", "1"], "'1_0'"),
    ("negative", "x", ["0", "-1", "0", "1"], "'-1'"),
    ("half", "x", ["0", "0.5", "0", "1"], "regression"),
    ("only fractions", "x", ["0.1", "0.2", "0.3", "0.4"], "regression"),
    ("only negative", "x", ["-1", "-2", "-1", "-2"], "not classes"),
    ("years", "x", ["2019", "2020", "2019", "2020"], "a date"),
    ("one class", "x", ["3", "3", "3", "3"], "two classes"),
    ("one word", "x", ["yes", "yes", "yes", "yes"], "two classes"),
    ("three of two classes", "x:binary", ["0", "1", "2", "0"], "3 classes"),
    ("not of the named classes", "x:ordinal(mild<severe)", ["mild", "Severe", "mild", "severe"], "'Severe'"),
    ("words without an order", "x:ordinal", ["mild", "severe", "mild", "severe"], "order"),
    ("2 in a multi-label task", "x:multilabel(f)", ["0", "2", "0", "1"], "'2'"),
]
CONTENTS: list[tuple[str, bytes | str | Make, str]] = [
    ("no bytes", b"", "empty"),
    ("blank lines", b"\n\n \n,,,\n", "empty"),
    ("byte order mark alone", b"\xef\xbb\xbf", "empty"),
    ("only a header", "path,x,split\n", "no volumes"),
    ("no header", "a.npy,0,train\nb.npy,1,test\n", "without a column 'path'"),
    ("UTF-16", TABLE.encode("utf-16"), "UTF-8"),
    ("UTF-16 without a mark", TABLE.encode("utf-16-le"), "\\x00"),
    ("UTF-16, big end first, without a mark", TABLE.encode("utf-16-be"), "\\x00"),
    ("UTF-32", TABLE.encode("utf-32"), "UTF-8"),
    ("Latin-1", TABLE.replace("a.npy", "\u00e4.npy").encode("latin-1"), "UTF-8"),
    ("name that is not UTF-8", TABLE.encode().replace(b"a.npy", b"\xff\xfe.npy"), "UTF-8"),
    ("surrogates", TABLE.encode().replace(b"a.npy", b"\xed\xb3\xbf.npy"), "UTF-8"),
    ("NULs", bytes(500), "\\x00"),
    ("random bytes", np.random.default_rng(0).bytes(4000), "UTF-8"),
    ("gzip", zipped(TABLE.encode()), "UTF-8"),
    ("zip bomb", bomb(TABLE.encode(), 1024), "UTF-8"),
    ("workbook", b"PK\x03\x04\x14\x00\x06\x00" + bytes(range(256)) * 8, "UTF-8"),
    ("JSON", '{"path": ["a.npy"], "split": ["train"]}', "without a column 'path'"),
    ("HTML", "<html><body><table>\n<tr><td>path</td></tr>\n</table></body></html>", "without a column 'path'"),
    ("of 8 GiB", sparse(2**33, TABLE.encode()), "64 MB"),
    ("lines that end in CR alone", TABLE.replace("\n", "\r") + '"', "CSV"),
]
ARGUMENTS: list[tuple[str, tuple[str, ...], str, int]] = [
    ("a million folds", ("--data", "folder", "--root", "{root}", "--folds", "1000000"), "too few for 1000000 folds", 1),
    ("10^30 folds", ("--data", "folder", "--root", "{root}", "--folds", "1" + "0" * 30), "too few", 1),
    ("one fold", ("--data", "folder", "--root", "{root}", "--folds", "1"), "--folds", 2),
    ("minus one folds", ("--data", "folder", "--root", "{root}", "--folds", "-1"), "--folds", 2),
    ("folds nan", ("--data", "folder", "--root", "{root}", "--folds", "nan"), "--folds", 2),
    ("no root", ("--data", "folder"), "--root", 2),
    ("empty root", ("--data", "folder", "--root", ""), "an empty name is no file or folder", 2),
    ("absent root", ("--data", "folder", "--root", "{root}/no"), "not a folder", 1),
    ("root that is a file", ("--data", "folder", "--root", "{root}/a.npy"), "not a folder", 1),
    ("root that is a device", ("--data", "folder", "--root", "/dev/null"), "not a folder", 1),
    ("root of 5,000 characters", ("--data", "folder", "--root", "r" * 5000), "cannot be opened", 2),
    ("root with an escape sequence", ("--data", "folder", "--root", f"{ESCAPE}"), "\\x1b", 1),
    ("root that is not UTF-8", ("--data", "folder", "--root", os.fsdecode(b"r\xff")), "\\udcff", 2),
    ("plane of a folder", ("--data", "folder", "--root", "{root}", "--plane", "axial"), "no plane", 2),
    ("unknown data set", ("--data", "foldr", "--root", "{root}"), "folder", 2),
    ("table above the root", ("--data", "folder:../labels.csv", "--root", "{root}"), "outside", 2),
    ("table elsewhere", ("--data", "folder:/etc/passwd", "--root", "{root}"), "outside", 2),
    ("table that is absent", ("--data", "folder:none.csv", "--root", "{root}"), "absent", 1),
    ("table that is a volume", ("--data", "folder:a.npy", "--root", "{root}"), "UTF-8", 1),
    ("table of 5,000 characters", ("--data", f"folder:{LONG}", "--root", "{root}"), "too long", 1),
    ("table with an escape sequence", ("--data", f"folder:{ESCAPE}", "--root", "{root}"), "\\x1b", 2),
    ("table with NUL", ("--data", "folder:a\0b", "--root", "{root}"), "\\x00", 2),
    ("table that is not UTF-8", ("--data", os.fsdecode(b"folder:\xff"), "--root", "{root}"), "\\udcff", 2),
]


def _nothing(root: Path) -> None:
    """Leave the root as it is."""


SOUND: dict[str, Make] = {
    "nothing added": _nothing,
    "NIfTI": volume("e.nii.gz", zipped(nifti())),
    "NIfTI 2, big-endian": volume("e.nii", nifti(GREY.astype(">i2").tobytes("F"), two=True, order=">")),
    "NIfTI with a slope of NaN": volume("e.nii", nifti(scl_slope=float("nan"), scl_inter=float("nan"))),
    "NIfTI with a slope of 0": volume("e.nii", nifti(scl_slope=0)),
    "NIfTI with a negative spacing and unknown codes": volume("e.nii", nifti(pixdim_1=-2, qform_code=99, xyzt_units=7)),
    "NIfTI with another number of bits": volume("e.nii", nifti(bitpix=7)),
    "NIfTI with padding after its voxels": volume("e.nii", nifti() + bytes(1000)),
    "gzip under the ending of a plain file": volume("e.nii", zipped(nifti())),
    "plain file under the ending of gzip": volume("e.nii.gz", nifti()),
    "NIfTI of numbers near the largest": volume(
        "e.nii", nifti((GREY * 1.7e305).astype("<f8").tobytes("F"), datatype=64, scl_slope=-1)
    ),
    "npy in Fortran order": volume("e.npy", saved(np.asfortranarray(GREY))),
    "npy, big-endian": volume("e.npy", saved(GREY.astype(">f4"))),
    "npy with a header of version 3": volume("e.npy", npy(version=(3, 0))),
    "npy of numbers near the largest": volume("e.npy", saved((GREY - 500.0) * 3.4e305)),
    "npy of extended precision": volume("e.npy", saved(GREY.astype(np.longdouble))),
    "npy of truth values": volume("e.npy", saved(GREY > 500)),
    "byte order mark": table("\ufeff" + TABLE),
    "link inside the root": volume("e.npy", _inside),
    "names in other scripts": volume("\u819d\u00e9 \u00a0\U0001f9b4.npy", saved(GREY)),
    "classes that are superscripts": column("x", ["\u00b2", "\u00b3", "\u00b2", "\u00b3"]),
}

TABLES = [
    *(Bad(f"volume: {name}", volume("e.npy", make), (word, "labels.csv row 6")) for name, make, word in INSTEAD),
    *(Bad(f"NIfTI: {name}", volume("e.nii.gz", make), (word, "row 6")) for name, make, word in INSTEAD[::2]),
    *(Bad(f"table: {name}", table(make), (word, "labels.csv")) for name, make, word in INSTEAD),
    *(Bad(f"path {path[:20]!r}", row(f"{path},0,train"), (word, "row 6")) for path, word in PATHS),
    *(Bad(f"field: {name}", row(text), (word, "labels.csv")) for name, text, word in FIELDS),
    *(Bad(f"header {text[:30]!r}", table(f"{text}\na.npy,0,train\n"), (word, "row 1")) for text, word in HEADERS),
    *(Bad(f"label: {name}", column(head, values), (word, "labels.csv row")) for name, head, values, word in VALUES),
    *(Bad(f"table: {name}", table(content), (word, "labels.csv")) for name, content, word in CONTENTS),
    *(Bad(f"argument: {name}", _nothing, (word,), code, given) for name, given, word, code in ARGUMENTS),
    Bad("volume in a linked folder", _outside_folder, (OUTSIDE, "row 6")),
    Bad("volume that may not be read", volume("e.npy", unreadable), ("Permission",), nobody=True),
    Bad("table that may not be read", table(unreadable), ("Permission",), nobody=True),
    Bad("root that may not be read", _closed, ("Permission",), nobody=True),
]  # fmt: skip
