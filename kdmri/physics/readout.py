"""Readout oversampling: scanners sample the readout more densely than requested, which widens the field of view.

The wanted field of view is the centre of the wider one, so that the rest is removed before anything else is computed.
"""

from jaxtyping import Complex
from torch import Tensor

from kdmri.physics.fourier import fftc, ifftc

ROW = -2
"""Axis of the readout."""


def crop_readout(
    samples: Complex[Tensor, "*batch row column"], rows: int
) -> Complex[Tensor, "*batch wanted_row column"]:
    """Return k-space of the centre `rows` of the image, as `fourier.centre_crop` cuts them.

    Args:
        samples: k-space; every readout is sampled completely or not at all, or else the crop would mix in gaps.
        rows: wanted number of rows, at most as many as `samples` has.
    """
    whole = samples.shape[ROW]
    start = whole // 2 - rows // 2
    cropped: Tensor = fftc(ifftc(samples, ROW)[..., start : start + rows, :], ROW)
    return cropped
