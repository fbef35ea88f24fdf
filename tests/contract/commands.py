"""Command lines and what they leave: exit codes, lines printed, arrays written.

`python -m tests.contract.commands` runs them all in one process and writes the summary as JSON: the models' libraries
take seconds to import, and each command in a process of its own would import them again.
"""

import io
import json
import re
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import nibabel
import numpy as np
import pydicom
from numpy import ndarray
from PIL import Image
from pydicom.data import get_testdata_file

from kdmri.cli.main import main
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.contract.requests import summary_of_array

COMMANDS = (
    "undersample full.h5 -o r4.h5 --acceleration 4 --seed 1",
    "undersample full.h5 -o equispaced.h5 --acceleration 4 --mask equispaced",
    "undersample r4.h5 -o again.h5 --acceleration 4",
    "undersample small.dcm -o image.h5 --acceleration 2",
    "reconstruct r4.h5 -o student.h5",
    "reconstruct r4.h5 -o teacher.h5 --role teacher",
    "reconstruct r4.h5 -o out.png --format png",
    "reconstruct r4.h5 -o out.nii.gz --format nifti",
    "reconstruct r4.h5 -o out.dcm --format dicom",
    "reconstruct r4.h5 --model none",
    "reconstruct r4.h5 --role expert",
    "reconstruct missing.h5",
    "reconstruct small.dcm",
    "super-resolve small.dcm -o x2.dcm",
    "super-resolve small.dcm -o x4.dcm --scale 4 --role teacher",
    "super-resolve small.dcm --scale 3",
    "super-resolve full.h5",
    "models",
    "models --models nowhere",
    "nonsense",
)


def run(folder: Path, line: str) -> dict[str, object]:
    """Run a command in the folder that is current, and return its exit code, its output and the file it wrote.

    A usage error's text is typer's and changes with its release, so of it the exit code alone is kept.

    Args:
        folder: The folder, whose name is taken out of the output.
        line: Arguments, separated by blanks.
    """
    arguments = line.split()
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["kdmri", *arguments]
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    target = folder / arguments[arguments.index("-o") + 1] if "-o" in arguments else None
    return {
        "exit": code,
        # A table's width follows the terminal: its words are compared, in order.
        "stdout": re.findall(r"[\w.,@()-]+", out.getvalue()),
        "stderr": err.getvalue().replace(str(folder), "") if code != 2 else "",
        "written": read(target) if target and target.exists() else {},
    }


def read(path: Path) -> dict[str, object]:
    """Return the arrays of a file that a command wrote, by name."""
    found: dict[str, ndarray] = {}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = {name: _real(file[name][()]) for name in ("reconstruction", "kspace", "mask") if name in file}
    elif path.suffix == ".dcm":
        found = {"pixels": pydicom.dcmread(path).pixel_array}
    elif path.suffix == ".gz":
        found = {"pixels": np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)}
    else:
        found = {"pixels": np.asarray(Image.open(path))}
    return {name: summary_of_array(array) for name, array in found.items()}


def _real(array: ndarray) -> ndarray:
    return array.view(array.real.dtype) if np.iscomplexobj(array) else array


def summaries() -> dict[str, dict[str, object]]:
    """Run every command in a folder with a full scan and a DICOM image."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        fastmri.write(folder / "full.h5", scan(phantom(64, 80)))
        (folder / "small.dcm").write_bytes(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
        # The commands name their files without a folder, as the messages then do.
        with chdir(folder):
            return {line: run(folder, line) for line in COMMANDS}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(summaries()))
