"""A student's images compared with its teacher's, on whole volumes: the reference for a service's shadow runs."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from kdmri_training.data.volumes import load_volume
from kdmri_training.evaluation.evaluate import ACCELERATIONS, EVERY, SCALES, simulate_kspace

from kdmri.data.images import Images
from kdmri.physics.resampling import downsample
from kdmri.quality import metrics
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import Reconstructor
from kdmri.runtime.superresolver import SuperResolver


def agreement(student: Model, teacher: Model, data: Path) -> dict[str, dict[str, float]]:
    """Compute PSNR and SSIM against the teacher's volume: means over the test split's volumes, by condition.

    Args:
        student: the student, of any task.
        teacher: its teacher.
        data: folder with volumes/test/<anatomy>/*.nii.gz.

    Returns:
        "psnr" in dB and "ssim" by acceleration or scale, such as "4x".
    """
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
    """Yield each condition of the test set and the model's answer; inputs are those of `evaluate`."""
    volume = load_volume(file)[::EVERY]
    if model.manifest.task == "reconstruction":
        for acceleration in ACCELERATIONS:
            kspace = simulate_kspace(volume, acceleration, seed=0)
            yield f"{acceleration}x", Reconstructor(model).reconstruct(kspace).pixels
        return
    for scale in SCALES:
        rows, columns = (size // scale * scale for size in volume.shape[1:])
        coarse = downsample(torch.from_numpy(volume[:, :rows, :columns]), scale)
        yield f"{scale}x", SuperResolver(model).super_resolve(Images(coarse.numpy()), scale).pixels
