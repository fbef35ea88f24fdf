"""Operations on a scan or a series: undersample, reconstruct, super-resolve."""

from kdmri.api.loading import load
from kdmri.api.result import Result
from kdmri.bundles.manifest import Task
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace, Scan
from kdmri.errors import InvalidRequest, UnsupportedInput
from kdmri.formats.dicom.reader import DicomSeries
from kdmri.operations import undersampling
from kdmri.physics.sampling import MASKS
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.model import Model


def undersample(
    source: KSpace | Images | list[DicomSeries], acceleration: float, *, mask: str = "random", seed: int = 0
) -> KSpace:
    """Keep one line in `acceleration` of fully sampled k-space, as if the scan had been that much shorter.

    Examples:
        >>> from pydicom.data import get_testdata_file
        >>> scan = kdmri.undersample(kdmri.read(get_testdata_file("MR_small.dcm")), 4)
        >>> scan.shape, scan.acceleration
        ((1, 1, 64, 64), 4.0)

    Args:
        source: fully sampled k-space, or magnitude images, whose k-space is simulated with one coil and no phase.
        acceleration: grid points over measured points.
        mask: "random", "equispaced" or "variable-density".
        seed: of the random choice of lines.

    Raises:
        UnsupportedInput: lines are missing already, or the images are of several sizes or orientations.
        InvalidRequest: there is no such mask.
    """
    if mask not in MASKS:
        raise InvalidRequest(f"expected mask {', '.join(MASKS)}, got {mask[:40]!r}")
    if isinstance(source, list):
        if len(source) != 1:
            raise UnsupportedInput(f"expected slices of one size and orientation, got {len(source)} groups")
        source = source[0].images
    full = undersampling.of_images(source) if isinstance(source, Images) else source
    return undersampling.keep_lines(full, acceleration, mask=mask, seed=seed)


def reconstruct(scan: Scan | list[DicomSeries], model: str | Model = "student", *, coils: int | None = None) -> Result:
    """Reconstruct undersampled k-space to magnitude images in the units of the input.

    Examples:
        >>> from pydicom.data import get_testdata_file
        >>> scan = kdmri.undersample(kdmri.read(get_testdata_file("MR_small.dcm")), 4)
        >>> kdmri.reconstruct(scan).pixels.shape
        (1, 64, 64)

    Args:
        scan: k-space as `read` returns it. DICOM is refused.
        model: a loaded model, or a name as `load` takes it; a name is loaded for each call.
        coils: number of virtual coils; by default as many as preserve the calibration's signal.

    Raises:
        UnsupportedInput: the scan is not k-space, or several coils come without a fully sampled centre.
        UnknownModel: there is no such model.
        InvalidRequest: the model is for super-resolution.
    """
    if isinstance(scan, list):
        raise UnsupportedInput("expected k-space, got DICOM images: super_resolve takes those")
    loaded = _model_for(model, "reconstruction")
    # The scan goes along: DICOM needs its patient data, and its geometry lies in the images.
    return Result((Reconstructor(loaded).reconstruct(scan, coils=coils),), loaded.manifest, scan)


def super_resolve(
    source: KSpace | DicomSeries | list[DicomSeries], scale: int = 2, model: str | Model = "student"
) -> Result:
    """Compute the same images on a grid `scale` times finer, over the same field of view.

    Examples:
        >>> from pydicom.data import get_testdata_file
        >>> kdmri.super_resolve(kdmri.read(get_testdata_file("MR_small.dcm"))).pixels.shape
        (1, 128, 128)

    Args:
        source: DICOM as `read` returns it. K-space is refused.
        scale: 2 or 4.
        model: a loaded model, or a name as `load` takes it; a name is loaded for each call.

    Raises:
        UnsupportedInput: the source is not DICOM.
        UnknownModel: there is no such model.
        InvalidRequest: the model is for reconstruction, or was not trained for this scale.
    """
    if isinstance(source, KSpace):
        raise UnsupportedInput("expected DICOM images, got k-space: reconstruct takes that")
    series = (source,) if isinstance(source, DicomSeries) else tuple(source)
    loaded = _model_for(model, "super-resolution")
    # One stack for each group: a network works on slices of any size, but a stack has one.
    resolver = SuperResolver(loaded)
    images = tuple(resolver.super_resolve(group.images, scale) for group in series)
    return Result(images, loaded.manifest, series, scale)


def _model_for(model: str | Model, task: Task) -> Model:
    # A name can be of the wrong task, too: `load` finds any installed model by its name.
    loaded = load(model, task=task) if isinstance(model, str) else model
    if loaded.manifest.task != task:
        raise InvalidRequest(f"expected a model for {task}, {loaded.manifest.reference} is for {loaded.manifest.task}")
    return loaded
