"""Rules for reading volumes: what they are, that they repeat, and that faulty files are errors a user can act on."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ssl3d.dataset import Volume
from ssl3d.errors import DataError
from ssl3d.testing.opened import DatasetKit
from ssl3d.testing.randomness import untouched
from ssl3d.testing.runner import BrokenRuleError, NotApplicable, require

COPIED = 64 * 2**20  # bytes; files of larger data sets are not copied to be damaged


def check_volumes_are_well_formed(kit: DatasetKit) -> None:
    """read() gives a Volume (C, D, H, W) of uint8, or of finite float16 in [0, 1], with a positive spacing or None."""
    channels: set[int] = set()
    for case in kit.some:
        volume = kit.opened.read(case)
        require(isinstance(volume, Volume), f"read() of {case.id!r} gave a {type(volume).__name__}; return Volume(...)")
        voxels = volume.voxels
        where = f"the voxels of {case.id!r}"
        require(isinstance(voxels, np.ndarray), f"{where} are a {type(voxels).__name__}; return a numpy array")
        sound = voxels.ndim == 4 and min(voxels.shape) >= 1
        require(sound, f"{where} have the shape {voxels.shape}; return (C, D, H, W)")
        sound = voxels.dtype in (np.uint8, np.float16)
        require(sound, f"{where} are {voxels.dtype}; return uint8, or float16 scaled to [0, 1]")
        if voxels.dtype == np.float16:
            inside = bool(np.isfinite(voxels).all()) and voxels.min() >= 0 and voxels.max() <= 1
            require(inside, f"{where} are not finite or not within [0, 1]; scale them")
        channels.add(voxels.shape[0])
        spacing = volume.spacing
        sound = spacing is None or (len(spacing) == 3 and all(np.isfinite(s) and s > 0 for s in spacing))
        require(sound, f"the spacing of {case.id!r} is {spacing}; return three positive millimetres, or None")
    require(len(channels) == 1, f"volumes have {sorted(channels)} channels; return the same number for all")


def check_reading_repeats(kit: DatasetKit) -> None:
    """A volume is the same however often, and in whatever order, it is read; no global random state moves."""
    first = {case.id: kit.opened.read(case) for case in kit.some}
    other = kit.open()
    with untouched("read()", "draw nothing: augmentation is not the data set's"):
        again = {case.id: other.read(case) for case in reversed(kit.some)}
    for name, volume in first.items():
        same = np.array_equal(volume.voxels, again[name].voxels) and volume.spacing == again[name].spacing
        require(same, f"the volume of {name!r} differs the second time; read() must depend on the case alone")


def check_reading_runs_no_pickle(kit: DatasetKit) -> None:
    """Neither cases() nor read() unpickles anything: a pickle from someone else runs their code."""
    with _no_pickle():
        dataset = kit.open()
        dataset.cases()
        for case in kit.some:
            dataset.read(case)


def check_absent_files_are_data_errors(kit: DatasetKit) -> None:
    """On an empty folder, and on one that does not exist, it raises DataError, in one line that names the folder."""
    if kit.root is None:
        raise NotApplicable("it reads no files")
    with tempfile.TemporaryDirectory() as folder:
        for root, what in ((Path(folder), "an empty folder"), (Path(folder) / "absent", "a folder that is absent")):
            _demand_data_error(lambda root=root: kit.open(root).cases(), what, root)  # type: ignore[misc]


def check_damaged_files_are_data_errors(kit: DatasetKit) -> None:
    """A volume's file that is cut short, or empty, raises DataError, in one line that names the file."""
    if kit.root is None:
        raise NotApplicable("it reads no files")
    files = [path for path in kit.root.rglob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) > COPIED:
        raise NotApplicable("its files are too large to be copied and damaged")
    case = kit.cases[0]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / kit.root.name
        shutil.copytree(kit.root, root)
        file = root / case.source
        if not file.is_file():
            raise NotApplicable(f"{case.source!r} is not a file of one volume")
        content = file.read_bytes()
        for part, what in ((content[: len(content) // 2], "is cut short"), (b"", "is empty")):
            file.write_bytes(part)
            _demand_data_error(lambda: _read_first(kit, root), f"a file that {what}", Path(file.name))


def _read_first(kit: DatasetKit, root: Path) -> None:
    dataset = kit.open(root)
    dataset.read(dataset.cases()[0])


def _demand_data_error(action: Callable[[], object], what: str, named: Path) -> None:
    try:
        action()
    except DataError as error:
        require("\n" not in str(error).strip(), f"on {what} the error has several lines: {error}")
        require(named.name in str(error), f"on {what} the error does not name {named.name}: {error}")
        return
    except Exception as error:
        sentence = (
            f"on {what} it raises {type(error).__name__} ({error}); raise DataError, with the file and what to do"
        )
        raise BrokenRuleError(sentence) from error
    raise BrokenRuleError(f"on {what} it raises nothing; raise DataError, with the file and what to do")


@contextmanager
def _no_pickle() -> Iterator[None]:
    """Refuse to unpickle inside."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise BrokenRuleError("it unpickles, which runs code from the data; read plain numbers (allow_pickle=False)")

    names = ("load", "loads", "Unpickler")
    before = {name: getattr(pickle, name) for name in names}
    for name in names:
        setattr(pickle, name, refuse)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(pickle, name, function)
