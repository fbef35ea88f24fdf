"""The kernels of a request one by one, by pytest-benchmark: `make kernels`. What `make bench` measures together.

To compare two states of the code: `--benchmark-save=before`, then `--benchmark-compare` (see pytest-benchmark). Times
only: counters of instructions are seldom to be had on virtual machines, and valgrind does not know AVX-512.
"""

import io
from functools import partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import kdmri
from kdmri.benchmark import scan
from kdmri.bundles.manifest import ROLES, cascade_file
from kdmri.bundles.store import choose, load_all
from kdmri.formats.kspace import reader as kspace
from kdmri.physics.coils import sensitivities
from kdmri.physics.consistency import DataConsistency, fft_order, normal
from kdmri.physics.fourier import fft2c
from kdmri.physics.sampling import calibration_region
from kdmri.physics.scaling import intensity_scale
from kdmri.physics.sparse_fit import sparse_fit
from kdmri.runtime.backends.selection import denoiser, offered
from kdmri.runtime.reconstructor import backprojected, measurements
from tools.benchmarks.served import upload

CPU = torch.device("cpu")
BUNDLES = load_all(kdmri.MODELS)
BACKENDS = offered([bundle.manifest for bundle in BUNDLES], CPU)
SCANS = {"1 coil, 256 x 256": (1, 256, 256), "15 coils, 640 x 368": (15, 640, 368)}


@pytest.fixture(params=SCANS)
def problem(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    """A x = y as data consistency takes it: A^H y, the mask in the FFT's order, sensitivities of virtual coils."""
    samples, mask, maps = next(measurements(scan(*SCANS[request.param]), CPU))
    image = backprojected(samples, maps)
    return image / intensity_scale(image), fft_order(mask), maps


def test_centred_fourier_transform(benchmark: BenchmarkFixture) -> None:
    benchmark(fft2c, torch.zeros(1, 1, 256, 256, dtype=torch.complex64))


def test_intensity_scale(benchmark: BenchmarkFixture, problem: tuple[Tensor, Tensor, Tensor]) -> None:
    benchmark(intensity_scale, problem[0])


def test_normal_operator(benchmark: BenchmarkFixture, problem: tuple[Tensor, Tensor, Tensor]) -> None:
    benchmark(normal, *problem)


def test_data_consistency(benchmark: BenchmarkFixture, problem: tuple[Tensor, Tensor, Tensor]) -> None:
    image, mask, maps = problem
    benchmark(torch.jit.script(DataConsistency()), image, image, mask, maps, torch.ones(()))


def test_sparse_fit(benchmark: BenchmarkFixture, problem: tuple[Tensor, Tensor, Tensor]) -> None:
    benchmark(partial(sparse_fit, *problem, noise=torch.full((1,), 0.01), guide=problem[0]))


def test_sensitivities(benchmark: BenchmarkFixture) -> None:
    measured = scan(15, 640, 368)
    benchmark(sensitivities, torch.from_numpy(measured.samples), calibration_region(measured.mask[0]))


@pytest.mark.parametrize("side", [128, 256, 320])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("role", ROLES)
def test_denoiser(benchmark: BenchmarkFixture, role: str, backend: str, side: int) -> None:
    file = choose(BUNDLES, "reconstruction", role=role).folder / cascade_file(1)
    benchmark(denoiser(file, backend, device=CPU, threads=torch.get_num_threads()), torch.zeros(1, side, side, 2))


def test_reading_fastmri(benchmark: BenchmarkFixture) -> None:
    body = upload(scan(1, 256, 256))

    def read() -> None:
        with kspace.opened(io.BytesIO(body)) as found:
            found.select(slice(0, 1))

    benchmark(read)
