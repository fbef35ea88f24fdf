import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.formats.kspace import reader as formats
from kdmri.phantoms import phantom, ring_of_coils, scan
from kdmri.physics.coils import combine, compress, compression_matrix
from kdmri.physics.espirit import calibration_block, can_calibrate, estimate_sensitivities
from kdmri.physics.fourier import fft2c, ifft2c
from kdmri.physics.sampling import calibration_region

CENTRE = (slice(0, 64), slice(24, 40))


def test_sensitivities_are_found_inside_the_object() -> None:
    scanned = scan(phantom(64, 64), coils=6)
    found = estimate_sensitivities(torch.from_numpy(scanned.samples), CENTRE)[0]
    assert_allclose(torch.linalg.vector_norm(found, dim=0), 1, atol=1e-5)
    true, inside = ring_of_coils(6, 64, 64), torch.from_numpy(phantom(64, 64)[0] > 0.1)
    overlap = (true.conj() * found).sum(dim=0).abs()[inside]
    assert overlap.median() > 0.995
    assert overlap.quantile(0.05) > 0.97


def test_combined_phase_is_smooth_where_there_is_signal() -> None:
    scanned = scan(phantom(64, 64), coils=6)
    samples = torch.from_numpy(scanned.samples)
    image = combine(ifft2c(samples), estimate_sensitivities(samples, CENTRE))[0]
    inside = torch.from_numpy(phantom(64, 64)[0] > 0.1)
    both = inside[:, 1:] & inside[:, :-1]
    jumps = (image[:, 1:] * image[:, :-1].conj()).angle().abs()[both]
    assert jumps.quantile(0.95) < 0.3


@pytest.mark.parametrize("shape", [(96, 128), (131, 75), (64, 48)])
def test_maps_between_grid_points_are_those_at_every_pixel(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = scan(phantom(*shape), coils=6, noise=1e-3)
    samples, lines = torch.from_numpy(scanned.samples), slice(shape[1] // 2 - 8, shape[1] // 2 + 8)
    region = (slice(0, shape[0]), lines)
    interpolated = estimate_sensitivities(samples, region)[0]
    assert_allclose(torch.linalg.vector_norm(interpolated, dim=0), 1, atol=1e-5)
    monkeypatch.setattr("kdmri.physics.espirit.GRID", max(shape))
    everywhere = estimate_sensitivities(samples, region)[0]
    inside = torch.from_numpy(phantom(*shape)[0] > 0.1)
    departure = torch.linalg.vector_norm(interpolated - everywhere, dim=0)[inside]
    assert departure.quantile(0.99) < 5e-3


def test_one_coil_sees_everything() -> None:
    samples = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    assert (estimate_sensitivities(samples, (slice(0, 8), slice(2, 6))) == 1).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 40))
def test_calibration_is_the_part_nearest_the_centre(length: int, width: int, start: int) -> None:
    width, start = min(width, length), min(start, length - min(width, length))
    found, _ = calibration_block((slice(start, start + width), slice(0, 1)), (length, 1))
    assert start <= found.start < found.stop <= start + width
    assert found.stop - found.start == min(width, 24)
    further = set(range(start, start + width)) - set(range(found.start, found.stop))
    reach = max(abs(sample - length // 2) for sample in range(found.start, found.stop))
    assert all(abs(sample - length // 2) >= reach for sample in further)


@pytest.mark.parametrize(("width", "enough"), [(3, False), (4, True)])
def test_calibration_needs_four_lines(width: int, enough: bool) -> None:
    mask = np.zeros((16, 32), bool)
    mask[:, 16 - width // 2 : 16 - width // 2 + width] = True
    assert can_calibrate(mask, calibration_region(mask)) is enough


def write_cfl(path: Path, array: np.ndarray) -> None:
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> np.ndarray:
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape, order="F")


RAW = ("brain_16ch.h5", "brain_16ch_r4.mrd.h5", "brain_8ch_vd2d.h5", "phantom_32ch.h5", "phantom_grappa_16ch.mrd.h5")


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed (Debian: bart)")
@pytest.mark.parametrize("name", RAW)
def test_combined_image_agrees_with_barts_ecalib(name: str, data: Path, tmp_path: Path) -> None:
    """Every raw file of several coils, as many calibration samples for both; with all coils and with virtual ones."""
    found = formats.read(data / "kspace" / name)
    scanned = found.calibration or found
    samples, region = torch.from_numpy(scanned.samples[:1]), calibration_region(scanned.mask[0])
    coils, rows, columns = samples.shape[1:]
    height, width = (extent.stop - extent.start for extent in calibration_block(region, (rows, columns)))
    write_cfl(tmp_path / "kspace", samples[0].permute(1, 2, 0).unsqueeze(2).numpy())
    command = ["bart", "ecalib", "-m1", f"-r{height}:{width}:1", "-c0", tmp_path / "kspace", tmp_path / "maps"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = torch.from_numpy(read_cfl(tmp_path / "maps").reshape(rows, columns, coils)).permute(2, 0, 1)
    expected = combine(ifft2c(samples), theirs[None]).abs().flatten()
    fewer = compress(samples, compression_matrix(samples[..., *calibration_block(region, (rows, columns))]))
    for kept in (samples, fewer):
        combined = combine(ifft2c(kept), estimate_sensitivities(kept, region)).abs().flatten()
        assert float(combined @ expected / (combined.norm() * expected.norm())) >= 0.999


def test_a_scan_without_undersampling_is_its_image() -> None:
    image = phantom(32, 24)
    assert_allclose(ifft2c(torch.from_numpy(scan(image).samples)).abs()[:, 0], image, atol=1e-5)
    assert_allclose(fft2c(ifft2c(torch.from_numpy(scan(image).samples))), scan(image).samples, atol=1e-4)
