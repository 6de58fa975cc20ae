"""Opening files of a data set: regular files inside its root, and volumes of bounded size. Loads no torch."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ssl3d.errors import DataError

ABSENT = "is absent"
LARGEST = 2**29  # voxels: 4 GiB in double precision, in which intensities are scaled
LARGEST_SETTING = "SSL3D_LARGEST_VOLUME"  # environment variable: voxels, overrides LARGEST
LINKS_SETTING = "SSL3D_FOLLOW_LINKS"  # environment variable: 1 allows links that lead outside the root
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; False if it cannot be looked up."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def file_problem(path: Path, root: Path | None = None) -> str | None:
    """Return why a path cannot be read as a file, as the end of a sentence after "the file"; None if it can.

    Args:
        path: path of the file.
        root: folder that links may not lead out of; None if they may lead anywhere.
    """
    try:
        mode = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    except ValueError:
        return "has a name that no file can have"
    if mode != stat.S_IFREG:
        return f"is {KINDS.get(mode, 'no regular file')}, not a file"
    if root is not None and os.environ.get(LINKS_SETTING) != "1" and not path.resolve().is_relative_to(root.resolve()):
        return f"is a link that leads outside the root, which is followed only where {LINKS_SETTING}=1 is set"
    return None


def open_file(path: Path, where: str) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: path of the file.
        where: its name in messages.

    Raises:
        DataError: it is missing, not a regular file (a FIFO would block forever), or unreadable.
    """
    problem = file_problem(path)
    if problem is None:
        try:
            return path.open("rb")
        except OSError as error:
            problem = f"cannot be opened ({error.strerror})"
    raise DataError(f"{where} {problem}; restore it or remove it from the table")


def require_bounded(shape: Sequence[int], where: str) -> None:
    """Check, before allocating, that every side of an array is 0 or more, and that it is not too large.

    Raises:
        DataError: a side is negative, or there are more voxels than allowed.
    """
    if any(side < 0 for side in shape):
        raise DataError(f"{where} has shape {tuple(shape)} in its header, and no side can be negative; restore it")
    if math.prod(shape) > (largest := _largest()):
        raise DataError(
            f"{where} has shape {tuple(shape)} in its header, more than {largest:,} voxels; restore it, or allow more "
            f"with {LARGEST_SETTING}=VOXELS"
        )


def _largest() -> int:
    text = os.environ.get(LARGEST_SETTING, str(LARGEST))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise DataError(
            f"{LARGEST_SETTING} is not a number of voxels; set it to one, as in {LARGEST_SETTING}={LARGEST}"
        )
    return int(text)
