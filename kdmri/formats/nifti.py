"""NIfTI-1 volumes with axes (row, column, slice), in RAS coordinates; DICOM and `Geometry` use LPS."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Extension
from nibabel.spatialimages import HeaderDataError
from numpy import ndarray

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.errors import UnreadableInput, UnsupportedInput

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])
"""Its own inverse."""
COMPRESSION = 1
"""nibabel's own choice: floats compress little, and more effort takes many times longer."""
COMMENT = 6
"""NIfTI's code of a header extension that holds plain text."""
ALIGNED = 1e-3
"""Cosine of the angle, and share of the distance between slices, by which a grid may miss a right-angled even one."""


def read(source: Path) -> Images:
    """Read the magnitude volume of a .nii or .nii.gz file; geometry is None where its axes are not at right angles.

    Raises:
        UnreadableInput: the file is not NIfTI, or damaged.
        UnsupportedInput: the data are complex, in colour or 4-D.
    """
    try:
        image = nib.load(source)
        if not isinstance(image, nib.Nifti1Image):
            raise UnreadableInput(f"expected a NIfTI file, got {type(image).__name__}")
        dtype, shape = image.get_data_dtype(), image.shape
        if dtype.kind not in "iuf" or len(shape) < 2 or any(length > 1 for length in shape[3:]):
            raise UnsupportedInput(f"expected a magnitude volume (row, column, slice), got {dtype} {shape}")
        volume = np.asarray(image.dataobj, dtype=np.float32).reshape((*shape, 1)[:3])
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UnreadableInput("expected a NIfTI file, got one that is something else, truncated or damaged") from error
    if not np.isfinite(volume).all():
        raise UnreadableInput("expected finite pixels, got NaN or infinity")
    return Images(np.ascontiguousarray(np.moveaxis(volume, 2, 0)), _geometry(image.affine, volume.shape[2]))


def to_bytes(images: Images) -> bytes:
    """Write a .nii.gz file in float32, with the slices in the order of their positions.

    Without geometry voxels are 1 mm wide and the affine is the identity.

    Raises:
        UnsupportedInput: slices are not evenly spaced, which NIfTI can not state.
    """
    # Without geometry neither form is set: their codes stay 0, which says that the place is unknown.
    order, affine = _affine(images.geometry) if images.geometry else (slice(None), np.eye(4))
    return _compress(_image(np.moveaxis(images.pixels[order], 0, 2), affine, images.geometry))


def volumes_to_bytes(volumes: Sequence[Images], comment: bytes) -> bytes:
    """Write several volumes of one grid as one .nii.gz file with the axes (row, column, slice, volume).

    It serves to compare volumes: slices that are not evenly spaced, which NIfTI can not state, stay in their order with
    the identity as affine.

    Args:
        volumes: Images of one shape; the first gives the geometry.
        comment: Text for the header's extension, which has the code 6 (comment).

    Returns:
        The content of the file.
    """
    geometry = volumes[0].geometry
    order: slice | ndarray = slice(None)
    affine = np.eye(4)
    if geometry is not None:
        try:
            order, affine = _affine(geometry)
        except UnsupportedInput:
            geometry = None
    pixels = np.stack([np.moveaxis(images.pixels[order], 0, 2) for images in volumes], axis=3)
    image = _image(pixels, affine, geometry)
    image.header.extensions.append(Nifti1Extension(COMMENT, comment))
    return _compress(image)


def _image(pixels: ndarray, affine: Float64[ndarray, "4 4"], geometry: Geometry | None) -> nib.Nifti1Image:
    image = nib.Nifti1Image(pixels.astype(np.float32, copy=False), affine)
    if geometry is not None and geometry.placed:
        image.set_sform(affine, code="scanner")
        image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image


def _compress(image: nib.Nifti1Image) -> bytes:
    # mtime=0 leaves the time out of the gzip header, so that one request always gives the same bytes.
    return gzip.compress(image.to_bytes(), compresslevel=COMPRESSION, mtime=0)


def _geometry(affine: Float64[ndarray, "4 4"], slices: int) -> Geometry | None:
    # The affine's columns are the steps from voxel to voxel; a step along the first axis goes to the next row.
    along_column, along_row, between = (LPS_FROM_RAS @ affine[:3, :3]).T
    row_spacing, column_spacing, thickness = (
        float(np.linalg.norm(step)) for step in (along_column, along_row, between)
    )
    if min(row_spacing, column_spacing, thickness) <= 0 or not np.isfinite(affine).all():
        return None
    orientation = np.stack([along_row / column_spacing, along_column / row_spacing])
    if abs(orientation[0] @ orientation[1]) > ALIGNED:
        return None
    positions = LPS_FROM_RAS @ affine[:3, 3] + np.arange(slices)[:, np.newaxis] * between
    return Geometry(positions, orientation, (row_spacing, column_spacing), thickness)


def _affine(geometry: Geometry) -> tuple[ndarray, Float64[ndarray, "4 4"]]:
    """Return the order of slices that makes their positions even, and the affine of (row, column, slice) in it."""
    along_row, along_column = geometry.orientation
    normal = np.cross(along_row, along_column)
    order = np.arange(len(geometry.positions))
    if not _is_even(geometry.positions):
        # Interleaved and reversed acquisitions come in the order of time: along the normal they lie evenly.
        order = np.argsort(geometry.positions @ normal, kind="stable")
    positions = geometry.positions[order]
    if not _is_even(positions):
        raise UnsupportedInput("expected evenly spaced slices for NIfTI, got slices at uneven distances")
    between = (positions[-1] - positions[0]) / max(len(positions) - 1, 1)
    # A single slice has no distance to another one.
    if not between.any():
        between = normal * (geometry.thickness or 1.0)
    affine = np.eye(4)
    steps = [along_column * geometry.spacing[0], along_row * geometry.spacing[1], between]
    affine[:3, :3] = LPS_FROM_RAS @ np.stack(steps, axis=1)
    affine[:3, 3] = LPS_FROM_RAS @ positions[0]
    return order, affine


def _is_even(positions: Float64[ndarray, "slice 3"]) -> bool:
    steps = np.diff(positions, axis=0)
    return len(steps) < 2 or bool(np.ptp(steps, axis=0).max() <= ALIGNED * np.linalg.norm(steps, axis=1).max())
