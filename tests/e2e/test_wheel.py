"""A wheel installed in an empty environment, away from the checkout, runs the demonstration with the models it carries.

Nothing is fetched: the wheel is built with the setuptools that is installed, and the environment sees the packages that
kdmri depends on through a .pth file, which does not make the checkout's own installation importable.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdmri.bundles.location import CHECKOUT, VARIABLE
from kdmri.bundles.store import load_all

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOURCES = ("kdmri", "service", "training", "models", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a program in a folder, without the settings that could lead it to the checkout, and return its output."""
    environment = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "PYTHONPATH")}
    # Wide enough for the tables of rich, which breaks words at the width of the terminal that it supposes.
    environment["COLUMNS"] = "200"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built from a copy because setuptools writes beside its sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    target = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    run([*pip, "--wheel-dir", target, copy], target)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel installed."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
    run([*pip, wheel], folder)
    # Written after the installation: pip would see the checkout's kdmri and consider the wheel to be installed.
    (own,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (own / "dependencies.pth").write_text("\n".join(shared))
    return python.parent


def test_a_wheel_installs_no_module_but_kdmris(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
        assert {"kdmri/py.typed", "kdmri_service/py.typed"} <= set(archive.namelist())
    assert {name for name in top if not name.endswith(".dist-info")} == {"kdmri", "kdmri_service", "kdmri_training"}


def test_a_wheel_lists_the_models_that_it_carries(environment: Path, tmp_path: Path) -> None:
    where = run([environment / "python", "-c", "import kdmri; print(kdmri.__file__)"], tmp_path)
    assert Path(where).is_relative_to(environment.parent)
    listed = run([environment / "kdmri", "models"], tmp_path)
    for bundle in load_all(CHECKOUT):
        assert bundle.manifest.reference in listed


def test_a_wheel_runs_the_demonstration_from_another_folder(environment: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "demo.py", tmp_path)
    shown = run([environment / "python", "demo.py"], tmp_path)
    for row in ("zero-filled", "sinc", "student", "teacher"):
        assert row in shown
    made = {path.name for path in (tmp_path / "demo-out").iterdir()}
    assert {"reconstruct.png", "super_resolve.png", "super_resolve_student.dcm", "abdomen_r4.h5"} <= made
