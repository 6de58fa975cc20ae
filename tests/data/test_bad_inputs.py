"""Bad inputs: each ends in one clear sentence, without a traceback, in bounded time and memory."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ssl3d.cli import run
from tests.data.bad_arrays import ARRAYS
from tests.data.bad_files import Bad, nifti, sound_root, volume, zipped
from tests.data.bad_knees import MRNET
from tests.data.bad_nifti import NIFTI
from tests.data.bad_tables import SOUND, TABLES

BAD = [*NIFTI, *ARRAYS, *TABLES, *MRNET]
SECONDS = 5
MEMORY = 256 * 2**20  # bytes by which no input may raise the peak; the giants declare and hold gigabytes
LONGEST = 700  # characters of a sentence
NOBODY = 65534
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user may enter; torch, that MedMNIST's package imports, is left out."""
    spec = importlib.util.find_spec("medmnist")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "info.py"
    info_spec = importlib.util.spec_from_file_location("medmnist_info", path)
    assert info_spec is not None
    assert info_spec.loader is not None
    info = importlib.util.module_from_spec(info_spec)
    info_spec.loader.exec_module(info)
    package = ModuleType("medmnist")
    vars(package).update(INFO=info.INFO, info=info)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        if "medmnist" not in sys.modules:
            patch.setitem(sys.modules, "medmnist", package)
        Path(name).chmod(0o755)
        sound_root(Path(name) / "warm")  # whoever runs the rows then imports nothing, and memory counts what they read
        volume("e.nii.gz", zipped(nifti()))(Path(name) / "warm")
        assert run(["data", "check", "--data", "folder", "--root", f"{name}/warm"]) == 0
        yield Path(name)


@pytest.fixture
def root(folder: Path) -> Iterator[Path]:
    """Four sound volumes and their table."""
    made = folder / "scans"
    sound_root(made)
    yield made
    if made.is_dir():
        made.chmod(0o755)
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """End what hangs."""

    def late(signum: int, frame: object) -> None:
        raise TimeoutError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def checked(root: Path, bad: Bad) -> int:
    """Run the command, as another user where the row asks for it."""
    arguments = [part.replace("{root}", str(root)) for part in bad.arguments]
    if bad.nobody and os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            return run(["data", "check", *arguments])
        finally:
            os.seteuid(0)
    return run(["data", "check", *arguments])


@pytest.mark.parametrize(
    "bad",
    BAD,
    ids=[f"{place:03d} {bad.name[:50]}".encode("ascii", "replace").decode() for place, bad in enumerate(BAD)],
)
def test_a_bad_input_is_one_sentence(root: Path, capsys: Capture, bad: Bad) -> None:
    bad.make(root)
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    code = checked(root, bad)
    seconds = time.perf_counter() - start
    growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    captured = capsys.readouterr()
    sentence = said(code, captured.out, captured.err)
    assert code == bad.code, sentence
    assert all(word in sentence for word in bad.words), sentence
    assert len(sentence) < LONGEST
    assert sentence.isprintable()
    assert "Traceback" not in captured.out + captured.err
    assert seconds < SECONDS
    assert growth < MEMORY


def said(code: int, out: str, err: str) -> str:
    """Return the one sentence about what is wrong; there may be no other."""
    if code == 2:
        *_, sentence = err.splitlines()  # click writes the usage before it
        assert err.count("Error: ") == 1
        return sentence
    sentence, *others = out.splitlines()
    assert all(line.startswith(("note: ", "patients: ", "task ")) or " volumes (" in line for line in others), out
    (count,) = err.splitlines()
    assert count.endswith(": 1 fault."), err
    return sentence


@pytest.mark.parametrize("add", SOUND, ids=list(SOUND))
def test_what_is_unusual_and_sound_has_no_fault(root: Path, capsys: Capture, add: str) -> None:
    SOUND[add](root)
    assert run(["data", "check", "--data", "folder", "--root", str(root)]) == 0
    assert capsys.readouterr().out.endswith("no faults.\n")


def test_there_are_enough() -> None:
    assert len(BAD) >= 300
