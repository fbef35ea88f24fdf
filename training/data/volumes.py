"""Volumes of the data set as slices to train on."""

import os
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Float, Float16
from numpy import ndarray
from numpy.random import Generator

Slice = Float16[ndarray, "row column"]

ISOTROPIC = 1.3
"""Longest over shortest side of voxels that are sliced in all planes."""


@dataclass(frozen=True)
class Slices:
    """The slices of a split."""

    images: list[Slice]
    volumes: list[int]
    """Number of the volume that each slice belongs to; slices of a volume follow each other."""

    def draw(self, rng: Generator, *, by_volume: bool = False) -> Slice:
        """Draw a slice at random.

        Args:
            rng: source of randomness.
            by_volume: draw a volume first, then one of its slices. An anatomy then appears in proportion to its number
                of volumes, not of slices, so that thin volumes are not lost among thick ones.
        """
        if not by_volume:
            return self.images[rng.integers(len(self.images))]
        first = np.flatnonzero(np.diff(self.volumes, prepend=-1))
        last = np.append(first[1:], len(self.images))
        volume = rng.integers(len(first))
        return self.images[rng.integers(first[volume], last[volume])]


def load_slices(root: Path, split: str, cache: Path, anatomy: str = "*") -> Slices:
    """Read all slices of a split, each scaled by its volume's 99.9th percentile; decoded once into `cache`.

    Volumes of nearly isotropic voxels are sliced in all three planes, as patients are. Slices of air (largest value
    below a tenth of the volume's) are left out.

    Args:
        root: folder with volumes/<split>/<anatomy>/*.nii.gz.
        split: train, val or test.
        cache: folder for the decoded slices.
        anatomy: name of the anatomy's folder; * for all.

    Raises:
        FileNotFoundError: the split has no volume of the anatomy.
    """
    packed = cache / f"{split}-{anatomy.replace('*', 'all')}-volumes.npz"
    if not packed.exists():
        files = sorted((root / "volumes" / split).glob(f"{anatomy}/*.nii.gz"))
        if not files:
            raise FileNotFoundError(f"expected volumes/{split}/{anatomy}/*.nii.gz in the data folder, found none")
        stacks = [_slices(file) for file in files]
        volumes = [number for number, stack in enumerate(stacks) for _ in stack]
        cache.mkdir(parents=True, exist_ok=True)
        # Two runs may start side by side: each writes to a file of its own and renames it once it is complete, so
        # that no run reads half a file.
        part = packed.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, *[image for stack in stacks for image in stack], volumes=volumes)
        part.rename(packed)
    with np.load(packed) as archive:
        return Slices(
            [archive[name] for name in archive.files if name != "volumes"], [int(n) for n in archive["volumes"]]
        )


def load_volume(file: Path) -> Float[ndarray, "slice row column"]:
    """Read a volume in its own units; on disk its axes are row, column and slice."""
    # NIfTI's own class: the type that nibabel's generic loader returns declares neither data nor spacing.
    return np.moveaxis(np.asarray(nibabel.Nifti1Image.from_filename(file).dataobj, dtype=np.float32), -1, 0)


def _slices(file: Path) -> list[Slice]:
    volume = load_volume(file)
    volume = volume / np.percentile(volume, 99.9)
    spacing = nibabel.Nifti1Image.from_filename(file).header.get_zooms()
    planes = (0, 1, 2) if max(spacing) < ISOTROPIC * min(spacing) else (0,)
    stacks = (np.moveaxis(volume, axis, 0) for axis in planes)
    return [image.astype(np.float16) for stack in stacks for image in stack if image.max() > 0.1]
