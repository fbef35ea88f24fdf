"""What several coils measured, explained by an image of few wavelets: compressed sensing (Lustig et al. 2007).

Least squares alone turn the noise and errors of the sensitivities into grain where the coils hardly tell folded pixels
apart, and networks trained on few coils undo little of it. Sparsity does (docs/decisions/0007). The network's image is
the guide: detail that it shows costs little, detail that it doesn't show has to be asked for by the measurement.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from kdmri.physics.consistency import normal

Image = Complex[Tensor, "batch row column"]

STEPS = 30
"""Of the optimised gradient method. With 0.2% of noise at 4x 20 steps cost 0.6 dB, and 10 more gain 0.1 (validation
volumes with 16 simulated coils, a trial); with steep phases more would gain more (docs/decisions/0007)."""
ROUNDS_WITHOUT_CENTRE = (60, 30, 30, 30)
"""Steps where the lowest frequencies are aliased too, so that the network's image is little of a guide: each round's
image guides the next. Of a phantom at every 4th line 30 steps leave ghosts of 17%, 80 of 2.4%, these of 0.9%
(docs/decisions/0007)."""
LEVELS = 4
"""Scales of the wavelets: the coarsest are 16 pixels wide."""
PER_NOISE = 1.5
"""The threshold of a wavelet that the guide lacks, in standard deviations of the noise in a sample."""
LEAST = 1e-3
"""The threshold without noise, as a share of the bright tissue: sensitivities are never exact."""
KNEE = 0.03
"""A wavelet of the guide as large as this, as a share of the bright tissue, halves its threshold."""
BEGINNING, SHRINKING = 20, 0.8
"""How much larger thresholds are at first, and what is left of that after each step: small ones let an image change
only little in a step, and little noise would need twice as many (Hale et al. 2008, continuation)."""
TRUSTED = 0.04
"""Noise that doubles the knee, in standard deviations of a sample: cascades multiply it where coils hardly tell pixels
apart, and at twice as much the guide shows more noise than tissue. Trusted without a limit, it left 16 coils with 10%
of noise at 4x 5 dB below zero-filling (docs/decisions/0007)."""


def sparse_fit(
    zero_filled: Image,
    mask: Float[Tensor, "slice r column"],
    sensitivities: Complex[Tensor, "batch coil row column"],
    *,
    noise: Float[Tensor, " batch"],
    guide: Image | None = None,
) -> Image:
    """The minimum x of |y - A x|^2 / 2 + sum_i t_i |(W x)_i|, W the Haar wavelets, shifted from step to step.

    t_i = t k / (k + |(W guide)_i|), as in reweighted l1 (Candes et al. 2008); t and k go with the noise. Found by
    the proximal optimised gradient method (Taylor et al. 2017), in two thirds of FISTA's steps, all of length 1 since
    |A| <= 1, with thresholds that shrink to t_i from step to step. Finally what was measured is put back: it costs no
    noise but its own, and undoes what the wavelets took.

    Args:
        zero_filled: A^H y, in units where bright tissue is about 1 (`scaling`).
        mask: of `consistency.fft_order`; on the host, or else a device is waited for.
        sensitivities: with sum |S|^2 = 1.
        noise: standard deviation in the real part of a sample of each slice.
        guide: an image at hand; without one every wavelet costs the same, at first.
    """
    threshold = (PER_NOISE * noise).clamp(min=LEAST)[:, None, None]
    knee = (KNEE * (1 + (noise / TRUSTED) ** 4))[:, None, None]
    image = zero_filled
    guide = torch.zeros_like(image) if guide is None else guide
    # Zero frequency is the first sample, negative ones are the last.
    centred = bool(mask[..., 0, :].roll(2, -1)[..., :4].all())
    mask = mask.to(image.device)

    def consistent(image: Image) -> Image:
        """One gradient step: what each coil measured, put back into what it sees of the image."""
        return image + (zero_filled - normal(image, mask, sensitivities))

    for steps in (STEPS,) if centred else ROUNDS_WITHOUT_CENTRE:
        image = guide = consistent(_minimised(image, consistent, guide, threshold, knee, steps))
    return image


def _minimised(
    image: Image, consistent: Callable[[Image], Image], guide: Image, threshold: Tensor, knee: Tensor, steps: int
) -> Image:
    """The minimum that `sparse_fit` looks for, from `image` on, by so many gradient steps."""
    gradient_step, extrapolated = image, image
    momentum, length = 1.0, 1.0
    for step in range(1, steps + 1):
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
        image = _denoised(extrapolated, guide, length * larger * threshold, knee, turn=step)
    return image


def _denoised(image: Image, guide: Image, threshold: Tensor, knee: Tensor, *, turn: int) -> Image:
    """`image` with its wavelets shrunk, those of another shift every turn: one alone would leave blocks."""
    rows, columns = image.shape[-2:]
    size = 2**LEVELS
    shift = (5 * turn % size, 11 * turn % size)

    def placed(image: Image) -> Image:
        return _rolled(pad(image, (0, -columns % size, 0, -rows % size)), *shift)

    shrunk = _shrunk(placed(image), placed(guide), threshold, knee, LEVELS)
    return _rolled(shrunk, -shift[0], -shift[1])[..., :rows, :columns]


def _rolled(image: Image, down: int, along: int) -> Image:
    """Both axes at once would take fourteen times as long (torch 2.13 on a CPU)."""
    return image.roll(down, -2).roll(along, -1)


def _shrunk(image: Image, guide: Image, threshold: Tensor, knee: Tensor, levels: int) -> Image:
    """Soft thresholds on all wavelets of `levels` scales; the coarsest means stay."""
    if levels == 0:
        return image
    means, *details = _haar(image)
    guide_means, *guide_details = _haar(guide)
    kept = []
    for detail, shown in zip(details, guide_details, strict=True):
        limit = threshold * knee / (knee + shown.abs())
        kept.append(detail * (1 - limit / detail.abs().clamp(min=1e-20)).clamp(min=0))
    return _unhaar(_shrunk(means, guide_means, threshold, knee, levels - 1), *kept)


def _haar(image: Image) -> tuple[Image, Image, Image, Image]:
    """Means and three differences of 2 x 2 pixels, orthonormal."""
    # A product: dividing complex numbers takes ten times as long.
    half = 0.5 * image
    # One pass that takes the pixels apart lets all sums run over contiguous memory.
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
    """The inverse of `_haar`."""
    left, right, left_change, right_change = means + across, means - across, down + diagonal, down - diagonal
    upper = torch.stack((left + left_change, right + right_change), dim=-1).flatten(-2)
    lower = torch.stack((left - left_change, right - right_change), dim=-1).flatten(-2)
    return torch.stack((upper, lower), dim=-2).flatten(-3, -2) * 0.5
