"""Trials of mutants in a copy of the repository, so that no other process sees code that is wrong on purpose."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from difflib import ndiff
from importlib import import_module
from pathlib import Path
from select import select
from signal import SIGKILL
from tempfile import TemporaryDirectory

import pytest
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec
from pydantic import BaseModel

from tools.mutants.suites import ROOT

PRELOADED = [
    "torch",
    "scipy.ndimage",
    "h5py",
    "pydicom",
    "highdicom",
    "onnxruntime",
    "fastapi.testclient",
    "hypothesis",
]
"""Libraries that the tests import: a process that has them already forks for each mutant, which saves seconds."""
IMPORT_NAMES = {"kdmri": "kdmri", "service": "kdmri_service", "training": "kdmri_training"}
PASSED = 0
OUTPUT = Path(".output")
"""Output of the tests that ran last, in the working directory."""


class Trial(BaseModel):
    """One mutant and whether a test failed."""

    module: str
    before: str
    """The line as it is in the repository."""
    after: str
    """The line of the mutant."""
    operator: str
    killed: bool


@contextmanager
def copy_of_repository() -> Iterator[Path]:
    """Provide a clone of the committed state as the working directory, with real data beside it where there are any."""
    before = Path.cwd()
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "kdmri"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        if (ROOT.parent / "shared").exists():
            (clone.parent / "shared").symlink_to(ROOT.parent / "shared")
        # These links give the folders their import names, before those of the environment's editable installation.
        (names := clone / ".names").mkdir()
        for source, name in IMPORT_NAMES.items():
            (names / name).symlink_to(clone / source)
        os.chdir(clone)
        try:
            yield clone
        finally:
            os.chdir(before)


def try_mutant(mutation: MutationSpec, suite: Sequence[str], *, timeout: float) -> Trial:
    """Run tests on one mutant; the working directory must be a copy of the repository.

    Args:
        mutation: The mutation.
        suite: Test files, run in this order until a test fails.
        timeout: Seconds after which a mutant counts as killed: it may loop for ever.

    Returns:
        The trial.
    """
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as (original, mutant):
        failed = run_tests(suite, timeout=timeout) != PASSED
    lines = list(ndiff(original.splitlines(), mutant.splitlines()))
    before, after = (next((line[2:].strip() for line in lines if line.startswith(sign)), "") for sign in "-+")
    return Trial(
        module=str(mutation.module_path),
        before=before,
        after=after,
        operator=mutation.operator_name.removeprefix("core/"),
        killed=failed,
    )


def run_tests(suite: Sequence[str], *, timeout: float) -> int:
    """Run test files in a process of their own.

    Args:
        suite: Test files, run in this order until a test fails.
        timeout: Seconds after which the tests count as failed.

    Returns:
        PASSED, or the exit status of what went wrong; negative for a process that was ended.
    """
    # Small arrays gain nothing from a second thread, and on a busy machine threads wait for one another.
    os.environ["OMP_NUM_THREADS"] = "1"
    for library in PRELOADED:
        import_module(library)
    # A fork, because multiprocessing's children know of their parent, and the service would watch it as one of its own.
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setsid()
            status = _pytest(suite)
        finally:
            # Whatever happens, this process must not go on as a second parent.
            os._exit(status)
    ended, _, _ = select([handle := os.pidfd_open(pid)], [], [], timeout)
    os.close(handle)
    if not ended:
        # The whole session: tests start processes of their own.
        os.killpg(pid, SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _pytest(suite: Sequence[str]) -> int:
    # A mutant and its original may be written within one second, and have one size: cached bytecode would look fresh.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # This process began with the repository's own modules, as `python -m tools.mutants` was started there.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("kdmri", "tools", "tests")]:
        del sys.modules[name]
    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / ".names")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    # The output of the last run stays in the copy, for whoever asks why a test fails.
    with OUTPUT.open("w") as output, redirect_stdout(output):
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *suite])
    return int(status)
