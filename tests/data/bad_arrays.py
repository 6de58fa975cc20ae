"""Files of .npy and .npz that are damaged, hostile, or something else."""

from __future__ import annotations

import pickle
import struct
from operator import itemgetter

import numpy as np

from tests.data.bad_files import (
    MIB,
    Bad,
    every,
    fifo,
    folder,
    link_to,
    npy,
    npz,
    saved,
    sparse,
    unix_socket,
    volume,
    zipped,
)
from tests.data.scans import GREY

SOUND = npy()
SHAPES = [
    *(
        ("SSL3D_LARGEST_VOLUME", text)
        for text in (f"({2**62}, 4, 4)", "(4294967296, 4294967296, 1)", "(99999999999999999999, 1, 1)")
    ),
    *(("shape", text) for text in ("(-5, 9, 14)", "(-5, -9, 14)", "(-1, -1, 630)", "(5, 9, -9223372036854775808)")),
    *(("shape", text) for text in ("(630,)", "(45, 14)", "(5, 9, 7, 2)", "(1, 1, 1, 1, 630)")),
    *(("damaged", text) for text in ("()", "(0, 9, 14)")),
    *(("plain .npy", text) for text in ("5", "'5'", "[5, 9, 14]", "(5.0, 9, 14)", "('5', 9, 14)", "None")),
    ("truncated", "(5, 9, 15)"),
    ("truncated", "(800, 800, 800)"),
    ("damaged", "(5, 9, 13)"),
    ("plain .npy", "(" + "1, " * 4000 + ")"),
    ("shape", "(" + "1, " * 40 + "630)"),
]
TYPES = [
    ("pickled", "'|O'"),
    *(
        ("real numbers", text)
        for text in ("'<c8'", "'<c16'", "'<U5'", "'|S2'", "'|V2'", "'<M8[s]'", "'<m8[s]'", "'<U0'")
    ),
    *(("real numbers", text) for text in ("[('a', '<i2')]", "[('a', '<i1'), ('b', '<i1')]", "[]", "'<i2,'")),
    *(("plain .npy", text) for text in ("'<q9'", "'float1000'", "7", "None", "('<i2', (1,))")),
    ("damaged", "'\\x00'"),
    ("truncated", "'<i4'"),
    ("truncated", "'>f8'"),
]
HEADERS = [
    "", "{", "[]", "1", "{}", "(" * 3000, "{'descr': '<i2'}", "x" * 9000, "lambda: 0", "__import__('os')", "'" * 3,
    "\t\n  {", "{'descr': '<i2', 'fortran_order': False, 'shape': (5, 9, 14), 'more': 1}", "{'descr': b'\\xff'}",
    "{'descr': '<i2', 'fortran_order': 7, 'shape': (5, 9, 14)}", "{1: 2, 'a': 3}", "-" * 5000 + "1",
]  # fmt: skip
CONTENTS: list[tuple[str, bytes, str]] = [
    *((f"cut at {at}", SOUND[:at], "plain .npy") for at in (0, 1, 5, 6, 7, 9, 11, 30)),
    *((f"cut at {at}", SOUND[:at], "truncated") for at in (-900, -1)),
    *((f"version {v}", npy(version=v), "plain .npy") for v in ((0, 0), (4, 0), (255, 255))),
    ("header beyond the file", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(100), "plain .npy"),
    ("header of 20 MB", npy("{" + " " * 20_000_000, version=(2, 0)), "plain .npy"),
    ("header that is not text", npy(b"\xff\xfe\xfd" * 20, version=(3, 0)), "plain .npy"),
    ("longer than its header says", SOUND + bytes(7), "damaged"),
    ("pickle", pickle.dumps(GREY), "plain .npy"),
    ("pickle of a call", b"cos\nsystem\n(S'touch pwned'\ntR.", "plain .npy"),
    ("object array", saved(np.array([[[None]]], object)), "pickled"),
    ("text", b"1 2 3\n4 5 6\n", "plain .npy"),
    ("npz", b"PK\x03\x04" + bytes(100), "plain .npy"),
    ("gzip", zipped(SOUND), "plain .npy"),
    ("empty", saved(GREY[:0]), "empty"),
    ("constant", saved(np.full((5, 9, 14), True)), "constant"),
    ("NaN", saved(np.where(GREY < 10, np.nan, GREY)), "NaN or infinity"),
    ("infinity, big-endian", saved(np.where(GREY < 10, np.inf, GREY).astype(">f4")), "NaN or infinity"),
    (
        "NaN of half precision, Fortran order",
        saved(np.asfortranarray(np.where(GREY < 10, np.nan, 1.0).astype("f2"))),
        "NaN",
    ),
]
NPY = [
    *(Bad(f"npy shape {text[:40]}", volume("bad.npy", npy(shape=text)), (word, "bad.npy")) for word, text in SHAPES),
    *(Bad(f"npy type {text}", volume("bad.npy", npy(descr=text)), (word, "bad.npy")) for word, text in TYPES),
    *(Bad(f"npy header {text[:30]!r}", volume("bad.npy", npy(text or b"\n")), ("plain .npy",)) for text in HEADERS),
    *(Bad(f"npy {name}", volume("bad.npy", content), (word, "row 6")) for name, content, word in CONTENTS),
    Bad(
        "npy giant and sparse",
        volume("bad.npy", sparse(2**32, npy(shape="(1024, 1024, 2048)"))),
        ("SSL3D_LARGEST_VOLUME",),
    ),
    Bad(
        "npy with a header of 4 GiB",
        volume("bad.npy", sparse(2**33, b"\x93NUMPY\x02\x00\xff\xff\xff\xff")),
        ("plain .npy",),
    ),
]

ADRENAL = ("--data", "medmnist3d:adrenalmnist3d", "--root", "{root}")
IMAGES, LABELS = "train_images.npy", "train_labels.npy"
CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
NPZ = [
    *(
        Bad(f"npz {name}", make, (word, "adrenalmnist3d.npz"), arguments=ADRENAL)
        for name, make, word in [
            ("folder", lambda root: folder(root / "adrenalmnist3d.npz"), "folder"),
            ("FIFO", lambda root: fifo(root / "adrenalmnist3d.npz"), "FIFO"),
            ("socket", lambda root: unix_socket(root / "adrenalmnist3d.npz"), "socket"),
            ("link to itself", lambda root: link_to("")(root / "adrenalmnist3d.npz"), "links"),
            ("link to nothing", lambda root: link_to("nowhere")(root / "adrenalmnist3d.npz"), "absent"),
            ("device", lambda root: link_to("/dev/zero")(root / "adrenalmnist3d.npz"), "device"),
            ("empty", npz(edit=lambda content: b""), "damaged"),
            ("text", npz(edit=lambda content: b"no archive"), "damaged"),
            ("one .npy", npz(edit=lambda content: SOUND), "damaged"),
            ("pickle", npz(edit=lambda content: pickle.dumps(GREY)), "damaged"),
            *((f"cut at {at}", npz(edit=itemgetter(slice(at))), "damaged") for at in (30, 5000, -1, -100)),
            ("encrypted", npz(edit=lambda c: every(CENTRAL, 8, b"\x01")(every(LOCAL, 6, b"\x01")(c))), "damaged"),
            (
                "unknown compression",
                npz(edit=lambda c: every(CENTRAL, 10, b"\x63")(every(LOCAL, 8, b"\x63")(c))),
                "damaged",
            ),
            ("a byte changed", npz(edit=lambda c: c[:3000] + b"\x00\xff\x00\xff" + c[3004:]), "damaged"),
            ("bytes changed", npz(edit=lambda c: c[:300] + bytes(200) + c[500:]), "damaged"),
            ("wrong checksums", npz(edit=every(CENTRAL, 16, b"\x01\x02\x03\x04")), "damaged"),
            ("sizes of 4 GB", npz(edit=every(CENTRAL, 24, b"\xfe\xff\xff\xff")), "damaged"),
            ("offsets beyond it", npz(edit=every(CENTRAL, 42, b"\xfe\xff\xff\x7f")), "damaged"),
            ("without labels", npz({LABELS: None}), "train_labels"),
            ("without images", npz({"test_images.npy": None}), "test_images"),
            ("2^40 images", npz({IMAGES: npy(descr="'|u1'", shape=f"({2**40}, 28, 28, 28)")}), "train_images"),
            ("2^40 labels", npz({LABELS: npy(descr="'|u1'", shape=f"({2**40}, 1)")}), "train_labels"),
            ("negative images", npz({IMAGES: npy(descr="'|u1'", shape="(-4, 28, 28, 28)")}), "train_images"),
            ("negative labels", npz({LABELS: npy(descr="'|u1'", shape="(-4, -1)")}), "train_labels"),
            (
                "bomb of images",
                npz({IMAGES: npy(descr="'|u1'", shape="(9000, 28, 28, 28)", data=bytes(190 * MIB))}),
                "train_images",
            ),
            (
                "bomb of labels",
                npz({LABELS: npy(descr="'|u1'", shape=f"({190 * MIB}, 1)", data=bytes(190 * MIB))}),
                "train_labels",
            ),
            ("images cut short", npz({IMAGES: saved(np.zeros((4, 28, 28, 28), np.uint8))[:-9]}), "train_images"),
            ("images of floats", npz({IMAGES: saved(np.zeros((4, 28, 28, 28), np.float32))}), "float32"),
            ("images of 27 rows", npz({IMAGES: saved(np.zeros((4, 28, 27, 28), np.uint8))}), "(4, 28, 27, 28)"),
            ("images that are pickled", npz({IMAGES: saved(np.array([[None]] * 4, object))}), "pickled"),
            ("labels that are pickled", npz({LABELS: saved(np.array([[None]] * 4, object))}), "pickled"),
            ("labels of text", npz({LABELS: saved(np.array([["0"]] * 4))}), "train_labels"),
            ("label 2", npz({LABELS: saved(np.array([[0], [1], [2], [0]], np.uint8))}), "train_labels[2]"),
            ("label -1", npz({LABELS: saved(np.array([[0], [-1], [1], [0]], np.int8))}), "train_labels[1]"),
            ("label 10^9", npz({LABELS: saved(np.array([[0], [1], [1], [10**9]], np.int64))}), "1000000000"),
            ("labels of two columns", npz({LABELS: saved(np.zeros((4, 2), np.uint8))}), "(4, 2)"),
            ("fewer labels", npz({LABELS: saved(np.zeros((3, 1), np.uint8))}), "(3, 1)"),
        ]
    )
]
ARRAYS = [*NPY, *NPZ]
