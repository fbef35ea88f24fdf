"""Zero frequency of measured k-space: found from the samples, and moved to the centre of the grid.

A circular shift of k-space multiplies the image by a phase of magnitude 1, so the magnitude image stays. What a shift
changes is which samples calibrate the coils, and what the networks see: both expect zero frequency at n // 2. Headers
and layouts get this place wrong (zero frequency in the corner, a centre of partial Fourier that counts from another
line, an echo that the sampling window missed), so the samples are asked.
"""

import numpy as np
from jaxtyping import Bool, Complex64, Float
from numpy import ndarray

Shift = tuple[int, int]

MIN_TOLERANCE = 4
"""Rows or columns by which the strongest sample of a well-centred scan may miss the centre, at least."""
TOLERANCE_SHARE = 16
"""One part in this many of the axis is tolerated on longer axes: M4Raw's echoes are displaced by up to 3%."""
DOMINANCE = 4.0
"""Times the energy near the centre that a sample elsewhere must have to be taken for zero frequency. Without it, noise
or a scan that lacks its centre would be shifted."""


def energy(samples: Complex64[ndarray, "slice coil row column"]) -> Float[ndarray, "row column"]:
    """Sum |y|^2 over slices and coils."""
    # In double precision and one coil at a time: squares of float32 overflow, and no copy of all samples is made.
    total: ndarray = np.zeros(samples.shape[-2:])
    for coils in samples:
        for coil in coils:
            total += coil.real.astype(np.float64) ** 2 + coil.imag.astype(np.float64) ** 2
    return total


def displacement(power: Float[ndarray, "row column"]) -> Shift:
    """Return the shift (rows, columns) that brings zero frequency to the centre; 0 where it is there already.

    Args:
        power: energy of the samples over all coils, zero where nothing was measured.
    """
    centre = [length // 2 for length in power.shape]
    peak = np.unravel_index(int(power.argmax()), power.shape)
    tolerance = [max(MIN_TOLERANCE, length // TOLERANCE_SHARE) for length in power.shape]
    near = power[tuple(slice(max(0, c - t), c + t + 1) for c, t in zip(centre, tolerance, strict=True))]
    # Nothing measured near the centre is no evidence: one frame of an interleaved scan may lack it by design.
    if not near.max(initial=0) > 0 or not power[peak] > DOMINANCE * near.max():
        return 0, 0
    # An axis on which the peak is near enough stays as the header has it: the peak is only exact to some samples.
    rows, columns = (c - int(p) if abs(int(p) - c) > t else 0 for p, c, t in zip(peak, centre, tolerance, strict=True))
    return rows, columns


def shift_samples(
    samples: Complex64[ndarray, "slice coil row column"], shift: Shift
) -> Complex64[ndarray, "slice coil row column"]:
    """Roll rows and columns; the array itself where there is nothing to shift."""
    return np.roll(samples, shift, axis=(-2, -1)) if any(shift) else samples


def shift_mask(mask: Bool[ndarray, "slice row column"], shift: Shift) -> Bool[ndarray, "slice row column"]:
    """Roll a mask as `shift_samples` rolls its samples."""
    return np.roll(mask, shift, axis=(-2, -1)) if any(shift) else mask


def note(shape: tuple[int, int], shift: Shift) -> tuple[str, ...]:
    """Describe a shift with both places; nothing where there was none."""
    if not any(shift):
        return ()
    centre = shape[0] // 2, shape[1] // 2
    found = tuple((c - s) % n for c, s, n in zip(centre, shift, shape, strict=True))
    return (
        f"The strongest samples lie at row {found[0]}, column {found[1]}, where the file's layout has zero frequency "
        f"at row {centre[0]}, column {centre[1]}: k-space was shifted to its strongest samples.",
    )
