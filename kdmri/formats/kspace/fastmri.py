"""The fastMRI layout of HDF5 (Zbontar et al., arXiv 1811.08839): `kspace`, `mask`, `ismrmrd_header`.

Its readout oversampling is left in the samples and expressed by `image_shape`, as in fastMRI's own transforms.
`reconstruction_*` is somebody's answer, not a measurement, and is not read.
"""

from pathlib import Path
from xml.etree.ElementTree import Element

import h5py
import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from kdmri.data.geometry import Geometry
from kdmri.data.kspace import KSpace
from kdmri.data.patient import PatientAndStudy
from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import hdf5, header, zero_frequency
from kdmri.formats.kspace.datasets import check_filters
from kdmri.formats.kspace.description import patient_and_study
from kdmri.formats.kspace.layouts import EXPECTED, Samples
from kdmri.physics import sampling

POSITIONS = "image_position_patient"
ORIENTATION = "image_orientation_patient"
SPACING = "pixel_spacing"
THICKNESS = "slice_thickness"


class SlicedScan:
    """K-space in an open file: a Scan that reads slices when asked for them, and keeps none."""

    def __init__(
        self,
        samples: Samples,
        mask: Bool[ndarray, "slice row column"],
        image_shape: tuple[int, int],
        geometry: Geometry | None,
        patient: PatientAndStudy,
        notes: tuple[str, ...] = (),
        shift: zero_frequency.Shift = (0, 0),
    ) -> None:
        self._samples, self._shift = samples, shift
        self.mask, self.image_shape, self.geometry = mask, image_shape, geometry
        self.patient_and_study, self.notes = patient, notes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, coils, rows and columns."""
        return self._samples.shape

    @property
    def acceleration(self) -> float:
        """Grid points over measured points, averaged over slices."""
        return sampling.acceleration(self.mask)

    def select(self, slices: slice) -> KSpace:
        """Read some of the slices into memory, one after the other. Raises UnreadableKSpace."""
        start, stop, _ = slices.indices(self.shape[0])
        samples = zero_frequency.shift_samples(self._samples.read(start, stop), self._shift)
        mask = self.mask if len(self.mask) == 1 else self.mask[start:stop]
        if not mask.all():
            # Not by multiplication: NaN where nothing was measured is as good as zero.
            np.copyto(samples, 0, where=~mask[:, np.newaxis])
        if not np.isfinite(samples).all():
            raise UnreadableKSpace(f"{EXPECTED} of finite single-precision samples, got NaN or infinity")
        return KSpace(
            samples,
            mask,
            self.image_shape,
            self.geometry and self.geometry.select(slice(start, stop)),
            patient_and_study=self.patient_and_study,
            notes=self.notes,
        )


def open_dataset(
    group: h5py.Group,
    dataset: h5py.Dataset,
    *,
    repetition: int = 0,
    oversampling: float = 1.0,
    max_bytes: int = hdf5.MAX_BYTES,
) -> SlicedScan:
    """Open the k-space of a dataset, with the mask and the header that lie beside it.

    `mask` may be absent (then it is read off the zero columns), over columns, over (row, column), or over every slice.
    Columns outside the header's encoding limits were padded, never measured.

    Args:
        group: where mask and header lie.
        dataset: the samples.
        repetition: which entry of an axis before the slices, from 0.
        oversampling: of the readout, for a file without header.
        max_bytes: largest size of the samples.

    Raises:
        UnreadableKSpace: the file is damaged, or its mask or header do not fit its samples.
        UnsupportedInput: the scan is 3-D, or too large.
        InvalidRequest: there is no such repetition, or the header states the oversampling.
    """
    # Before anything is read: h5py's own message for a missing filter names paths of this machine.
    check_filters(dataset)
    head = _header(group)
    average = head is not None and _counts_averages(head, dataset)
    samples = Samples(dataset, frame=repetition, average=average, max_bytes=max_bytes)
    given = hdf5.member(group, "mask")
    slices, _, rows, columns = samples.shape
    mask = None if given is None else _mask(given, slices, rows, columns)
    if head is None:
        return without_header(samples, mask, _geometry(group, slices), oversampling=oversampling)
    if oversampling != 1:
        raise InvalidRequest(f"expected no oversampling of a file whose header states it, got {oversampling:g}")
    encoding = header.encoding(head)
    if encoding.partitions > 1 and slices == encoding.partitions:
        raise UnsupportedInput(
            f"3-D encoding with {encoding.partitions} second phase-encode steps by the header, and as many entries "
            "of the first axis: only 2-D is reconstructed"
        )
    # fastMRI crops to the reconstruction matrix, whose columns may exceed those of a grid with partial encoding.
    image_shape = (min(rows, encoding.recon_matrix[0]), min(columns, encoding.recon_matrix[1]))
    return _scan(
        samples,
        (_read_off(samples) if mask is None else mask) & _within_limits(encoding, columns),
        image_shape,
        _geometry(group, slices) or _sizes(encoding, slices, (rows, columns), image_shape),
        patient_and_study(head),
        samples.notes,
    )


def without_header(
    samples: Samples,
    mask: Bool[ndarray, "slice row column"] | None = None,
    geometry: Geometry | None = None,
    *,
    oversampling: float = 1.0,
    notes: tuple[str, ...] = (),
) -> SlicedScan:
    """Return a scan whose file states nothing but samples, and perhaps a mask.

    Args:
        samples: the array, its axes recognised.
        mask: what was measured; None where it is to be read off the zero columns.
        geometry: place of the image in the patient, where the file has it.
        oversampling: of the readout; the image is the centre of its rows.
        notes: what was left out so far.

    Raises:
        UnreadableKSpace: nothing was measured.
        InvalidRequest: the oversampling leaves less than two rows, or the file states where its image lies.
    """
    rows, columns = samples.shape[-2:]
    image_shape = (rows, columns)
    notes = (*notes, *samples.notes)
    if oversampling != 1:
        kept = round(rows / oversampling)
        if geometry is not None or kept < 2:
            raise InvalidRequest(f"expected no oversampling of this file, of {rows} rows, got {oversampling:g}")
        image_shape = (kept, columns)
        notes = (*notes, f"The image is the central {kept} of {rows} rows: the readout is oversampled, by the request.")
    return _scan(samples, _read_off(samples) if mask is None else mask, image_shape, geometry, PatientAndStudy(), notes)


def _scan(
    samples: Samples,
    mask: Bool[ndarray, "slice row column"],
    image_shape: tuple[int, int],
    geometry: Geometry | None,
    patient: PatientAndStudy,
    notes: tuple[str, ...],
) -> SlicedScan:
    """Bring zero frequency to the centre of a scan that was measured at all."""
    if not mask.any():
        raise UnreadableKSpace("expected measured samples, got none: the mask or all of the k-space is zero")
    mask = _once(mask)
    shift = _displacement(samples, mask)
    moved = zero_frequency.note(samples.shape[2:], shift)
    return SlicedScan(
        samples, zero_frequency.shift_mask(mask, shift), image_shape, geometry, patient, (*notes, *moved), shift
    )


def _counts_averages(head: Element, dataset: h5py.Dataset) -> bool:
    """Recognise fastMRI's prostate layout (average, slice, coil, row, column) by the header's limits of averages."""
    with hdf5.intact():
        frames = dataset.shape[0] if dataset.ndim == 5 else 0
    last = head.findtext("{*}encoding/{*}encodingLimits/{*}average/{*}maximum") or ""
    return frames > 1 and last.strip() == str(frames - 1)


def _displacement(samples: Samples, mask: Bool[ndarray, "slice row column"]) -> zero_frequency.Shift:
    """Measure the displacement of zero frequency on three slices: reading all of them would take as long as answering.

    Where no mask is given the slices were read already, but not kept.
    """
    count = samples.shape[0]
    power: ndarray = np.zeros(samples.shape[-2:])
    for number in {0, count // 2, count - 1}:
        pattern = mask[min(number, len(mask) - 1)]
        power += np.where(pattern, zero_frequency.energy(samples.read(number, number + 1)), 0)
    return zero_frequency.displacement(power) if np.isfinite(power).all() else (0, 0)


def write(target: Path, kspace: KSpace) -> None:
    """`kspace` in fastMRI's layout: `read` gives it back, but for a calibration scan.

    Geometry goes into attributes named as in DICOM, sizes into the header, which has 0 mm where they are unknown.
    """
    coils, rows, columns = kspace.samples.shape[1:]
    geometry = kspace.geometry
    spacing, thickness = (geometry.spacing, geometry.thickness) if geometry else ((0.0, 0.0), 0.0)
    encoding = header.Encoding(
        matrix=(rows, columns),
        field_of_view=(rows * spacing[0], columns * spacing[1]),
        recon_matrix=kspace.image_shape,
        recon_field_of_view=(kspace.image_shape[0] * spacing[0], kspace.image_shape[1] * spacing[1]),
        thickness=thickness,
        lines=(0, columns - 1, columns // 2),
    )
    with h5py.File(target, "w") as file:
        file["kspace"] = kspace.samples[:, 0] if coils == 1 else kspace.samples
        file["mask"] = _shortest(kspace.mask)
        file["ismrmrd_header"] = header.document(encoding, coils)
        if geometry and geometry.placed:
            file.attrs[POSITIONS] = geometry.positions
            file.attrs[ORIENTATION] = geometry.orientation
            file.attrs[SPACING] = geometry.spacing
            file.attrs[THICKNESS] = geometry.thickness


def _read_off(samples: Samples) -> Bool[ndarray, "slice row column"]:
    # One slice at a time: the mask needs every sample once, and no two slices together.
    slices = (samples.read(number, number + 1) for number in range(samples.shape[0]))
    return sampling.whole_lines(np.concatenate([sampling.measured_mask(one) for one in slices]))


def _mask(
    dataset: h5py.Dataset | h5py.Group, slices: int, rows: int, columns: int
) -> Bool[ndarray, "slice row column"]:
    if not isinstance(dataset, h5py.Dataset):
        raise UnreadableKSpace("expected a dataset `mask`, got a group")
    return fit_mask(hdf5.array(dataset), slices, rows, columns)


def fit_mask(mask: ndarray, slices: int, rows: int, columns: int) -> Bool[ndarray, "slice row column"]:
    """Return a mask over every slice of the grid, whichever of its axes it was given over. Raises UnreadableKSpace."""
    grid = (slices, rows, columns)
    expected = f"expected a numeric mask over {columns} columns, {rows} x {columns} samples or {slices} slices of them"
    if mask.dtype.kind not in "biuf" or mask.ndim == 0:
        raise UnreadableKSpace(f"{expected}, got {mask.dtype} {mask.shape}")
    if mask.ndim >= 3 and mask.size == columns:
        # Data loaders keep axes of length 1: (1, 1, columns, 1) or (1, 1, 1, columns).
        mask = mask.reshape(columns)
    try:
        return np.broadcast_to(mask != 0, grid)
    except ValueError as error:
        raise UnreadableKSpace(f"{expected}, got {mask.shape}") from error


def _header(file: h5py.Group) -> Element | None:
    dataset = hdf5.member(file, "ismrmrd_header")
    if not isinstance(dataset, h5py.Dataset):
        return None
    # A scalar in fastMRI's own files, an array of one element in others.
    xml = hdf5.array(dataset).reshape(-1)
    return header.parse(bytes(xml[0])) if xml.size and xml[0] else None


def _within_limits(encoding: header.Encoding, columns: int) -> Bool[ndarray, " column"]:
    """Return the columns within the encoding limits; all of them if the limits are of another grid than the file's."""
    if encoding.lines is None or encoding.matrix[1] != columns:
        return np.ones(columns, dtype=bool)
    first, last, _ = encoding.lines
    number = np.arange(columns) - encoding.first_column
    return (first <= number) & (number <= last)


def _once(mask: Bool[ndarray, "slice row column"]) -> Bool[ndarray, "slice row column"]:
    """Return one slice of a mask that is the same in all of them, and any other mask as it is."""
    return np.ascontiguousarray(mask[:1] if (mask == mask[:1]).all() else mask)


def _shortest(mask: Bool[ndarray, "slice row column"]) -> ndarray:
    """Leave out the axes along which a mask does not vary: over columns as fastMRI has it (uint8), or bool."""
    once = _once(mask)
    if len(once) > 1:
        return once
    pattern: ndarray = once[0]
    return pattern[0].astype(np.uint8) if (pattern == pattern[0]).all() else pattern


def _geometry(file: h5py.Group, slices: int) -> Geometry | None:
    """Return the geometry that `write` stored: fastMRI's own files state the field of view but not where it lies."""
    with hdf5.intact():
        if POSITIONS not in file.attrs:
            return None
        positions = np.asarray(file.attrs[POSITIONS], dtype=np.float64).reshape(-1, 3)
        orientation = np.asarray(file.attrs[ORIENTATION], dtype=np.float64).reshape(2, 3)
        row_spacing, column_spacing = (float(spacing) for spacing in file.attrs[SPACING])
        thickness = float(file.attrs[THICKNESS])
    if len(positions) != slices:
        raise UnreadableKSpace(f"expected the positions of {slices} slices, got {len(positions)}")
    return Geometry(positions, orientation, (row_spacing, column_spacing), thickness)


def _sizes(
    encoding: header.Encoding | None, slices: int, grid: tuple[int, int], image_shape: tuple[int, int]
) -> Geometry | None:
    """Return pixel size and slice thickness, if the header states them and is about the file's grid."""
    if encoding is None or encoding.spacing is None or encoding.matrix != grid:
        return None
    return Geometry.from_sizes(slices, image_shape, encoding.spacing, encoding.thickness)
