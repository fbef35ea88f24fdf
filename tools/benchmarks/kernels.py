"""The kernels of a request one by one, by pytest-benchmark: `make kernels`. What `make bench` measures together.

To compare two states of the code: `--benchmark-save=before`, then `--benchmark-compare` (see pytest-benchmark). Times
only: counters of instructions are seldom to be had on virtual machines, and valgrind does not know AVX-512.
"""

import io
from functools import partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from kdmri.bundles.location import models_folder
from kdmri.bundles.manifest import ROLES, cascade_file
from kdmri.bundles.store import choose, load_all
from kdmri.formats.kspace import reader as kspace
from kdmri.phantoms import benchmark_scan
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.consistency import DataConsistency
from kdmri.physics.espirit import estimate_sensitivities
from kdmri.physics.fourier import fft2c
from kdmri.physics.sampling import calibration_region
from kdmri.physics.scaling import intensity_scale
from kdmri.physics.sparse_fit import sparse_fit
from kdmri.runtime.backends.selection import available_backends, denoiser
from kdmri.runtime.measurement import measurements
from tools.benchmarks.served import upload

CPU = torch.device("cpu")
BUNDLES = load_all(models_folder())
BACKENDS = available_backends([bundle.manifest for bundle in BUNDLES], CPU)
SCANS = {"1 coil, 256 x 256": (1, 256, 256), "15 coils, 640 x 368": (15, 640, 368)}


@pytest.fixture(params=SCANS)
def acquisition(request: pytest.FixtureRequest) -> Acquisition:
    """A measurement by virtual coils, as the networks receive it."""
    return next(measurements(benchmark_scan(*SCANS[request.param]), CPU)).acquisition


def test_centred_fourier_transform(benchmark: BenchmarkFixture) -> None:
    benchmark(fft2c, torch.zeros(1, 1, 256, 256, dtype=torch.complex64))


def test_intensity_scale(benchmark: BenchmarkFixture, acquisition: Acquisition) -> None:
    benchmark(intensity_scale, acquisition.zero_filled)


def test_normal_operator(benchmark: BenchmarkFixture, acquisition: Acquisition) -> None:
    benchmark(acquisition.normal, acquisition.zero_filled)


def test_data_consistency(benchmark: BenchmarkFixture, acquisition: Acquisition) -> None:
    image, pattern, maps = acquisition.zero_filled / acquisition.scale, acquisition.pattern, acquisition.sensitivities
    # Scripted, as bundles hold it: eager PyTorch would be another measurement.
    benchmark(torch.jit.script(DataConsistency()), image, image, pattern, maps, torch.ones(()))


def test_sparse_fit(benchmark: BenchmarkFixture, acquisition: Acquisition) -> None:
    # Given, because its estimation is not part of the kernel.
    noise = 0.01 * acquisition.scale.flatten()
    benchmark(partial(sparse_fit, acquisition, noise=noise, guide=acquisition.zero_filled))


def test_sensitivities(benchmark: BenchmarkFixture) -> None:
    measured = benchmark_scan(15, 640, 368)
    benchmark(estimate_sensitivities, torch.from_numpy(measured.samples), calibration_region(measured.mask[0]))


@pytest.mark.parametrize("side", [128, 256, 320])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("role", ROLES)
def test_denoiser(benchmark: BenchmarkFixture, role: str, backend: str, side: int) -> None:
    file = choose(BUNDLES, "reconstruction", role=role).folder / cascade_file(1)
    benchmark(denoiser(file, backend, device=CPU, threads=torch.get_num_threads()), torch.zeros(1, side, side, 2))


def test_reading_fastmri(benchmark: BenchmarkFixture) -> None:
    body = upload(benchmark_scan(1, 256, 256))

    def read() -> None:
        with kspace.open_scan(io.BytesIO(body)) as found:
            found.select(slice(0, 1))

    benchmark(read)
