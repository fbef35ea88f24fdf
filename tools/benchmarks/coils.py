"""What is made of several coils: the figures of docs/formats.md, as Markdown on standard output. No timings.

    python -m tools.benchmarks.coils --data DATA        DATA is KDMRI_DATA where it is left out

Wants BART (`bart`) and ISMRMRD's tools (`ismrmrd_generate_cartesian_shepp_logan`), and takes some minutes.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from kdmri_training.evaluation.raw import REGULARISATIONS, bart
from torch import Tensor

from kdmri.bundles.location import models_folder
from kdmri.bundles.manifest import ROLES
from kdmri.bundles.store import choose, load_all
from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import reader as formats
from kdmri.operations.undersampling import keep_lines
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.fourier import centre_crop, fft2c, ifft2c, ifftc
from kdmri.physics.sparse_fit import sparse_fit
from kdmri.quality import metrics
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.measurement import measurements, remove_oversampling
from kdmri.runtime.model import load_model

Method = Callable[[KSpace], np.ndarray]

SEEDS = range(5)
COILS = (4, 7, 10, 14, 32)
WIDTHS = ("24", "0")
"""Calibration lines; without any the tool's other repetitions, which have the other lines, calibrate."""
FACTORS = (1, 2, 4)
NOISES = ("0", "0.001", "0.01", "0.05")
"""Of the tool; the last is its default."""
NOISE = "0.01"
"""At which `bounds` are measured."""
BALL, MIDDLE = 13.75, (31.7, 32.5)
"""Radius and middle of the ball in phantom_grappa_16ch, in pixels: it is 11 of 25.6 cm across."""
EXACT = 1e-4
"""Of the largest singular value: SENSE and GRAPPA leave out what is weaker."""


def methods() -> dict[str, Method]:
    """Return the methods that are compared: each gives magnitudes (slice, row, column) of a scan."""
    bundles = load_all(models_folder())
    models = {role: Reconstructor(load_model(choose(bundles, "reconstruction", role=role))) for role in ROLES}
    student = models["student"]
    return {
        "zero-filled": lambda kspace: zero_filled(kspace).pixels,
        "the student's cascades alone": each(student.run_cascades),
        "the fit without a guide": each(sparse_fit),
        "student": lambda kspace: student.reconstruct(kspace).pixels,
        "teacher": lambda kspace: models["teacher"].reconstruct(kspace).pixels,
        **{f"BART's wavelets, {r}": partial(bart, regularisation=r) for r in REGULARISATIONS},
        **{f"student, {coils} virtual coils": with_virtual_coils(student, coils) for coils in COILS},
    }


def with_virtual_coils(reconstructor: Reconstructor, coils: int) -> Method:
    """Return the method that compresses a scan to a number of virtual coils first."""
    return lambda kspace: reconstructor.reconstruct(kspace, coils=coils).pixels


def each(image: Callable[[Acquisition], Tensor]) -> Method:
    """Apply a method for one slice to every slice of a measurement."""

    def answer(kspace: KSpace) -> np.ndarray:
        with torch.inference_mode():
            batches = measurements(kspace, torch.device("cpu"))
            found = [image(batch.acquisition) * batch.unit for batch in batches]
        return torch.cat([centre_crop(part, kspace.image_shape).abs() for part in found]).numpy()

    return answer


# Real scans with a truth


def raw(data: Path) -> None:
    """Tabulate the PSNR of raw scans that were acquired fully sampled."""
    brain, phantom = (formats.read(data / f"{name}.h5") for name in ("brain_16ch", "phantom_32ch"))
    cases = {
        "brain, random 4x": (brain, [keep_lines(brain, 4, seed=seed) for seed in SEEDS]),
        "brain, random 8x": (brain, [keep_lines(brain, 8, seed=seed) for seed in SEEDS]),
        "brain, every 4th line and 16": (brain, [formats.read(data / "brain_16ch_r4.mrd.h5")]),
        "phantom, random 4x": (phantom, [keep_lines(phantom, 4, seed=seed) for seed in SEEDS]),
    }
    truths = {name: zero_filled(full).pixels for name, (full, _) in cases.items()}
    rows = []
    for name, method in methods().items():
        means = [
            np.mean([metrics.psnr(truths[case], method(one)) for one in kept]) for case, (_, kept) in cases.items()
        ]
        rows.append([name, *(f"{mean:.2f}" for mean in means)])
    table(["PSNR in dB", *cases], rows)


# The tool's phantom


def made() -> None:
    """Tabulate the relative error inside the object, against the image of the same tool's fully sampled file."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_made_row(Path(folder), width, noise) for width in WIDTHS for noise in NOISES]
    header = ["calibration lines", "noise of the tool", "full scan against the phantom"]
    table(
        [*header, *(f"every {n} line, {who}" for n in ("2nd", "4th") for who in ("student", "teacher", "cascades"))],
        rows,
    )


def _made_row(folder: Path, width: str, noise: str) -> list[str]:
    scans = {factor: formats.read(generate_scan(folder, factor, width, noise, "-C")) for factor in FACTORS}
    phantom, coils = truth(generate_scan(folder, 1, width, noise, "-C"))
    inside = phantom > 0
    full = zero_filled(scans[1]).pixels[0]
    expected = phantom * np.linalg.norm(coils, axis=0)
    expected *= (full[inside] @ expected[inside]) / (expected[inside] @ expected[inside])
    found = methods()
    chosen = [found[name] for name in ("student", "teacher", "the student's cascades alone")]
    errors = [_difference(method(scans[factor])[0], full, inside) for factor in (2, 4) for method in chosen]
    return [width, noise, *(f"{error:.4f}" for error in (_difference(full, expected, inside), *errors))]


def bounds() -> None:
    """Tabulate the largest gain that the full scan's noise allows in `made`, which all depends on that noise.

    Beyond what is known of object and coils there is the noise of the lines that were measured, which the full scan
    shares, but nothing tells that of the others. Least squares know the coils exactly, but not the object.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Without the tool's noise scan, for its noise is white already.
        files = [generate_scan(folder, 1, "0", noise) for noise in ("0", NOISE)]
        clean, full = (remove_oversampling(formats.read(file)) for file in files)
        phantom, coils = truth(generate_scan(folder, 1, "0", NOISE))
        maps = torch.from_numpy(coils / np.linalg.norm(coils, axis=0)).to(torch.complex64)[None]

        def image(samples: np.ndarray) -> np.ndarray:
            full = Acquisition(torch.from_numpy(samples), torch.ones(1, 1, *samples.shape[-2:]), maps)
            return full.zero_filled[0].abs().numpy()

        reference, inside = image(full.samples), phantom > 0
        unit = _difference(reference, image(clean.samples), inside)
        for width, factor in itertools.product(WIDTHS, (2, 4)):
            mask = formats.read(generate_scan(folder, factor, width, NOISE)).mask[:, :1]
            known = image(np.where(mask[:, np.newaxis], full.samples, clean.samples))
            pattern = torch.from_numpy(mask[:, np.newaxis].astype(np.float32)).expand(1, 1, *reference.shape)
            measured = Acquisition(torch.from_numpy(full.samples) * pattern, pattern, maps)
            found = sense(measured)[0].abs().numpy()
            errors = [_difference(one, reference, inside) / unit for one in (known, found)]
            rows.append([width, str(factor), *(f"{error:.2f}" for error in errors)])
    header = ["calibration lines", "every n-th line", "object, coils and measured noise known"]
    table([*header, "least squares with the tool's own sensitivities"], rows)


def generate_scan(folder: Path, factor: int, width: str, noise: str, *options: str) -> Path:
    """Generate a scan of 256 x 256 by 8 coils with the ISMRMRD tools.

    Args:
        folder: Folder for the file.
        factor: Acceleration.
        width: Number of calibration lines.
        noise: Standard deviation of the noise.
    """
    target = folder / f"{factor}_{width}_{noise}{''.join(options)}.h5"
    if not target.exists():
        size = ["-m", "256", "-c", "8", "-a", str(factor), "-w", width, "-n", noise]
        command: list[str | Path] = ["ismrmrd_generate_cartesian_shepp_logan", *size, *options, "-o", target]
        subprocess.run(command, check=True, capture_output=True)
    return target


def truth(source: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the magnitude and coil sensitivities of the tool's phantom; its arrays have the readout in columns."""
    with h5py.File(source) as file:
        phantom, coils = (_complex(file["dataset"][name][0]) for name in ("phantom", "csm"))
    return np.abs(phantom).squeeze().T, coils.squeeze().swapaxes(-1, -2)


def _complex(pairs: np.ndarray) -> np.ndarray:
    return pairs["real"] + 1j * pairs["imag"]


def _difference(image: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> float:
    """Compute the relative error inside a region.

    Args:
        image: Magnitudes.
        reference: Magnitudes to compare with.
        inside: True inside the object.
    """
    return float(np.linalg.norm((image - reference)[inside]) / np.linalg.norm(reference[inside]))


# The ghost


def ghost(data: Path) -> None:
    """Compute the root of the energy half a field of view from the ball, and beside it, over that of the ball."""
    scan = formats.read(data / "phantom_grappa_16ch.mrd.h5")
    assert scan.calibration is not None
    row, column = np.mgrid[:64, :64] - np.array(MIDDLE)[:, None, None]
    ball, shifted = np.hypot(row, column) < BALL + 2, np.hypot(row, (column + 64) % 64 - 32) < BALL
    air = np.hypot((row + 64) % 64 - 32, (column + 64) % 64 - 32) < BALL
    images = {name: method(scan) for name, method in methods().items() if "virtual" not in name}
    images |= {"SENSE": each(sense)(scan), "GRAPPA, 4 x 5": grappa(scan)}
    images |= {"the calibration lines alone, zero-filled": zero_filled(scan.calibration).pixels}
    rows = []
    for name, pixels in images.items():
        energy = [float((pixels[0][where & ~ball] ** 2).sum()) for where in (shifted, air)]
        whole = float((pixels[0][ball] ** 2).sum())
        rows.append([name, *(f"{(part / whole) ** 0.5:.3f}" for part in energy)])
    table(["", "ghost", "air"], rows)


def sense(acquisition: Acquisition) -> Tensor:
    """Solve for the least-squares image, row by row, densely (Pruessmann 1999); masks of whole lines only."""
    samples, mask, maps = acquisition.samples, acquisition.mask, acquisition.sensitivities
    lines = mask[0, 0, 0] > 0
    columns = samples.shape[-1]
    transform = fft2c(torch.eye(columns, dtype=samples.dtype)[:, None])[:, 0].T[lines]
    hybrid = ifftc(samples, -2)
    system = (transform * maps.permute(0, 2, 1, 3).unsqueeze(-2)).flatten(2, 3)
    measured = hybrid.permute(0, 2, 1, 3)[..., lines].flatten(2)
    return (torch.linalg.pinv(system, rtol=EXACT) @ measured.unsqueeze(-1)).squeeze(-1)


def grappa(scan: KSpace, rows: int = 5, lines: int = 4) -> np.ndarray:
    """Fill in every second line with GRAPPA kernels (Griswold 2002), and combine coils by root sum of squares.

    Args:
        scan: Multi-coil k-space with calibration lines.
        rows: Neighbours along the readout.
        lines: Neighbouring measured lines.
    """
    if scan.calibration is None:
        raise ValueError("expected k-space with calibration lines, got none")
    calibration = scan.calibration.samples[0][..., np.flatnonzero(scan.calibration.mask[0, 0])]
    offsets = np.arange(lines) * 2 - lines + 1
    patches, targets = [], []
    for centre in range(lines - 1, calibration.shape[-1] - lines + 1):
        window = np.lib.stride_tricks.sliding_window_view(calibration[..., centre + offsets], rows, axis=1)
        patches.append(window.transpose(1, 0, 2, 3).reshape(window.shape[1], -1))
        targets.append(calibration[:, rows // 2 : -(rows // 2), centre].T)
    weights = np.linalg.pinv(np.concatenate(patches), rcond=EXACT * 10) @ np.concatenate(targets)
    full = scan.samples[0].copy()
    padded = np.pad(full, ((0, 0), (rows // 2, rows // 2), (lines, lines)))
    for column in np.flatnonzero(~scan.mask[0, 0]):
        window = np.lib.stride_tricks.sliding_window_view(padded[..., column + lines + offsets], rows, axis=1)
        full[..., column] = (window.transpose(1, 0, 2, 3).reshape(full.shape[1], -1) @ weights).T
    return torch.linalg.vector_norm(ifft2c(torch.from_numpy(full)), dim=0)[None].numpy()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Format rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.coils")
    data = os.environ.get("KDMRI_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None, help="the data set; KDMRI_DATA")
    kspace = parser.parse_args().data / "kspace"
    made()
    bounds()
    ghost(kspace)
    raw(kspace)


if __name__ == "__main__":
    main()
