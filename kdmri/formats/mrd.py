"""ISMRMRD HDF5 (version 1; Inati et al., MRM 2017): acquisitions, one readout each, gathered into a Cartesian grid."""

from collections.abc import Iterator

import h5py
import numpy as np
import torch
from ismrmrd.hdf5 import acquisition_header_dtype
from jaxtyping import Bool, Complex64
from numpy import ndarray

from kdmri.errors import UnreadableKSpace, UnsupportedInput
from kdmri.formats import hdf5, header
from kdmri.formats.acquisitions import NOISE, Layout, Lines, flagged, lay_out, select
from kdmri.records import Geometry, KSpace

LINES_AT_ONCE = 64
"""Acquisitions read together: few enough to stay in cache until they lie in the grid."""
MAX_CONDITION = 1e6
"""A noise covariance worse than this comes from a dead channel or too few samples: not to be inverted."""


def recognised(file: h5py.File) -> bool:
    """Whether `file` looks like MRD, of whatever version."""
    return any(_has_acquisitions(group) or _is_version_2(group) for group in hdf5.groups(file))


def read(
    file: h5py.File, *, contrast: int = 0, repetition: int = 0, phase: int = 0, max_bytes: int = hdf5.MAX_BYTES
) -> KSpace:
    """K-space of an open ISMRMRD file: one contrast, repetition and cardiac phase, counted from the first there is.

    Averages are averaged; of several sets the first is taken. Separate calibration lines fill places of the grid where
    no imaging line was measured (`acquisitions.lay_out`). A noise scan whitens the coils. Readout oversampling is
    removed, except from an asymmetric echo, which has no whole readout to transform: there `image_shape` tells it.
    Raises UnreadableKSpace, UnsupportedInput, InvalidRequest.
    """
    data, xml = _acquisitions(file)
    heads = _heads(data, max_bytes)
    imaging, calibration = select(heads, {"contrast": contrast, "repetition": repetition, "phase": phase, "set": 0})
    encoding = _encoding(xml, int(heads["encoding_space_ref"][imaging[0]]))
    layout = lay_out(heads, imaging, calibration, encoding)
    image_shape = encoding.image_shape
    rows = image_shape[0] if layout.whole_readout else encoding.matrix[0]

    samples = _gathered(data, heads, layout, rows, max_bytes)
    if not np.isfinite(samples).all():
        raise UnreadableKSpace("expected finite samples, got NaN or infinity")
    noise = np.flatnonzero(flagged(heads, NOISE) & (heads["active_channels"] == samples.shape[1]))
    if noise.size:
        samples = prewhiten(samples, _noise(data, heads, noise, max_bytes))
    return KSpace(samples, _mask(layout, rows), image_shape, _geometry(heads, layout, encoding))


def prewhiten(
    samples: Complex64[ndarray, "slice coil row column"], noise: Complex64[ndarray, "coil sample"]
) -> Complex64[ndarray, "slice coil row column"]:
    """`samples` with coils mixed so that their noise is uncorrelated and equally strong.

    By the inverse Cholesky factor of the noise covariance (Pruessmann 2001), divided by its mean variance so that
    units stay. Samples come back as they are where the covariance can't be inverted.
    """
    noise = noise - noise.mean(axis=1, keepdims=True)
    covariance = (noise @ noise.conj().T).astype(np.complex128)
    mean_variance = np.trace(covariance).real / len(covariance)
    if not mean_variance > 0 or not np.linalg.cond(covariance) < MAX_CONDITION:
        return samples
    whitening = np.linalg.inv(np.linalg.cholesky(covariance / mean_variance)).astype(np.complex64)
    return np.matmul(whitening, samples.reshape(*samples.shape[:2], -1)).reshape(samples.shape)


def _has_acquisitions(group: h5py.Group) -> bool:
    data = hdf5.member(group, "data")
    if not isinstance(data, h5py.Dataset):
        return False
    with hdf5.intact():
        return {"head", "data"} <= set(data.dtype.names or ())


def _is_version_2(group: h5py.Group) -> bool:
    return hdf5.member(group, "$yardl_schema") is not None


def _acquisitions(file: h5py.File) -> tuple[h5py.Dataset, bytes]:
    """Acquisitions and XML header of the group that has most lines: converters put noise scans into others."""
    if any(_is_version_2(group) for group in hdf5.groups(file)):
        raise UnsupportedInput("MRD v2 file: expected ISMRMRD version 1 or fastMRI in HDF5")
    found = [group for group in hdf5.groups(file) if _has_acquisitions(group)]
    if not found:
        raise UnreadableKSpace("expected a group with acquisitions `data` and header `xml`, got none")
    group = max(found, key=lambda group: group["data"].size or 0)
    xml = hdf5.member(group, "xml")
    if not isinstance(xml, h5py.Dataset) or not xml.size:
        raise UnreadableKSpace("expected an ISMRMRD header `xml` beside the acquisitions, got none")
    return group["data"], bytes(hdf5.array(xml).reshape(-1)[0])


def _heads(data: h5py.Dataset, max_bytes: int) -> ndarray:
    """The fixed part of every acquisition."""
    hdf5.check(data, max_bytes)
    with hdf5.intact():
        stored = h5py.check_vlen_dtype(data.dtype["data"])
        heads = np.asarray(data.fields("head")[()])
    if heads.ndim != 1 or stored != np.float32 or heads.dtype.names != acquisition_header_dtype.names:
        raise UnreadableKSpace(f"expected a row of ISMRMRD acquisitions of float32 pairs, got {stored} {heads.shape}")
    return heads


def _encoding(xml: bytes, number: int) -> header.Encoding:
    found = header.encodings(xml)
    if number >= len(found):
        raise UnreadableKSpace(f"expected encoding {number} in the header, got {len(found)} encodings")
    return found[number]


def _blocks(
    data: h5py.Dataset, heads: ndarray, lines: Lines, max_bytes: int
) -> Iterator[tuple[slice, Complex64[ndarray, "line coil sample"]]]:
    """The given acquisitions, all of one size, in file order, as (part of `lines`, samples)."""
    coils, length = (int(heads[name][lines[0]]) for name in ("active_channels", "number_of_samples"))
    readouts = data.fields("data")
    # Lines may share storage, but none is longer than the file: so many of them stay within the limit.
    step = int(np.clip(max_bytes // data.file.id.get_filesize(), 1, LINES_AT_ONCE))
    for start in range(lines[0], lines[-1] + 1, step):
        part = slice(*np.searchsorted(lines, (start, start + step)))
        if part.start == part.stop:
            continue
        with hdf5.intact():
            block = readouts[start : start + step][lines[part] - start]
        sizes = {readout.size for readout in block}
        if sizes != {2 * coils * length}:
            raise UnreadableKSpace(f"expected {coils} coils x {length} complex samples a line, got {max(sizes)} floats")
        yield part, np.concatenate(block).view(np.complex64).reshape(-1, coils, length)


def _gathered(
    data: h5py.Dataset, heads: ndarray, layout: Layout, kept: int, max_bytes: int
) -> Complex64[ndarray, "slice coil row column"]:
    """The grid, filled; `kept` rows of it, the readout's field of view cropped to them."""
    slices, coils, rows, columns = layout.grid
    hdf5.check_size(np.dtype(np.complex64).itemsize * slices * coils * rows * columns, max_bytes)
    lines = np.zeros((slices, columns, coils, kept), dtype=np.complex64)
    into = slice(0, kept) if layout.whole_readout else layout.rows
    turns = layout.turns
    for part, block in _blocks(data, heads, layout.lines, max_bytes):
        readouts = _cropped(block[..., layout.samples], kept) if layout.whole_readout else block[..., layout.samples]
        for turn in np.unique(turns[part]):
            chosen = turns[part] == turn
            place = layout.slices[part][chosen], layout.columns[part][chosen]
            lines[(*place, slice(None), into)] += readouts[chosen]
    hits = layout.hits
    if hits.max() > 1:
        lines /= np.maximum(hits, 1)[:, :, np.newaxis, np.newaxis].astype(np.float32)
    return np.ascontiguousarray(lines.transpose(0, 2, 3, 1))


def _cropped(readouts: Complex64[ndarray, "line coil sample"], rows: int) -> Complex64[ndarray, "line coil row"]:
    """Readouts of the central `rows` of their field of view: the image along the readout, cropped, in k-space again."""
    length = readouts.shape[-1]
    if rows == length:
        return readouts
    start = length // 2 - rows // 2
    shifted = torch.fft.ifftshift(torch.from_numpy(readouts), dim=-1)
    image = torch.fft.fftshift(torch.fft.ifft(shifted, norm="ortho"), dim=-1)[..., start : start + rows]
    cropped = torch.fft.fft(torch.fft.ifftshift(image, dim=-1), norm="ortho")
    return np.asarray(torch.fft.fftshift(cropped, dim=-1))


def _noise(data: h5py.Dataset, heads: ndarray, lines: Lines, max_bytes: int) -> Complex64[ndarray, "coil sample"]:
    """The samples of the noise scans that are as long as the first of them."""
    lines = lines[heads["number_of_samples"][lines] == heads["number_of_samples"][lines[0]]]
    blocks = [block for _, block in _blocks(data, heads, lines, max_bytes)]
    return np.concatenate(np.concatenate(blocks), axis=-1)


def _mask(layout: Layout, kept: int) -> Bool[ndarray, "slice row column"]:
    row_measured = np.zeros(kept, dtype=bool)
    row_measured[slice(0, kept) if layout.whole_readout else layout.rows] = True
    measured = layout.hits > 0
    if (measured == measured[:1]).all():
        measured = measured[:1]
    return measured[:, np.newaxis, :] & row_measured[:, np.newaxis]


def _geometry(heads: ndarray, layout: Layout, encoding: header.Encoding) -> Geometry | None:
    """Of the answer, from the heads' centres and directions (LPS, millimetres).

    None where they are unset or not a right-angled pair, or where slices are oriented differently.
    """
    first_of_slice = layout.lines[np.unique(layout.slices, return_index=True)[1]]
    centres = heads["position"][first_of_slice].astype(np.float64)
    directions = np.stack([heads["phase_dir"], heads["read_dir"]], axis=1)[first_of_slice].astype(np.float64)
    orientation = along_row, along_column = directions[0]
    right_angled = np.allclose(orientation @ orientation.T, np.eye(2), atol=1e-3)
    parallel = np.allclose(directions, orientation, atol=1e-3)
    if not (right_angled and parallel and np.isfinite(centres).all() and min(encoding.field_of_view) > 0):
        return None
    spacing = (encoding.field_of_view[0] / encoding.matrix[0], encoding.field_of_view[1] / encoding.matrix[1])
    half_extents = [spacing[axis] * (encoding.matrix[axis] - 1) / 2 for axis in (0, 1)]
    corners = centres - along_column * half_extents[0] - along_row * half_extents[1]
    whole = Geometry(corners, orientation, spacing, encoding.thickness)
    return whole.cropped(encoding.matrix, encoding.image_shape)
