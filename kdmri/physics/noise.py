"""Noise of a measurement: its standard deviation, and coils mixed so that their noise is white."""

import numpy as np
import torch
from jaxtyping import Complex, Complex64, Float
from numpy import ndarray
from torch import Tensor

EDGE = 0.05
"""Share of the readout at either end that noise is estimated from: next to no signal is left there."""
NORMAL_MEDIAN = 0.6745
"""Median of |x| for a standard normal x."""
MAX_CONDITION = 1e6
"""Largest condition of a noise covariance that is inverted: a worse one has a dead channel or too few samples."""


def noise_deviation(samples: Complex[Tensor, "coil row column"]) -> float:
    """Estimate the standard deviation of complex Gaussian noise by the median magnitude in the corners of k-space.

    Corners are the ends of the readout (the rows) on lines of the outer half, where even sharp edges leave little
    signal. Zeros are left out: lines that were not measured, parts of a readout that were filled in.

    Returns:
        Deviation of the real part of a sample, equal to that of its imaginary part; 0 if no sample is left.
    """
    # The ends are those of the rows that hold samples: files may pad the readout with zeros (partial echo).
    measured_rows = (samples != 0).any(dim=-1).any(dim=0).cpu().nonzero().flatten()
    if len(measured_rows) == 0:
        return 0.0
    first, last = int(measured_rows[0]), int(measured_rows[-1]) + 1
    rows = max(1, round(EDGE * (last - first)))
    ends = torch.cat([samples[:, first : first + rows], samples[:, last - rows : last]], dim=1)
    # A quarter of the lines at either side is the outer half.
    quarter = ends.shape[-1] // 4
    corners = torch.cat([ends[..., :quarter], ends[..., -quarter:]], dim=-1)
    measured = corners[corners != 0]
    # With few lines none may lie in the corners; the ends of any line are the next best.
    measured = measured if len(measured) else ends[ends != 0]
    return float(torch.view_as_real(measured).abs().median()) / NORMAL_MEDIAN


def noise_deviations(samples: Complex[Tensor, "slice coil row column"]) -> Float[Tensor, " slice"]:
    """Estimate the noise of every slice by `noise_deviation`."""
    return torch.tensor([noise_deviation(coils) for coils in samples], device=samples.device)


def prewhiten(
    samples: Complex64[ndarray, "slice coil row column"], noise: Complex64[ndarray, "coil sample"]
) -> Complex64[ndarray, "slice coil row column"]:
    """Mix coils so that their noise is uncorrelated and equally strong.

    The inverse Cholesky factor of the noise covariance does it (Pruessmann 2001), divided by the mean variance so that
    units stay.

    Args:
        samples: k-space of the scan.
        noise: samples of a noise scan by the same coils.

    Returns:
        Whitened samples, or `samples` unchanged if the covariance cannot be inverted.
    """
    # In double precision: coils that receive nearly the same noise differ by little more than float32's rounding.
    noise = noise.astype(np.complex128) - noise.mean(axis=1, keepdims=True)
    covariance = noise @ noise.conj().T
    # A mean variance of 1 keeps the units of the samples, whatever the units of the noise scan.
    mean_variance = np.trace(covariance).real / len(covariance)
    if not mean_variance > 0 or not np.linalg.cond(covariance) < MAX_CONDITION:
        return samples
    whitening = np.linalg.inv(np.linalg.cholesky(covariance / mean_variance)).astype(np.complex64)
    return np.asarray(np.einsum("vc,scyx->svyx", whitening, samples, optimize=True))
