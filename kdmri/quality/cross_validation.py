"""Cross-validation in k-space: measured samples are withheld, and the reconstruction without them predicts them.

Figures that compare an answer with what was measured cannot see what was not. Withheld samples can be seen: the error
of their prediction tells how much the method knows of samples that nobody measured.
"""

import zlib
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float64
from numpy import ndarray
from torch import Tensor

from kdmri.data.evidence import Evidence
from kdmri.data.kspace import KSpace, Scan, stack
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.noise import noise_deviations
from kdmri.physics.sampling import calibration_region

FOLDS = 6
"""Every fold withholds one sixth of the measured lines outside the centre."""
SLICES = 6
"""Largest number of slices that are reconstructed again, spread over the scan: each withholds another fold, so that six
slices withhold every line once. This bounds the cost for a scan of many slices."""
CENTRE = 2
"""Columns (and rows) on either side of zero frequency that are never withheld, even where the scan itself has no
calibration region: the fit of several coils takes another path without them."""
LEAST_DENSITY = 1e-3
"""Least share of the energy of a sample that is taken as signal once the energy of the noise is subtracted."""

Mask = Bool[ndarray, "slice row column"]


def withhold(scan: Scan) -> KSpace | None:
    """Divide a scan into samples to reconstruct from and samples to predict.

    The draw depends on the mask alone: the same scan always withholds the same samples.

    Args:
        scan: The scan; at most SLICES of its slices are read.

    Returns:
        Some of the slices without the samples in `withheld`, or None if nothing is missing from the scan or too few
        lines lie outside the centre to withhold any.
    """
    count = scan.shape[0]
    if scan.mask.all():
        return None
    chosen = np.unique(np.linspace(0, count - 1, min(count, SLICES)).round().astype(int)) if count > 1 else [0]
    masks = [scan.mask[min(number, len(scan.mask) - 1)] for number in chosen]
    draws = [draw_withheld(mask, fold) for fold, mask in enumerate(masks)]
    if not all(draw.any() for draw in draws):
        return None
    # Without patient data: the parts are reconstructed again, and no DICOM is written of them.
    parts = [scan.select(slice(number, number + 1)).without_patient() for number in chosen]
    withheld, whole = np.stack(draws), stack(parts)
    kept = np.stack(masks) & ~withheld
    apart = replace(whole, samples=whole.samples * withheld[:, None], mask=withheld, calibration=None, notes=())
    return replace(whole, samples=whole.samples * kept[:, None], mask=kept, withheld=apart, notes=())


def draw_withheld(mask: Bool[ndarray, "row column"], fold: int) -> Bool[ndarray, "row column"]:
    """Draw one of FOLDS disjoint parts of the measured samples outside the centre.

    Whole lines are withheld where whole lines were measured, points elsewhere. Neighbours in distance from the centre
    go to different folds, so that every fold reaches from low to high frequencies.

    Args:
        mask: True where a sample was measured.
        fold: Number of the part; modulo FOLDS.

    Returns:
        True where a sample is withheld; nowhere if fewer than FOLDS lines or points lie outside the centre.
    """
    outside = mask & ~_centre(mask)
    rows, columns = np.any(mask, axis=1), np.any(mask, axis=0)
    lines = np.array_equal(mask, rows[:, None] & columns)
    # A line counts as outside only if all of it is.
    candidates = np.flatnonzero(columns & ~_centre(mask).any(axis=0)) if lines else np.flatnonzero(outside)
    numbers = candidates if lines else candidates % mask.shape[1]
    distance = np.abs(numbers - mask.shape[1] // 2).astype(float)
    if not lines:
        distance = _radius(mask.shape)[outside]
    draw = np.zeros(mask.shape, bool)
    if len(candidates) < FOLDS:
        return draw
    # Seeded by the mask, so that a repeated request gets the same figures.
    rng = np.random.default_rng(zlib.crc32(np.packbits(mask).tobytes()))
    # Shuffling before the stable sort breaks the ties of samples at one distance.
    shuffled = rng.permutation(len(candidates))
    order = shuffled[np.argsort(distance[shuffled], kind="stable")]
    groups = -(-len(order) // FOLDS)
    numbers_of_fold = np.concatenate([rng.permutation(FOLDS) for _ in range(groups)])[: len(order)]
    picked = candidates[order[numbers_of_fold == fold % FOLDS]]
    if lines:
        draw[:, picked] = True
        return draw & mask
    draw.flat[picked] = True
    return draw


def _centre(mask: Bool[ndarray, "row column"]) -> Bool[ndarray, "row column"]:
    """Return True inside the calibration region, and within CENTRE of zero frequency."""
    centre = np.zeros(mask.shape, bool)
    centre[calibration_region(mask)] = True
    row, column = (length // 2 for length in mask.shape)
    centre[max(row - CENTRE, 0) : row + CENTRE + 1, max(column - CENTRE, 0) : column + CENTRE + 1] = True
    return centre


def _radius(shape: tuple[int, ...]) -> Float64[ndarray, "row column"]:
    """Return the distance of every sample from zero frequency, in columns."""
    rows, columns = shape
    row = (np.arange(rows) - rows // 2) * columns / rows
    return np.hypot(row[:, None], np.arange(columns) - columns // 2)


def evidence(
    image: Complex[Tensor, "slice row column"], kept: Acquisition, withheld: Acquisition
) -> Float64[Tensor, "slice energy"]:
    """Hold the prediction of withheld samples against their measurement.

    Args:
        image: What was reconstructed from `kept`.
        kept: The samples that remained.
        withheld: The samples that did not, of the same coils.

    Returns:
        The energies of Evidence for each slice, in the order of its fields, in squared units of the samples.
    """
    deviations = noise_deviations(kept.samples + withheld.samples).double().cpu()
    per_sample = 2 * deviations**2 * kept.coils
    masks = [part.mask[:, 0].expand(len(image), -1, -1).cpu() > 0 for part in (kept, withheld)]
    # Noise is independent of the prediction: it adds its own energy to the misfit, which is subtracted here.
    count = masks[1].sum(dim=(1, 2))
    noise = per_sample * count
    error = (withheld.misfit(image).double().cpu() - noise).clamp(min=0)
    power = (kept.samples + withheld.samples).abs().square().sum(dim=1).double().cpu()
    measured = masks[0] | masks[1]
    rows = []
    for number in range(len(image)):
        whole = power[number].numpy()
        known = float(whole[masks[1][number].numpy()].sum())
        signal = max(known - float(noise[number]), LEAST_DENSITY * known)
        missing, total = _energies(whole, measured[number].numpy(), float(per_sample[number]))
        # Coils combine to one image with sum |S|^2 = 1: of the noise of all coils, one coil's share remains.
        remains = float(per_sample[number]) / kept.coils * int(measured[number].sum())
        rows.append([float(error[number]), signal, missing, total, remains])
    return torch.tensor(rows, dtype=torch.float64)


def _energies(power: ndarray, measured: Bool[ndarray, "row column"], noise: float) -> tuple[float, float]:
    """Estimate the energy of the samples that were not measured, and that of all samples.

    The energy of a sample depends on its distance from the centre above all: unmeasured samples are taken to have that
    of measured samples at the same distance, interpolated where there is none.

    Args:
        power: Energy of every sample, summed over coils.
        measured: True where a sample was measured.
        noise: Energy of the noise of one sample, summed over coils.
    """
    rows, columns = measured.shape
    lines = np.array_equal(measured, np.any(measured, axis=1)[:, None] & np.any(measured, axis=0))
    distance = np.broadcast_to(np.abs(np.arange(columns) - columns // 2), (rows, columns))
    ring = (distance if lines else _radius(measured.shape)).round().astype(int)
    counts = np.bincount(ring[measured], minlength=int(ring.max()) + 1)
    sums = np.bincount(ring[measured], power[measured], minlength=len(counts))
    seen = np.flatnonzero((counts > 0) & (sums > 0))
    if len(seen) == 0:
        return 0.0, 0.0
    density = sums[seen] / counts[seen]
    density = np.maximum(density - noise, LEAST_DENSITY * density)
    everywhere = np.exp(np.interp(np.arange(len(counts)), seen, np.log(density)))
    missing = float(everywhere[ring[~measured]].sum())
    return missing, missing + float((density * counts[seen]).sum())


def total(energies: Float64[Tensor, "slice energy"]) -> Evidence:
    """Add up the energies of all slices."""
    return Evidence(*energies.sum(dim=0).tolist())
