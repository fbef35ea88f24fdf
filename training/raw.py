"""Scores on raw k-space, which no network was trained on: genuine phase, noise and coils.

Fully sampled scans lose lines to `kdmri undersample`'s random masks. Compressed sensing by BART is held alongside where
`bart` is installed: at the regularisation that serves it best on each scan, chosen with the truth at hand.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Complex64
from numpy import ndarray

from kdmri.formats import kspace as formats
from kdmri.records import KSpace
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import measurements
from kdmri.undersampling import undersampled
from training.evaluate import ACCELERATIONS, Score, score

SCANS = ("brain_sagittal_1ch", "brain_16ch")
SEEDS = range(5)
REGULARISATIONS = (0.001, 0.005, 0.01, 0.03)


def evaluate(models: list[Model], data: Path) -> Iterator[Score]:
    """Every reconstruction model, zero-filling and BART on every scan, acceleration and seed."""
    for name in SCANS:
        full = formats.read(data / "kspace" / f"{name}.h5")
        truth = zero_filled(full).pixels
        for acceleration in ACCELERATIONS:
            for seed in SEEDS:
                kept = undersampled(full, acceleration, seed=seed)
                answers = {"zero-filled": zero_filled(kept).pixels}
                answers |= {model.manifest.role: Reconstructor(model).reconstruct(kept).pixels for model in models}
                if shutil.which("bart"):
                    answers["BART"] = min(
                        (bart(kept, r) for r in REGULARISATIONS), key=lambda x: np.linalg.norm(x - truth)
                    )
                for method, image in answers.items():
                    yield score("raw k-space", method, name, f"seed {seed}", f"{acceleration}x", truth, image)


def bart(kspace: KSpace, regularisation: float) -> np.ndarray:
    """Wavelet compressed sensing, `bart pics -S -R W:3:0:L -i 60`, with our sensitivities; magnitudes."""
    samples, _, maps = (torch.cat(parts) for parts in zip(*measurements(kspace, torch.device("cpu")), strict=True))
    with TemporaryDirectory() as name:
        folder = Path(name)
        return np.stack([np.abs(_pics(folder, k, s, regularisation)) for k, s in zip(samples, maps, strict=True)])


def _pics(
    folder: Path, samples: torch.Tensor, maps: torch.Tensor, regularisation: float
) -> Complex64[ndarray, "row column"]:
    _write(folder / "kspace", samples.numpy())
    _write(folder / "maps", maps.numpy())
    arguments = ["-S", "-R", f"W:3:0:{regularisation}", "-i", "60", "kspace", "maps", "image"]
    subprocess.run(["bart", "pics", *arguments], cwd=folder, check=True, capture_output=True)
    return np.fromfile(folder / "image.cfl", np.complex64).reshape(samples.shape[1:], order="F")


def _write(file: Path, coil_data: Complex64[ndarray, "coil row column"]) -> None:
    """BART's own format: dimensions row, column, slice, coil, the first running fastest."""
    coils, rows, columns = coil_data.shape
    file.with_suffix(".hdr").write_text(f"# Dimensions\n{rows} {columns} 1 {coils}\n")
    coil_data.transpose(1, 2, 0).ravel(order="F").tofile(file.with_suffix(".cfl"))
