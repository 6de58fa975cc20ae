"""Files of MRNet's layout that are damaged, hostile, or something else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

from ssl3d.data.sets.demo import write_demo
from tests.data.bad_files import Bad, Make, fifo, folder, link_to, npy, saved, sparse, unix_socket

FIRST, SECOND, TABLE = "train/sagittal/0000.npy", "train/sagittal/0001.npy", "train-acl.csv"
KNEES = ("--data", "mrnet", "--root", "{root}")


def _knees(path: str, make: Make | bytes) -> Make:
    """Replace the root by generated knees with one file changed."""

    def spoil(root: Path) -> None:
        shutil.rmtree(root)
        write_demo(root, size=18, cases=(3, 3), slices=(4, 5))
        (root / path).unlink()
        if isinstance(make, bytes):
            (root / path).write_bytes(make)
        else:
            make(root / path)

    return spoil


def _row(change: tuple[str, str]) -> Make:
    """Change the table of one task by a regular expression."""

    def spoil(root: Path) -> None:
        _knees(TABLE, b"")(root)
        text = (root / "train-meniscus.csv").read_text()
        (root / TABLE).write_text(re.sub(*change, text, count=1), encoding="utf-8")

    return spoil


VOLUMES: list[tuple[str, Make | bytes, str]] = [
    ("FIFO", fifo, "FIFO"),
    ("socket", unix_socket, "socket"),
    ("folder", folder, "folder"),
    ("device", link_to("/dev/zero"), "device"),
    ("link to itself", link_to(""), "links"),
    ("no bytes", b"", "plain .npy"),
    ("rank", saved(np.zeros((4, 4), np.uint8)), "shape"),
    ("floats", saved(np.random.default_rng(0).random((3, 18, 18))), "uint8"),
    ("overflow", npy(descr="'|u1'", shape=f"({2**40}, {2**40}, 18)"), "SSL3D_LARGEST_VOLUME"),
    ("giant", sparse(2**31, npy(descr="'|u1'", shape="(4096, 512, 512)")), "SSL3D_LARGEST_VOLUME"),
]
TABLES: list[tuple[str, Make | bytes, str]] = [
    ("FIFO", fifo, "FIFO"),
    ("folder", folder, "folder"),
    ("device", link_to("/dev/zero"), "device"),
    ("link to itself", link_to(""), "links"),
    ("not UTF-8", b"\xff\xfe0\x000", "UTF-8"),
    ("NULs", bytes(400), "\\x00"),
    ("of 8 GiB", sparse(2**33, b"0000,1\n"), "64 MB"),
]
ROWS: list[tuple[tuple[str, str], str]] = [
    (("0001,.", "0001,true"), "'true'"),
    (("0001,.", "0001,1000000000"), "'1000000000'"),
    (("0001,.", "0001,\x1b[2J"), "\\\\x1b"),
    (("0001,.", "0001," + "x" * 5000), "5,000 characters"),
    (("0001,.", "0001,1" + ",1" * 300), "302 fields"),
]

MRNET = [
    *(Bad(f"mrnet volume: {name}", _knees(path, make), (word, path), arguments=KNEES)
      for name, make, word in VOLUMES for path in (FIRST, SECOND)),
    *(Bad(f"mrnet table: {name}", _knees(TABLE, make), (word, TABLE), arguments=KNEES) for name, make, word in TABLES),
    *(Bad(f"mrnet row: {change[1][:20]!r}", _row(change), (word.replace("\\\\", "\\"), TABLE), arguments=KNEES)
      for change, word in ROWS),
]  # fmt: skip
