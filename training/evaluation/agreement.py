"""A student's images held against its teacher's, on whole volumes: what a service's shadow comparison should find."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from kdmri_training.data.simulation import load_volume
from kdmri_training.evaluation.evaluate import ACCELERATIONS, EVERY, SCALES, undersampled

from kdmri.data.images import Images
from kdmri.physics.resampling import downsample
from kdmri.quality import metrics
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import Reconstructor
from kdmri.runtime.superresolver import SuperResolver


def agreement(student: Model, teacher: Model, data: Path) -> dict[str, dict[str, float]]:
    """PSNR and SSIM, the teacher's volume as the reference: means over the test split's volumes, by condition."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for file in sorted((data / "volumes" / "test").glob("*/*.nii.gz")):
        pairs = zip(_answers(student, file), _answers(teacher, file), strict=True)
        for (condition, image), (_, reference) in pairs:
            found[condition].append((metrics.psnr(reference, image), metrics.ssim(reference, image)))
    return {
        condition: {name: round(float(mean), 5) for name, mean in zip(("psnr", "ssim"), np.mean(pairs, 0), strict=True)}
        for condition, pairs in found.items()
    }


def _answers(model: Model, file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Conditions of the test set, and a model's answer in each: the inputs are those of `evaluate`."""
    volume = load_volume(file)[::EVERY]
    if model.manifest.task == "reconstruction":
        for acceleration in ACCELERATIONS:
            kspace = undersampled(volume, acceleration, seed=0)
            yield f"{acceleration}x", Reconstructor(model).reconstruct(kspace).pixels
        return
    for scale in SCALES:
        rows, columns = (size // scale * scale for size in volume.shape[1:])
        coarse = downsample(torch.from_numpy(volume[:, :rows, :columns]), scale)
        yield f"{scale}x", SuperResolver(model).super_resolve(Images(coarse.numpy()), scale).pixels
