"""Memory does not grow with the number of slices: they pass through in batches."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdmri.data.images import Images
from kdmri.errors import ExceedsMemory
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor, SuperResolver, memory

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
with kspace.open_scan(Path(sys.argv[1])) as measured:
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


def test_a_band_is_as_high_as_memory_allows_and_never_higher_than_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((0, memory.LEAST_ROWS), (4 * memory.PER_PIXEL * 1000 * 300, 300), (2**50, 715)):
        monkeypatch.setattr(memory, "free", lambda _, free=free: free)
        assert memory.rows_per_band(CPU, rows=2000, columns=1000) == expected
        assert memory.rows_per_band(CPU, rows=50, columns=1000) == 50


def test_more_slices_samples_and_pixels_need_more_memory_and_features_are_bounded() -> None:
    usual = {"slices": 10, "samples": 8 * 256**2, "pixels": 256**2}
    needed = memory.peak_memory(CPU, **usual)
    for name in usual:
        assert memory.peak_memory(CPU, **{**usual, name: 2 * usual[name]}) > needed
    huge = 16384**2
    arrays = memory.PER_SAMPLE * huge + memory.PER_RESULT * huge
    assert memory.peak_memory(CPU, slices=1, samples=huge, pixels=huge) <= arrays + memory.AT_MOST


@given(st.integers(1, 500), st.integers(1, 32), st.integers(32, 4096), st.integers(2**24, 2**36))
def test_a_refusal_names_a_request_that_fits(slices: int, coils: int, side: int, free: int) -> None:
    def check(slices: int, pixels: int) -> None:
        memory.check_fits(CPU, slices=slices, samples=coils * pixels, pixels=pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "free", lambda _: free)
        if memory.peak_memory(CPU, slices=slices, samples=coils * side**2, pixels=side**2) <= free:
            check(slices, side**2)
            return
        with pytest.raises(ExceedsMemory, match=f"at most {free // 10**6} MB") as refusal:
            check(slices, side**2)
        if of_slices := re.search(r": (\d+) slices of this size would fit", str(refusal.value)):
            assert 0 < int(of_slices[1]) < slices
            check(int(of_slices[1]), side**2)
        else:
            of_pixels = re.search(r": slices of about (\d+) pixels would fit", str(refusal.value))
            assert of_pixels
            assert int(of_pixels[1]) < side**2
            check(slices, int(of_pixels[1]))


def test_a_request_that_does_not_fit_is_refused_before_work(models: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda _: 10**6)
    with pytest.raises(ExceedsMemory, match="got one that needs about"):
        Reconstructor(models["reconstruction", "student"]).reconstruct(scan(phantom(64, 64), coils=8))
    with pytest.raises(ExceedsMemory, match="got one that needs about"):
        SuperResolver(models["super-resolution", "student"]).super_resolve(Images(phantom(128, 128)), 4)
