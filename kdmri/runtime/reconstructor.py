"""Reconstruction of k-space: cascades of a denoiser and data consistency, and a sparse fit for several coils."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Complex, Float32, Float64
from torch import Tensor

from kdmri.data.evidence import Evidence
from kdmri.data.images import Images
from kdmri.data.kspace import Scan, concatenate
from kdmri.physics.acquisition import Acquisition, power
from kdmri.physics.fourier import centre_crop
from kdmri.physics.sparse_fit import refine_multicoil
from kdmri.quality import cross_validation
from kdmri.runtime.bands import denoise_in_bands
from kdmri.runtime.measurement import Measurement, measurements, require_finite
from kdmri.runtime.memory import rows_per_band
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, measure_nothing, report_slices


class Reconstructor:
    """A reconstruction model made runnable."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def reconstruct(self, kspace: Scan, *, coils: int | None = None, stage: Stage = measure_nothing) -> Images:
        """Reconstruct magnitude images in the units of the input, cropped to `kspace.image_shape`.

        Args:
            kspace: the scan; its slices are read as they are needed.
            coils: number of virtual coils; by default as many as keep the energy of the calibration region.
            stage: announces the stages of the work.

        Raises:
            UnsupportedInput: several coils have no fully sampled centre, or a sample or the image is not finite.
            ExceedsMemory: the request needs more memory than the device has.
        """
        pixels, powers, energies = self._magnitudes(kspace, coils, stage)
        return Images(pixels, kspace.geometry, _residual(powers), _evidence(energies))

    def reconstruct_each(self, scans: Sequence[Scan], *, stage: Stage = measure_nothing) -> list[Images]:
        """Reconstruct scans of equal `batch_key` in one pass; each result is what `reconstruct` returns for its scan.

        Args:
            scans: scans of one slice and one coil.
            stage: announces the stages of the work, for all scans together.

        Raises:
            UnsupportedInput: a sample or an image is not finite.
        """
        with stage("parse"):
            slices = concatenate([scan.select(slice(0, 1)) for scan in scans])
        pixels, powers, energies = self._magnitudes(slices, None, stage)
        results = zip(scans, pixels[:, None], powers[:, None], energies[:, None], strict=True)
        # A batch may hold scans with samples withheld beside scans without: only the first have evidence.
        return [
            Images(image, scan.geometry, _residual(power), _evidence(energy)) for scan, image, power, energy in results
        ]

    def complex_images(
        self, kspace: Scan, *, stage: Stage = measure_nothing
    ) -> Iterator[Complex[Tensor, "slice row column"]]:
        """Yield complex images on the sampled grid without readout oversampling, a batch of slices at a time."""
        return (image * measurement.unit for image, measurement in self._images(kspace, None, stage))

    @torch.inference_mode()
    def run_cascades(
        self, acquisition: Acquisition, *, stage: Stage = measure_nothing
    ) -> Complex[Tensor, "slice row column"]:
        """Alternate denoisers and data consistency: the network's image, before `refine_multicoil`."""
        with stage("data_consistency"):
            # Networks were trained on images whose bright tissue is about 1.
            scale = acquisition.scale
            image = start = acquisition.zero_filled / scale
            pattern, sensitivities = acquisition.pattern, acquisition.sensitivities
            rows = rows_per_band(image.device, rows=image.shape[-2], columns=len(image) * image.shape[-1])
        for denoiser in self.model.denoisers:
            with stage("denoise"):
                # A view: real and imaginary part become the last axis without a copy.
                planes = torch.view_as_real(image)
                image = torch.view_as_complex(denoise_in_bands(denoiser, planes, self.model.manifest, rows=rows))
            with stage("data_consistency"):
                image = self.model.consistency(image, start, pattern, sensitivities, self.model.step)
        return image * scale

    @torch.inference_mode()
    def _images(
        self, kspace: Scan, coils: int | None, stage: Stage
    ) -> Iterator[tuple[Complex[Tensor, "slice row column"], Measurement]]:
        """Yield images in the units of their measurements, batch by batch.

        Args:
            kspace: the scan.
            coils: number of virtual coils, or None to keep the energy of the calibration region.
            stage: announces the stages of the work.

        Yields:
            Complex images before the crop, and the measurement that they were made from.
        """
        for measurement in measurements(kspace, self.model.device, stage, coils=coils):
            acquisition = measurement.acquisition
            image = self.run_cascades(acquisition, stage=stage)
            with stage("data_consistency"):
                image = refine_multicoil(image, acquisition)
            yield image, measurement

    def _magnitudes(
        self, kspace: Scan, coils: int | None, stage: Stage
    ) -> tuple[Float32[np.ndarray, "slice row column"], Float64[Tensor, "slice 2"], Float64[Tensor, "slice energy"]]:
        """Return magnitude images, |A x - y|^2 and |y|^2 of every slice, and its energies of cross-validation."""
        pixels, powers, energies = [], [], []
        for image, measurement in self._images(kspace, coils, stage):
            with stage("data_consistency"), torch.inference_mode():
                # Copying to the host waits for a device: that time is part of the stage.
                pixels.append((centre_crop(image, kspace.image_shape).abs() * measurement.unit).cpu())
                acquisition = measurement.acquisition
                squares = torch.stack([acquisition.misfit(image), power(acquisition.samples)], dim=1).cpu()
                # In double precision: the square of a unit may be beyond float32's range.
                square_unit = measurement.unit[:, 0].cpu().double() ** 2
                powers.append(squares.double() * square_unit)
                if measurement.withheld is None:
                    energies.append(torch.zeros(len(image), len(fields(Evidence)), dtype=torch.float64))
                else:
                    energies.append(cross_validation.evidence(image, acquisition, measurement.withheld) * square_unit)
            if measurement.withheld is None:
                # Slices that are reconstructed again to predict their quality are no progress of the answer.
                report_slices(len(image))
        return require_finite(torch.cat(pixels)).numpy(), torch.cat(powers), torch.cat(energies)


def batch_key(scan: Scan) -> Hashable | None:
    """Return a key that is equal for scans that may share a batch, or None if this scan must run alone.

    Only single-slice, single-coil scans are batched: coil compression keeps as many components as the most demanding
    slice needs, so that a multi-coil result would depend on the other scans in its batch. Whole lines and other
    patterns are kept apart because readout oversampling is removed from all slices of a batch or from none.
    """
    slices, coils, *grid = scan.shape
    if slices > 1 or coils > 1:
        return None
    return (*grid, *scan.image_shape, bool((scan.mask == scan.mask[:, :1]).all()))


@torch.inference_mode()
def zero_filled(kspace: Scan) -> Images:
    """Compute the plain inverse Fourier transform with combined coils: the networks' input, and the baseline.

    Raises:
        UnsupportedInput: several coils have no fully sampled centre, or a sample or the image is not finite.
    """
    parts = [
        centre_crop(measurement.acquisition.zero_filled, kspace.image_shape).abs() * measurement.unit
        for measurement in measurements(kspace, torch.device("cpu"))
    ]
    return Images(require_finite(torch.cat(parts)).numpy(), kspace.geometry)


def _evidence(energies: Float64[Tensor, "slice energy"]) -> Evidence | None:
    """Add up the energies of slices; None if no samples were withheld from them."""
    found = cross_validation.total(energies)
    return found if found.withheld else None


def _residual(powers: Float64[Tensor, "slice 2"]) -> float:
    """|A x - y| / |y| over slices, from the squares of both."""
    # A scan without any signal is explained by its image, which is zero: 0 / 1.
    misfit, measured = powers.sum(dim=0).tolist()
    return float((misfit / (measured or 1)) ** 0.5)
