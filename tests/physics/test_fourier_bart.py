"""BART as an independent oracle: its centred, unitary Fourier transform is ours."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy import ndarray
from numpy.testing import assert_allclose

from kdmri.physics.fourier import fft2c, ifft2c

BART = shutil.which("bart")
pytestmark = pytest.mark.skipif(BART is None, reason="Debian's bart is not installed")


def write(base: Path, array: ndarray) -> None:
    """BART's pair of files: dimensions, and complex64 with the first dimension varying fastest."""
    dimensions = " ".join(map(str, array.shape))
    base.with_suffix(".hdr").write_text(f"# Dimensions\n{dimensions}\n")
    array.astype(np.complex64).ravel(order="F").tofile(base.with_suffix(".cfl"))


def read(base: Path) -> ndarray:
    shape = [int(length) for length in base.with_suffix(".hdr").read_text().splitlines()[1].split()]
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    return np.fromfile(base.with_suffix(".cfl"), np.complex64).reshape(shape, order="F")


def bart(folder: Path, *arguments: str) -> None:
    subprocess.run([str(BART), *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (16, 15), (13, 11), (1, 8)])
def test_both_directions_agree(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).standard_normal((*shape, 2)) @ [1, 1j]
    write(tmp_path / "x", image)
    bart(tmp_path, "fft", "-u", "3", "x", "forward")
    bart(tmp_path, "fft", "-u", "-i", "3", "x", "back")
    assert_allclose(fft2c(torch.from_numpy(image)), read(tmp_path / "forward"), atol=1e-5)
    assert_allclose(ifft2c(torch.from_numpy(image)), read(tmp_path / "back"), atol=1e-5)


def test_barts_phantom_appears_where_bart_draws_it(tmp_path: Path) -> None:
    bart(tmp_path, "phantom", "-x", "64", "drawn")
    bart(tmp_path, "phantom", "-x", "64", "-k", "kspace")
    bart(tmp_path, "fft", "-u", "-i", "3", "kspace", "image")
    found = ifft2c(torch.from_numpy(read(tmp_path / "kspace"))).abs().numpy()
    assert_allclose(found, np.abs(read(tmp_path / "image")), atol=1e-5 * found.max())
    spectrum = np.fft.fft2(found).conj() * np.fft.fft2(np.abs(read(tmp_path / "drawn")))
    assert np.argmax(np.fft.ifft2(spectrum).real) == 0  # the two match best without a shift
