"""Files that are either whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

from ssl3d.errors import RunError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write bytes, or UTF-8 text, to a temporary file beside ``path``, flush it to the disk, rename it over ``path``.

    Raises:
        RunError: the folder cannot be written.
    """
    partial = path.with_name(partial_name(path.name))
    data = content if isinstance(content, bytes) else content.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}); choose a folder that can be") from error


def partial_name(name: str) -> str:
    """Return the name under which a file is written, before it is whole; one that a kill left is overwritten."""
    return f".{name}.partial"
