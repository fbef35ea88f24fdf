"""Memory does not grow with the number of slices: they pass through in batches."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from kdmri.phantoms import phantom, scan
from kdmri.runtime import memory

PEAK = """
import resource, sys
from pathlib import Path
from kdmri.bundles.location import models_folder
from kdmri.bundles.store import choose, load_all
from kdmri.formats.kspace import reader as kspace
from kdmri.runtime import Reconstructor, memory
from kdmri.runtime.model import load_model
memory.AT_MOST = 2**26
model = Reconstructor(load_model(choose(load_all(models_folder()), "reconstruction")))
with kspace.opened(Path(sys.argv[1])) as measured:
    model.reconstruct(measured)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
FEW, MANY = 16, 160
CPU = torch.device("cpu")


def test_a_batch_is_as_large_as_memory_allows_and_one_slice_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    one = memory.PER_SAMPLE * 8 * 100 + memory.PER_PIXEL * 100
    for free, expected in ((0, 1), (4 * one - 1, 1), (4 * 5 * one, 5), (2**50, memory.AT_MOST // one)):
        monkeypatch.setattr(memory, "free", lambda _, free=free: free)
        assert memory.slices_per_batch(CPU, samples=800, pixels=100) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free(CPU) > 2**20
    for name, content in {"max": "1000000\n", "current": "700000\n", "stat": "anon 5\ninactive_file 50000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(content)
    assert memory.free(CPU) == 350000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free(CPU) > 2**20


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
