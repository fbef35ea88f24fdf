"""Denoising in bands of rows, so that the memory of a network's features does not grow with the image.

A pixel of a convolutional network depends on a neighbourhood only. A band that is read with as many rows more on either
side as that neighbourhood reaches gives the rows of the whole image.
"""

import torch

from kdmri.bundles.manifest import Manifest
from kdmri.runtime.backends.denoiser import Denoiser, Planes


def reach(manifest: Manifest) -> tuple[int, int]:
    """Return how far a denoiser sees, in rows, and the number of rows that its bands start at multiples of.

    Every convolution of 3 x 3 sees one row further; with `fold` f they work on a grid f times coarser, whose rows must
    fall on the same rows of the image in every band.
    """
    # Manifests of networks that work on the image's own grid state no fold.
    fold = manifest.architecture.get("fold", 1)
    return fold * manifest.architecture["convolutions"], fold


def denoise_in_bands(denoiser: Denoiser, planes: Planes, manifest: Manifest, *, rows: int) -> Planes:
    """Denoise images band by band; the result is that of the whole images.

    Args:
        denoiser: one cascade's network.
        planes: images with the planes last.
        manifest: the model's manifest, which states how far its networks see.
        rows: rows of a band, without the overlap; rounded up to a multiple of the network's fold.
    """
    height = planes.shape[1]
    if rows >= height:
        return denoiser(planes)
    halo, fold = reach(manifest)
    # Rounded up, because a band of less than `fold` rows has none of its own on the coarser grid.
    step = -(-max(rows, 1) // fold) * fold
    # In the order of a denoiser's own result, so that the transforms that follow round as they do for the whole image.
    denoised = torch.empty_like(planes, memory_format=torch.contiguous_format)
    for start in range(0, height, step):
        stop = min(start + step, height)
        # The image's own edges are padded by the network; everywhere else the overlap takes the padding's place.
        top, bottom = max(0, start - halo), min(height, stop + halo)
        denoised[:, start:stop] = denoiser(planes[:, top:bottom])[:, start - top : stop - top]
    return denoised
