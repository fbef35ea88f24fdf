"""Image quality, one definition for training, tests and service. Arrays are magnitude images or volumes."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_laplace
from skimage.metrics import structural_similarity

Volume = Float[ndarray, "slice row column"]


def nmse(truth: Volume, image: Volume) -> float:
    """Squared error over squared norm of the truth."""
    return float(np.sum((image - truth) ** 2) / np.sum(truth**2))


def psnr(truth: Volume, image: Volume) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the maximum of the true volume. Infinite for equal volumes."""
    error = np.mean((np.asarray(image, np.float64) - truth) ** 2)
    return float(10 * np.log10(float(truth.max()) ** 2 / error)) if error > 0 else float("inf")


def ssim(truth: Volume, image: Volume) -> float:
    """Mean structural similarity over slices, 7 x 7 window, data range = volume maximum, as in fastMRI."""
    # The maximum of the volume, not of the slice: fastMRI's choice, without which dark end slices would dominate.
    data_range = float(truth.max())
    return float(
        np.mean([structural_similarity(t, i, data_range=data_range) for t, i in zip(truth, image, strict=True)])
    )


def hfn(truth: Volume, image: Volume) -> float:
    """High-frequency error norm: nmse's root after a Laplacian of Gaussian, sigma 1.5 pixels (Ravishankar 2011)."""
    # The filter is linear, so filtering the error is filtering both images and taking the difference.
    edges = np.stack([gaussian_laplace(np.asarray(t, np.float64), 1.5) for t in truth])
    errors = np.stack([gaussian_laplace(np.asarray(i - t, np.float64), 1.5) for t, i in zip(truth, image, strict=True)])
    return float(np.linalg.norm(errors) / np.linalg.norm(edges))
