"""The readout: scanners sample it more densely than asked, which widens the field of view and is then cut away."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kdmri.data.kspace import KSpace

ROW = -2


def remove_oversampling(kspace: KSpace) -> KSpace:
    """`kspace` of the wanted rows only, so that what follows works on fewer: the same image after `image_shape`'s crop.

    It comes back as it is where there is nothing to remove, or where sampling varies along the readout: then there
    is no whole readout to transform.
    """
    rows, wanted = kspace.samples.shape[ROW], kspace.image_shape[0]
    if wanted >= rows or (kspace.mask != kspace.mask[:, :1]).any():
        return kspace
    samples = np.stack([_cropped(torch.from_numpy(coils), wanted).numpy() for coils in kspace.samples])
    calibration = kspace.calibration and remove_oversampling(kspace.calibration)
    return replace(kspace, samples=samples, mask=kspace.mask[:, :wanted], calibration=calibration)


def _cropped(samples: Tensor, wanted: int) -> Tensor:
    """The image along the rows, cropped around the centre n // 2 as `fourier.centre_crop` does, in k-space again."""
    rows = samples.shape[ROW]
    start = rows // 2 - wanted // 2
    image = torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(samples, ROW), dim=ROW, norm="ortho"), ROW)
    cropped = torch.fft.ifftshift(image[..., start : start + wanted, :], ROW)
    narrowed: Tensor = torch.fft.fftshift(torch.fft.fft(cropped, dim=ROW, norm="ortho"), ROW)
    return narrowed
