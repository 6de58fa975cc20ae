"""What users install: regular and editable, with types, entry points, and no package called ``plugins``."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", *OFFLINE, "-w", folder, ROOT)
    return next(folder.glob("*.whl"))


def test_wheel_holds_both_packages_their_type_markers_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for expected in ("ssl3d/py.typed", "ssl3d_plugins/py.typed", "ssl3d_plugins/methods/byol.py", "ssl3d/cli/bench.py"):
        assert expected in names
    assert "ssl3d/results/schema.py" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"ssl3d", "ssl3d_plugins"}


def test_regular_install_lists_its_plugins(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "install", *OFFLINE, "--target", tmp_path, wheel)
    code = "import ssl3d; print(ssl3d.__file__); from ssl3d.cli import run; run(['list'])"
    out = run(sys.executable, "-c", code, PYTHONPATH=str(tmp_path))
    assert str(tmp_path) in out.splitlines()[0]
    assert "byol" in out
    assert "broken" not in out


def test_editable_install_lists_its_plugins(tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path)
    python = tmp_path / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, "--ignore-installed", "-e", ROOT)
    out = run(python, "-c", "import ssl3d; print(ssl3d.__file__); from ssl3d.cli import run; run(['list'])")
    assert Path(out.splitlines()[0]) == ROOT / "ssl3d" / "__init__.py"
    assert "byol" in out
    assert "broken" not in out
