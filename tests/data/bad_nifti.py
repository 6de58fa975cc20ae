"""NIfTI files that are damaged, hostile, or something else."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from tests.data.bad_files import FULL, MIB, Bad, Make, bomb, flipped, nifti, sparse, volume, zipped
from tests.data.scans import GREY

NAN, INF = float("nan"), float("inf")
SOUND = nifti()
SMALL = zipped(SOUND)
FLOATS = GREY.astype(np.float32)
FLOAT: dict[str, Any] = {"datatype": 16, "bitpix": 32}
NO_SFORM: dict[str, Any] = {"sform_code": 0}
QFORM: dict[str, Any] = {"sform_code": 0, "qform_code": 1}

HEADERS: list[tuple[dict[str, Any], str]] = [
    *(({"datatype": code}, "data type") for code in (0, 1, 3, 5, 255, -1, 2048, 32767)),
    *(({"datatype": code}, "real numbers") for code in (32, 128, 1792, 2304)),
    *(({"dim_0": count}, "axes") for count in (99, 8, -1, 0, 1, 2, 32767, -32768)),
    *(({"dim_1": side}, "shape") for side in (0, -1, -5, -32768)),
    *(({"dim_0": 4, "dim_4": side}, "shape") for side in (0, -1, 2)),
    ({"dim_0": 7, "dim": (7, 5, 9, 14, 1, 1, 1, 2)}, "shape"),
    *(({"dim": (3, side, side, side)}, "SSL3D_LARGEST_VOLUME") for side in (32767, 1291, 2000)),
    ({"dim": (7, *[32767] * 7)}, "shape"),
    ({"dim": (3, 800, 800, 800)}, "truncated"),
    ({"dim_1": 6}, "truncated"),
    *(({"vox_offset": at}, "begin") for at in (-352.0, -1.0, 0.0, 347.0, 352.5, NAN, INF, -INF, 1e30)),
    ({"vox_offset": 100_000.0}, "truncated"),
    *(({"scl_slope": slope}, "slope") for slope in (INF, -INF)),
    *(({"scl_inter": inter}, "slope") for inter in (NAN, INF, -INF)),
    *(
        ({f"srow_{axis}_{place}": value}, "affine")
        for axis, place, value in (("x", 0, NAN), ("y", 3, INF), ("z", 2, -INF))
    ),
    ({"srow_x_0": 0.0}, "affine"),
    ({"srow_x": (0.0,) * 4, "srow_y": (0.0,) * 4, "srow_z": (0.0,) * 4}, "affine"),
    ({**QFORM, "quatern_b": NAN}, "affine"),
    ({**QFORM, "quatern_b": 2.0}, "affine"),
    ({**QFORM, "qoffset_x": INF}, "affine"),
    ({**QFORM, "pixdim_1": NAN}, "affine"),
    ({**NO_SFORM, "pixdim_2": NAN}, "affine"),
    ({**NO_SFORM, "pixdim_3": INF}, "affine"),
    ({"sizeof_hdr": 0}, "NIfTI"),
    ({"sizeof_hdr": 349}, "NIfTI"),
    ({"sizeof_hdr": -1}, "NIfTI"),
    ({"magic": b"ni1"}, "NIfTI"),
    ({"magic": b"xxx"}, "NIfTI"),
    ({"magic": b""}, "NIfTI"),
]
TWO: list[tuple[dict[str, Any], str]] = [
    ({"dim_0": 99}, "axes"),
    ({"dim": (3, 2**62, 2**62, 2**62)}, "SSL3D_LARGEST_VOLUME"),
    ({"dim": (3, -(2**63), 1, 1)}, "shape"),
    ({"datatype": 77}, "data type"),
    ({"vox_offset": -(2**40)}, "begin"),
    ({"vox_offset": 2**62}, "begin"),
    ({"srow_x_0": 1e300}, "affine"),
    ({"magic": b"n+1"}, "NIfTI"),
]
CUTS = [
    (1, "NIfTI"),
    (100, "NIfTI"),
    (347, "NIfTI"),
    (351, "truncated"),
    (700, "truncated"),
    (len(SOUND) - 1, "truncated"),
]
CONTENTS: list[tuple[str, bytes, str]] = [
    ("no bytes", b"", "NIfTI"),
    ("text", b"This is not a volume at all.\n" * 40, "NIfTI"),
    ("png", b"\x89PNG\r\n\x1a\n" + bytes(500), "NIfTI"),
    ("dicom", bytes(128) + b"DICM" + bytes(500), "NIfTI"),
    ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(500), "NIfTI"),
    ("zip", b"PK\x03\x04" + bytes(500), "NIfTI"),
    ("zeros", bytes(MIB), "NIfTI"),
    ("ones", b"\xff" * 1000, "NIfTI"),
    ("random", np.random.default_rng(3).bytes(5000), "NIfTI"),
    ("another volume after it", SOUND + bytes(2 * MIB), "longer"),
]
VOXELS: list[tuple[str, bytes, str]] = [
    ("NaN", nifti(np.where(GREY < 10, np.nan, FLOATS).astype("<f4").tobytes("F"), **FLOAT), "NaN or infinity"),
    ("all NaN", nifti(np.full_like(FLOATS, np.nan).tobytes("F"), **FLOAT), "NaN or infinity"),
    ("infinity", nifti(np.where(GREY < 10, -np.inf, FLOATS).astype("<f4").tobytes("F"), **FLOAT), "NaN or infinity"),
    ("overflow", nifti(np.full(GREY.shape, 3e38).tobytes("F"), datatype=64, bitpix=64, scl_slope=3e38), "constant"),
    ("constant", nifti(np.full_like(GREY, 7).tobytes("F")), "constant"),
    ("scaled to a constant", nifti(FULL, scl_slope=1e-38, scl_inter=1e30), "constant"),
]
GZIPPED: list[tuple[str, bytes, str]] = [
    *((f"cut at {at}", SMALL[:at], "damaged") for at in (3, 9, 15, 200, len(SMALL) // 2, -9)),
    *((f"without its last {n} bytes", SMALL[:-n], "damaged") for n in (8, 5, 1)),
    *((f"bit {at}", flipped(SMALL, at), "damaged") for at in (2, 3, 40, 400, 900, -700, -8, -6, -4, -1)),
    ("garbage after it", SMALL + b"garbage", "damaged"),
    ("another file after it", SMALL + zipped(bytes(2 * MIB)), "longer"),
    ("nothing in it", zipped(b""), "NIfTI"),
    ("text in it", gzip.compress(b"text"), "NIfTI"),
    ("gzip in it", zipped(SMALL), "NIfTI"),
    ("header without voxels", zipped(SOUND[:352]), "truncated"),
    ("4 GB declared", zipped(nifti(dim=(3, 2047, 1023, 1023))), "SSL3D_LARGEST_VOLUME"),
    ("1 GB declared", zipped(nifti(dim=(3, 1000, 800, 600))), "truncated"),
    ("1 GiB of zeros after it", bomb(SOUND, 1024), "longer"),
    ("1 GiB of zeros", bomb(b"", 1024), "NIfTI"),
]


def _volume(content: bytes | Make, packed: bool = False) -> Make:
    return volume("bad.nii.gz" if packed else "bad.nii", content)


NIFTI = [
    *(Bad(f"nifti {fields}", _volume(nifti(**fields)), (word, "bad.nii")) for fields, word in HEADERS),
    *(Bad(f"nifti big-endian {f}", _volume(nifti(order=">", **f)), (word,)) for f, word in HEADERS[::9]),
    *(Bad(f"nifti.gz {fields}", _volume(zipped(nifti(**fields)), True), (word,)) for fields, word in HEADERS[::5]),
    *(Bad(f"nifti 2 {fields}", _volume(nifti(two=True, **fields)), (word,)) for fields, word in TWO),
    *(Bad(f"nifti cut at {at}", _volume(SOUND[:at]), (word,)) for at, word in CUTS),
    *(Bad(f"nifti {name}", _volume(content), (word, "row 6")) for name, content, word in [*CONTENTS, *VOXELS]),
    *(Bad(f"nifti.gz {name}", _volume(content, True), (word, "row 6")) for name, content, word in GZIPPED),
    Bad("nifti giant and sparse", _volume(sparse(2**33, nifti(dim=(3, 2000, 2000, 1000)))), ("SSL3D_LARGEST_VOLUME",)),
    Bad("nifti of 8 GiB, almost all after its voxels", _volume(sparse(2**33, SOUND)), ("longer",)),
]
