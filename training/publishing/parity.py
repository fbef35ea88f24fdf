"""Parity: the difference between a bundle that is run and the network that it was exported from."""

import numpy as np
import torch
from kdmri_training.data.fields import simulate_phase, simulate_sensitivities
from kdmri_training.networks.cascades import Network
from torch import Tensor

from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.consistency import DataConsistency, fft_order
from kdmri.physics.resampling import as_complex, measured_band, upsample
from kdmri.physics.sampling import centre_lines, random_mask
from kdmri.physics.scaling import intensity_scale
from kdmri.physics.sparse_fit import refine_multicoil
from kdmri.runtime.measurement import measurements
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import Reconstructor
from kdmri.runtime.superresolver import SuperResolver

PARITY = 1e-4
"""Largest relative difference between bundle and network with which a bundle is exported."""
RECONSTRUCTION_SHAPES = ((1, 256, 256), (1, 230, 180), (1, 181, 217), (15, 640, 368))
"""Coils, rows and columns of the inputs: odd sizes among them, because FFT shifts of odd and even sizes differ."""
IMAGE_SHAPES = ((256, 256), (230, 180), (181, 217))


def check_parity(network: Network, model: Model) -> dict[str, float]:
    """Compute the relative l2 difference between a loaded bundle and its network, by shape."""
    if model.manifest.task == "reconstruction":
        return {_label(shape): _reconstruction_parity(network, model, shape) for shape in RECONSTRUCTION_SHAPES}
    return {_label(shape): _enlargement_parity(network, model, shape) for shape in IMAGE_SHAPES}


@torch.no_grad()
def _reconstruction_parity(network: Network, model: Model, shape: tuple[int, int, int]) -> float:
    coils, rows, columns = shape
    rng = np.random.default_rng(rows)
    image = torch.from_numpy(rng.random((rows, columns), dtype=np.float32)) * simulate_phase((rows, columns), rng)
    lines = random_mask(columns, 4, centre_lines(columns, 4), rng)
    mask = np.broadcast_to(lines, (1, rows, columns))
    maps = simulate_sensitivities((rows, columns), coils, rng)
    measured = Acquisition.simulate(
        image[None], torch.from_numpy(lines).float().expand(1, 1, rows, columns), maps[None]
    )
    kspace = KSpace(measured.samples.numpy(), mask, (rows, columns))
    answer = next(Reconstructor(model).complex_images(kspace))
    measurement = next(measurements(kspace, torch.device("cpu")))
    acquisition, scale = measurement.acquisition, measurement.acquisition.scale
    image = network(acquisition.zero_filled / scale, acquisition.mask, acquisition.sensitivities) * scale
    return _relative(answer, refine_multicoil(image, acquisition) * measurement.unit)


@torch.no_grad()
def _enlargement_parity(network: Network, model: Model, shape: tuple[int, int]) -> float:
    pixels = np.random.default_rng(shape[0]).random((1, *shape), dtype=np.float32)
    scale = model.manifest.trained_on["scales"][0]
    answer = torch.from_numpy(SuperResolver(model).super_resolve(Images(pixels), scale).pixels)
    start = upsample(torch.from_numpy(pixels), scale)
    unit = intensity_scale(start)
    start = as_complex(start / unit)
    band = measured_band(shape, scale).float()[None, None]
    detailed = as_complex(network(start.real))
    maps = torch.ones_like(start).unsqueeze(1)
    expected = DataConsistency()(detailed, start, fft_order(band), maps, torch.ones(())).real * unit
    return _relative(answer, expected)


def _label(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _relative(answer: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(answer - expected) / torch.linalg.vector_norm(expected))
