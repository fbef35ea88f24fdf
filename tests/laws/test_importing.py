"""Importing kdmri changes nothing in its importer's process, and reading DICOM restores what it changes."""

import os
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

from kdmri.process import OPENMP

STATE = """
import logging, os, pkgutil, signal, sys, threading, warnings
from importlib import import_module
import numpy, pydicom.config, torch

def state():
    loggers = [logging.getLogger(name) for name in (None, "pydicom", "torch", "highdicom", "kdmri")]
    modes = (bool, int, str)
    return {
        "environment": dict(os.environ),
        "pydicom": vars(pydicom.config.settings)
            | {name: value for name, value in vars(pydicom.config).items() if isinstance(value, modes)},
        "loggers": [(log.level, log.propagate, list(log.handlers), list(log.filters)) for log in loggers],
        "warnings": list(warnings.filters),
        "torch": (torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled()),
        "numpy": numpy.geterr(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": threading.active_count(),
    }

def hold(before):
    after = state()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert not changed, changed
"""

IMPORTING = """
# scipy adds warning filters of its own for numpy's matrices and its special functions: it comes before the comparison.
import scipy.sparse, scipy.special
before = state()
import kdmri
names = {module.name for module in pkgutil.walk_packages(kdmri.__path__, "kdmri.")}
for name in sorted(names):
    import_module(name)
assert {"kdmri.cli.main", "kdmri.formats.dicom.reader", "kdmri.runtime.backends.tensorrt"} <= names, names
hold(before)
assert not [name for name in sys.modules if "telemetry" in name and not name.startswith("opentelemetry")]
"""

READING = """
from kdmri.formats.dicom import reader
from kdmri.errors import UnreadableDicom
pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
warnings.simplefilter("error")
before = state()
source = open(sys.argv[1], "rb").read()
assert reader.read([source])[0].images.pixels.size > 0
try:
    reader.read([b"nothing"])
except UnreadableDicom:
    pass
readers = [threading.Thread(target=lambda: [reader.read([source]) for _ in range(20)]) for _ in range(4)]
for thread in readers:
    thread.start()
for thread in readers:
    thread.join()
hold(before)
"""


def run_alone(code: str, *arguments: str) -> None:
    """Run a program in a process of its own, without the environment variables that the tests set for themselves."""
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
    command = [sys.executable, "-c", STATE + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_importing_kdmri_and_all_its_modules_changes_nothing() -> None:
    run_alone(IMPORTING)


def test_reading_dicom_in_several_threads_restores_pydicoms_settings_and_the_warning_filters() -> None:
    run_alone(READING, str(get_testdata_file("MR_small.dcm")))


def test_the_library_and_the_service_are_marked_as_typed() -> None:
    root = Path(__file__).parents[2]
    assert (root / "kdmri" / "py.typed").is_file()
    assert (root / "service" / "py.typed").is_file()
