"""Memory does not grow with the number of slices: they pass through in batches."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.scans import phantom, scan

PEAK = """
import resource, sys
from pathlib import Path
from kdmri.bundle import choose, load_all
from kdmri.cli import MODELS
from kdmri.formats import kspace
from kdmri.runtime import Reconstructor, reconstructor
from kdmri.runtime.model import load_model
reconstructor.BATCH_SAMPLES = 2**18
model = Reconstructor(load_model(choose(load_all(MODELS), "reconstruction")))
with kspace.opened(Path(sys.argv[1])) as measured:
    model.reconstruct(measured)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
FEW, MANY = 16, 160


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_many_slices_take_the_memory_of_a_few(tmp_path: Path) -> None:
    one = scan(phantom(128, 128), coils=8, acceleration=4).samples
    peaks = []
    for count in (FEW, MANY):
        with h5py.File(tmp_path / f"{count}.h5", "w") as file:
            stored = file.create_dataset("kspace", (count, *one.shape[1:]), np.complex64)
            for number in range(count):
                stored[number] = one[0]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PEAK, tmp_path / f"{count}.h5"],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(1024 * int(done.stdout))
    assert peaks[1] - peaks[0] < 0.5 * (MANY - FEW) * one.nbytes
