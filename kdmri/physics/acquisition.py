"""The measurement y = A x and its forward operator A = M F S, as one object.

S multiplies the image by the sensitivities of the coils, F is the centred orthonormal Fourier transform and M keeps the
sampled positions. Single coil is the case S = 1. The operators go coil after coil: one coil's image stays in the
processor's cache and takes no new memory, which all of them at once would (docs/decisions/0003).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kdmri.physics import consistency
from kdmri.physics.coils import expand
from kdmri.physics.fourier import fft2c, ifft2c
from kdmri.physics.scaling import intensity_scale

Image = Complex[Tensor, "slice row column"]
Samples = Complex[Tensor, "slice coil row column"]


@dataclass(frozen=True)
class Acquisition:
    """Samples y of a batch of slices with the mask M and the sensitivities S that they were measured with."""

    samples: Samples
    """y: zero where nothing was measured."""
    mask: Float[Tensor, "slice_or_one 1 row column"]
    """M: 1 where measured, of all slices or of each. It stays on the host, so that asking for its pattern never waits
    for a device."""
    sensitivities: Complex[Tensor, "slice_or_one coil row column"]
    """S, with sum |S|^2 = 1; ones for one coil."""

    @classmethod
    def simulate(cls, image: Image, mask: Tensor, sensitivities: Tensor, noise: Samples | float = 0.0) -> "Acquisition":
        """Measure an image: y = M (F S x + n).

        Args:
            image: x.
            mask: M, see `mask`.
            sensitivities: S, see `sensitivities`.
            noise: n, complex noise of every sample.
        """
        return cls(mask * (fft2c(expand(image, sensitivities)) + noise), mask, sensitivities)

    def to(self, device: torch.device) -> "Acquisition":
        """Return the same measurement with samples and sensitivities on a device."""
        # The mask stays on the host: `is_complete` and `pattern` read it, which would otherwise wait for the device.
        return Acquisition(self.samples.to(device), self.mask, self.sensitivities.to(device))

    @property
    def coils(self) -> int:
        """Number of (virtual) coils."""
        return self.sensitivities.shape[1]

    @cached_property
    def pattern(self) -> Float[Tensor, "slice_or_one r column"]:
        """The mask as data consistency takes it, `consistency.fft_order`, on the device of the samples."""
        return consistency.fft_order(self.mask).to(self.samples.device)

    @cached_property
    def zero_filled(self) -> Image:
        """A^H y, the image that reconstruction starts from."""
        return self._combine(self.samples)

    @cached_property
    def scale(self) -> Float[Tensor, "slice 1 1"]:
        """Brightness of tissue in A^H y, see `scaling.intensity_scale`."""
        return intensity_scale(self.zero_filled)

    @cached_property
    def is_complete(self) -> bool:
        """True if no sample is missing."""
        return bool((self.mask > 0).all())

    def forward(self, image: Image) -> Samples:
        """A x: the samples that would be measured of an image."""
        return torch.stack([self._see(image, coil) for coil in range(self.coils)], dim=1)

    def adjoint(self, samples: Samples) -> Image:
        """A^H y: the zero-filled image of samples."""
        return self._combine(self._mask * samples)

    def normal(self, image: Image) -> Image:
        """A^H A x: what the measurement would see of an image, zero-filled."""
        return consistency.normal(image, self.pattern, self.sensitivities)

    def misfit(self, image: Image) -> Float[Tensor, " slice"]:
        """|A x - y|^2 of every slice."""
        # Samples are zero outside the mask, and M F S x is too: the sum runs over what was measured.
        misfit = torch.zeros(len(image), dtype=self.samples.real.dtype, device=image.device)
        for coil in range(self.coils):
            misfit += power(self._see(image, coil) - self.samples[:, coil])
        return misfit

    @cached_property
    def _mask(self) -> Tensor:
        """The mask on the device of the samples."""
        return self.mask.to(self.samples.device)

    def _see(self, image: Image, coil: int) -> Complex[Tensor, "slice row column"]:
        """M F S_c x: the samples of one coil."""
        return self._mask[:, 0] * fft2c(self.sensitivities[:, coil] * image)

    def _combine(self, samples: Samples) -> Image:
        """S^H F^H of samples that are zero outside the mask."""
        if self.coils == 1:
            # Products with ones would take as long as the transform.
            return ifft2c(samples[:, 0])
        image = torch.zeros_like(samples[:, 0])
        for coil in range(self.coils):
            # In place: a product of its own would be one more array of the image's size for every coil.
            image.addcmul_(self.sensitivities[:, coil].conj(), ifft2c(samples[:, coil]))
        return image


def power(samples: Complex[Tensor, "slice ..."]) -> Float[Tensor, " slice"]:
    """Sum of |.|^2 over the complex numbers of every slice."""
    return torch.view_as_real(samples).square().flatten(1).sum(dim=1)
