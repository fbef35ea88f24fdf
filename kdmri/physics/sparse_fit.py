"""Compressed sensing of several coils with a guide: an image of few wavelets that explains the measurement.

Least squares alone turn noise and errors of the sensitivities into grain wherever the coils hardly tell folded pixels
apart, and networks trained on few coils undo little of it. Sparsity does (Lustig et al. 2007; docs/decisions/0007). The
network's image is the guide: detail that the guide shows costs little, any other detail must be required by the
measurement.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from kdmri.physics.acquisition import Acquisition
from kdmri.physics.noise import noise_deviations

Image = Complex[Tensor, "batch row column"]

STEPS = 30
"""Steps of the optimised gradient method.

With 0.2% of noise at 4x, 20 steps cost 0.6 dB, and 10 more gain 0.1 (validation volumes with 16 simulated coils, one
trial); with steep phases more steps would gain more (docs/decisions/0007).
"""
ROUNDS_WITHOUT_CENTRE = (60, 30, 30, 30)
"""Steps of each round if the lowest frequencies are aliased too, so that the network's image guides poorly.

Each round's image guides the next. On a phantom sampled at every 4th line 30 steps leave ghosts of 17%, 80 steps 2.4%,
these rounds 0.9% (docs/decisions/0007).
"""
LEVELS = 4
"""Scales of the wavelets: the coarsest are 16 pixels wide."""
PER_NOISE = 1.5
"""Threshold of a wavelet that the guide lacks, in standard deviations of the noise in a sample."""
LEAST = 1e-3
"""Threshold without noise, as a share of the bright tissue: sensitivities are never exact."""
KNEE = 0.03
"""Size of a guide's wavelet that halves its threshold, as a share of the bright tissue."""
BEGINNING, SHRINKING = 20, 0.8
"""Excess of the first thresholds over the last ones, and the part of it that remains after each step.

Small thresholds let an image change only little in a step: with little noise they would need twice as many steps (Hale
et al. 2008, continuation).
"""
TRUSTED = 0.04
"""Noise that doubles the knee, in standard deviations of a sample.

Cascades multiply the noise wherever coils hardly tell pixels apart: at twice this much, the guide shows more noise than
tissue. Without this limit, the guide left 16 coils with 10% of noise at 4x 5 dB below zero-filling
(docs/decisions/0007).
"""


def refine_multicoil(image: Image, acquisition: Acquisition) -> Image:
    """Refine a network's image of several coils by a sparse fit that it guides.

    The image returns unchanged for one coil, whose samples data consistency replaces exactly, and if no sample is
    missing, because the answer is then the plain image.

    Args:
        image: the network's image, in the units of the samples.
        acquisition: the measurement.
    """
    if acquisition.coils == 1 or acquisition.is_complete:
        return image
    return sparse_fit(acquisition, guide=image)


def sparse_fit(
    acquisition: Acquisition, *, guide: Image | None = None, noise: Float[Tensor, " slice"] | None = None
) -> Image:
    """Minimise |y - A x|^2 / 2 + sum_i t_i |(W x)_i| over x; W are Haar wavelets, shifted from step to step.

    t_i = t k / (k + |(W guide)_i|), as in reweighted l1 (Candes et al. 2008); t and k grow with the noise. The proximal
    optimised gradient method (Taylor et al. 2017) needs two thirds of FISTA's steps, all of length 1 since |A| <= 1,
    with thresholds that shrink to t_i from step to step. Finally what was measured is put back: it adds no noise but
    its own, and restores what the wavelets removed.

    Args:
        acquisition: the measurement, of several coils.
        guide: image that shows where detail is, in the units of the samples; without one every wavelet costs the same,
            at first.
        noise: standard deviation of the real part of a sample of each slice; estimated from the samples by default.

    Returns:
        The image in the units of the samples.
    """
    # Thresholds are shares of the bright tissue, so that the fit does not depend on the units of the input.
    scale = acquisition.scale
    deviation = (noise_deviations(acquisition.samples) if noise is None else noise) / scale.flatten()
    threshold = (PER_NOISE * deviation).clamp(min=LEAST)[:, None, None]
    # The fourth power leaves the knee as it is for the noise of most scans, and raises it steeply beyond TRUSTED.
    knee = (KNEE * (1 + (deviation / TRUSTED) ** 4))[:, None, None]
    zero_filled = acquisition.zero_filled / scale
    image = zero_filled
    guide = torch.zeros_like(image) if guide is None else guide / scale

    def consistent(image: Image) -> Image:
        """x + A^H (y - A x): one gradient step."""
        return image + (zero_filled - acquisition.normal(image))

    for steps in (STEPS,) if _has_centre(acquisition) else ROUNDS_WITHOUT_CENTRE:
        # The step after the fit puts back what was measured.
        image = guide = consistent(_minimise(image, consistent, guide, threshold, knee, steps))
    return image * scale


def _has_centre(acquisition: Acquisition) -> bool:
    """Check that the four columns of lowest frequency were measured in the central row of every slice."""
    rows, columns = acquisition.mask.shape[-2:]
    centre = slice(max(0, columns // 2 - 2), columns // 2 + 2)
    return bool((acquisition.mask[..., rows // 2, centre] > 0).all())


def _minimise(
    image: Image, consistent: Callable[[Image], Image], guide: Image, threshold: Tensor, knee: Tensor, steps: int
) -> Image:
    """Take gradient steps towards the minimum of `sparse_fit`.

    Args:
        image: image to start from.
        consistent: one gradient step of the misfit.
        guide: image that shows where detail is.
        threshold: t, of each slice.
        knee: k, of each slice.
        steps: number of steps; the last one is longer, as the method prescribes.
    """
    gradient_step, extrapolated = image, image
    momentum, length = 1.0, 1.0
    for step in range(1, steps + 1):
        # Taylor, Hendrickx and Glineur 2017, "Exact worst-case performance of first-order methods", POGM: momentum is
        # theta and length gamma there; 8 in place of 4 makes the last step longer.
        last, last_step, last_length = momentum, gradient_step, length
        momentum = (1 + math.sqrt(1 + (4 if step < steps else 8) * last**2)) / 2
        length = (2 * last + momentum - 1) / momentum
        gradient_step = consistent(image)
        extrapolated = (
            gradient_step
            + (last - 1) / momentum * (gradient_step - last_step)
            + last / momentum * (gradient_step - image)
            + (last - 1) / (last_length * momentum) * (extrapolated - image)
        )
        larger = 1 + BEGINNING * SHRINKING**step
        image = _denoise(extrapolated, guide, length * larger * threshold, knee, turn=step)
    return image


def _denoise(image: Image, guide: Image, threshold: Tensor, knee: Tensor, *, turn: int) -> Image:
    """Shrink the wavelets of an image, of another shift every turn: a single shift would leave blocks.

    Args:
        image: image to shrink.
        guide: image that shows where detail is.
        threshold: t, of each slice.
        knee: k, of each slice.
        turn: number of the step, which determines the shift.
    """
    rows, columns = image.shape[-2:]
    size = 2**LEVELS
    # 5 and 11 have no factor in common with the 16 pixels of the coarsest wavelets: all shifts along an axis take
    # turns.
    shift = (5 * turn % size, 11 * turn % size)

    # Sizes are padded to a multiple of the coarsest wavelets; what the padding adds is cut off afterwards.
    def place(image: Image) -> Image:
        return _roll(pad(image, (0, -columns % size, 0, -rows % size)), *shift)

    shrunk = _shrink(place(image), place(guide), threshold, knee, LEVELS)
    return _roll(shrunk, -shift[0], -shift[1])[..., :rows, :columns]


def _roll(image: Image, down: int, along: int) -> Image:
    """Roll an image by one axis after the other: both at once take fourteen times as long (torch 2.13 on a CPU).

    Args:
        image: image to roll; pixels that leave on one side come back on the other.
        down: rows to move by.
        along: columns to move by.
    """
    return image.roll(down, -2).roll(along, -1)


def _shrink(image: Image, guide: Image, threshold: Tensor, knee: Tensor, levels: int) -> Image:
    """Apply soft thresholds to all wavelets of `levels` scales; the coarsest means stay.

    Args:
        image: image whose sides are multiples of 2^levels.
        guide: image of the same size, whose wavelets lower the thresholds.
        threshold: t, of each slice.
        knee: k, of each slice.
        levels: number of scales.
    """
    if levels == 0:
        return image
    means, *details = _haar(image)
    guide_means, *guide_details = _haar(guide)
    shrunk = []
    for detail, shown in zip(details, guide_details, strict=True):
        limit = threshold * knee / (knee + shown.abs())
        # Complex numbers keep their phase: the factor shrinks the magnitude by the limit, to zero at least.
        shrunk.append(detail * (1 - limit / detail.abs().clamp(min=1e-20)).clamp(min=0))
    return _unhaar(_shrink(means, guide_means, threshold, knee, levels - 1), *shrunk)


def _haar(image: Image) -> tuple[Image, Image, Image, Image]:
    """Compute the orthonormal means and three differences of 2 x 2 pixels."""
    # A product, because dividing complex numbers takes ten times as long.
    half = 0.5 * image
    # Separating the pixels in one pass lets all sums run over contiguous memory.
    (upper_left, upper_right), (lower_left, lower_right) = (
        half.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).movedim((-3, -1), (0, 1)).contiguous()
    )
    left, right, left_change, right_change = (
        upper_left + lower_left,
        upper_right + lower_right,
        upper_left - lower_left,
        upper_right - lower_right,
    )
    return left + right, left - right, left_change + right_change, left_change - right_change


def _unhaar(means: Image, across: Image, down: Image, diagonal: Image) -> Image:
    """Compute 2 x 2 pixels from their means and differences: the inverse, and so the adjoint, of `_haar`.

    Args:
        means: sums of the four pixels, halved.
        across: left minus right columns.
        down: upper minus lower rows.
        diagonal: the difference of the differences.
    """
    left, right, left_change, right_change = means + across, means - across, down + diagonal, down - diagonal
    upper = torch.stack((left + left_change, right + right_change), dim=-1).flatten(-2)
    lower = torch.stack((left - left_change, right - right_change), dim=-1).flatten(-2)
    return torch.stack((upper, lower), dim=-2).flatten(-3, -2) * 0.5
