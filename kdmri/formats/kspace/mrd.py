"""ISMRMRD HDF5 (version 1; Inati et al., MRM 2017): acquisitions, one readout each, gathered into a Cartesian grid."""

import math
from collections.abc import Iterator
from dataclasses import replace

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Complex64
from numpy import ndarray

from kdmri.data.geometry import Geometry
from kdmri.data.kspace import KSpace
from kdmri.errors import UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import hdf5, header, zero_frequency
from kdmri.formats.kspace.acquisitions import (
    NOISE,
    Layout,
    Lines,
    choice_notes,
    has_flags,
    lay_out,
    lines_within,
    select,
)
from kdmri.formats.kspace.datasets import name_of
from kdmri.formats.kspace.description import patient_and_study
from kdmri.formats.kspace.tables import Table, table_and_header
from kdmri.physics.espirit import can_calibrate
from kdmri.physics.noise import prewhiten
from kdmri.physics.sampling import calibration_region

Samples = Complex64[ndarray, "line coil sample"]


def best(groups: list[h5py.Group], choice: dict[str, int], max_bytes: int) -> KSpace:
    """Read the first of several groups that can be reconstructed, and count the others in its notes.

    Files of all measurements of a session hold noise scans and 3-D coil prescans beside the image's.

    Args:
        groups: groups of acquisitions, in the order of preference.
        choice: numbers of contrast, repetition, phase and set.
        max_bytes: largest size of the k-space.

    Raises:
        UnreadableKSpace: no group can be read; the message is the first group's, and names the others.
        UnsupportedInput: likewise, for groups that can be read but not reconstructed.
        InvalidRequest: the first group that can be reconstructed has no such contrast, repetition, phase or set.
    """
    refusals: list[UnreadableKSpace | UnsupportedInput] = []
    names = [name_of(group) for group in groups]
    for group in groups:
        try:
            found = read(*table_and_header(group), choice, max_bytes=max_bytes)
        except (UnreadableKSpace, UnsupportedInput) as error:
            refusals.append(error)
            continue
        if len(groups) == 1:
            return found
        others = ", ".join(name for name in names if name != name_of(group))
        note = f"Group {name_of(group)} of {len(groups)} was reconstructed, the others were left out: {others}."
        return replace(found, notes=(note, *found.notes))
    first = refusals[0]
    if len(groups) == 1:
        raise first
    raise type(first)(f"group {names[0]}: {first}; nor can any other group be reconstructed: {', '.join(names[1:])}")


def read(table: Table, xml: bytes, choice: dict[str, int], *, max_bytes: int = hdf5.MAX_BYTES) -> KSpace:
    """Gather acquisitions into the k-space of one contrast, repetition, cardiac phase and set.

    Averages are averaged. Calibration lines fill places of the grid, or are a scan of their own
    (`acquisitions.lay_out`). Where there are none and the chosen lines lack the centre, the mean over repetitions,
    phases or sets is that scan, for they measure other lines in turn (TSENSE, Kellman et al. 2001). A noise scan
    whitens the coils. Readout oversampling stays in the samples: `image_shape` tells it, `runtime.measurement`
    removes it. In memory the samples lie line after line, as they were measured.

    Args:
        table: the acquisitions.
        xml: the header beside them.
        choice: numbers of contrast, repetition, phase and set, each counted from the first there is.
        max_bytes: largest size of the k-space.

    Raises:
        UnreadableKSpace: the file is damaged, or its header does not fit its lines.
        UnsupportedInput: the scan is not 2-D Cartesian, or too large.
        InvalidRequest: there is no such contrast, repetition, phase or set.
    """
    heads, step = table.heads(max_bytes)
    wanted = {name: choice.get(name, 0) for name in ("contrast", "phase", "set", "repetition")}
    imaging, calibration = select(heads, wanted)
    head = header.parse(xml)
    encoding = header.encoding(head, int(heads["encoding_space_ref"][imaging[0]]))
    imaging, beyond = lines_within(heads, imaging, encoding)
    layout, separate = lay_out(heads, imaging, calibration, encoding)
    if separate is None and not _can_calibrate(layout):
        separate = _of_all_frames(heads, wanted, layout, encoding)
    # The grid and not the lines count: a sparse scan of a large matrix takes the memory of the matrix.
    grids = 2 if separate else 1
    hdf5.check_size(grids * np.dtype(np.complex64).itemsize * math.prod(layout.grid), max_bytes)
    lines = np.flatnonzero(has_flags(heads, NOISE) & (heads["active_channels"] == layout.grid[1]))
    noise = _noise(table, heads, lines, step) if lines.size else None

    def scan(layout: Layout) -> KSpace:
        samples = _gather(table, heads, layout, step)
        samples = samples if noise is None else prewhiten(samples, noise)
        shift = zero_frequency.displacement(zero_frequency.energy(samples))
        samples, mask = zero_frequency.shift_samples(samples, shift), zero_frequency.shift_mask(_mask(layout), shift)
        return KSpace(samples, mask, encoding.image_shape, notes=zero_frequency.note(encoding.matrix, shift))

    geometry = _geometry(heads, layout, encoding)
    calibration_scan = scan(separate) if separate else None
    image = scan(layout)
    return replace(
        image,
        geometry=geometry,
        calibration=calibration_scan,
        patient_and_study=patient_and_study(head),
        notes=(*choice_notes(heads, wanted), *beyond, *image.notes),
    )


def _blocks(data: Table, heads: ndarray, lines: Lines, step: int) -> Iterator[tuple[slice, ndarray, Samples]]:
    """The given acquisitions, all of one size, in file order: part of `lines`, readouts, room for their samples."""
    coils, length = (int(heads[name][lines[0]]) for name in ("active_channels", "number_of_samples"))
    for start in range(lines[0], lines[-1] + 1, step):
        part = slice(*np.searchsorted(lines, (start, start + step)))
        if part.start == part.stop:
            continue
        block = data.readouts(start, min(start + step, len(heads)))[lines[part] - start]
        sizes = {readout.size for readout in block}
        if sizes != {2 * coils * length}:
            raise UnreadableKSpace(f"expected {coils} coils x {length} complex samples a line, got {max(sizes)} floats")
        yield part, block, np.empty((block.size, coils, length), np.complex64)


def _fill(samples: Samples, readouts: ndarray) -> Samples:
    """Fill `samples` with readouts of float32 pairs, and return it. Raises UnreadableKSpace for NaN and infinity."""
    pairs = samples.reshape(-1).view(np.float32)
    np.concatenate(readouts, out=pairs)
    if not np.isfinite(pairs).all():
        raise UnreadableKSpace("expected finite samples, got NaN or infinity")
    return samples


def _gather(data: Table, heads: ndarray, layout: Layout, step: int) -> Complex64[ndarray, "slice coil row column"]:
    """Fill the grid with the mean of what was measured at each place.

    Args:
        data: the acquisitions.
        heads: heads of all acquisitions.
        layout: places of the lines to gather.
        step: acquisitions to read at a time.
    """
    slices, coils, rows, columns = layout.grid
    # Line after line, so that a readout stays in one piece: many times faster than strewing it along the columns.
    # Memory from torch: NumPy asks for huge pages, which on the machine this was timed on cost more than the reading.
    grid = torch.empty((slices * columns, coils, rows), dtype=torch.complex64).numpy()
    grid[(layout.hits == 0).ravel()] = 0
    grid[:, :, : layout.rows.start] = 0
    grid[:, :, layout.rows.stop :] = 0
    lines = grid[:, :, layout.rows]
    plain = layout.hits.max() == 1 and layout.samples == slice(0, rows)
    for part, readouts, room in _blocks(data, heads, layout.lines, step):
        place, turns = layout.place[part], layout.turns[part]
        if plain and (np.diff(place) == 1).all():  # as in the grid: no copy between
            _fill(grid[place[0] : place[-1] + 1], readouts)
            continue
        block = _fill(room, readouts)[:, :, layout.samples]
        for turn in np.unique(turns):
            chosen = slice(None) if (turns == turn).all() else turns == turn
            lines[place[chosen]] = block[chosen] if turn == 0 else lines[place[chosen]] + block[chosen]
    if layout.hits.max() > 1:
        grid /= np.maximum(layout.hits, 1).reshape(-1, 1, 1).astype(np.float32)
    return grid.reshape(slices, columns, coils, rows).transpose(0, 2, 3, 1)


def _can_calibrate(layout: Layout) -> bool:
    """Check that coils can be calibrated from the middle of every slice."""
    return all(can_calibrate(mask, calibration_region(mask)) for mask in _mask(layout))


def _of_all_frames(heads: ndarray, wanted: dict[str, int], layout: Layout, encoding: header.Encoding) -> Layout | None:
    """Lay out the lines of all repetitions, phases or sets, if they make up for the centre that one frame lacks."""
    # The least pooling that completes the centre is taken: frames differ, and their mean is sharper the fewer there
    # are.
    pooled: list[set[str]] = [{"repetition"}, {"phase"}, {"set"}, {"repetition", "phase", "set"}]
    for names in pooled:
        lines, _ = select(heads, {name: number for name, number in wanted.items() if name not in names})
        lines, _ = lines_within(heads, lines, encoding)
        if lines.size > layout.lines.size:
            found, _ = lay_out(heads, lines, lines[:0], encoding)
            if _can_calibrate(found) and found.grid == layout.grid:
                return found
    return None


def _noise(data: Table, heads: ndarray, lines: Lines, step: int) -> Complex64[ndarray, "coil sample"]:
    """Read the samples of the noise scans that are as long as the first of them."""
    lines = lines[heads["number_of_samples"][lines] == heads["number_of_samples"][lines[0]]]
    blocks = [_fill(room, readouts) for _, readouts, room in _blocks(data, heads, lines, step)]
    return np.concatenate(np.concatenate(blocks), axis=-1)


def _mask(layout: Layout) -> Bool[ndarray, "slice row column"]:
    rows = np.zeros(layout.grid[2], dtype=bool)
    rows[layout.rows] = True
    # One mask for all slices where they were sampled alike, as `KSpace.mask` allows.
    columns = layout.hits > 0
    if (columns == columns[0]).all():
        columns = columns[:1]
    return columns[:, np.newaxis, :] & rows[:, np.newaxis]


def _geometry(heads: ndarray, layout: Layout, encoding: header.Encoding) -> Geometry | None:
    """Return the geometry of the image, from the heads' centres and directions (LPS, millimetres).

    If these are unset, no right-angled pair or different between slices, the result states sizes only.

    Args:
        heads: heads of all acquisitions.
        layout: places of the image's lines.
        encoding: the encoding of these lines.
    """
    if encoding.spacing is None:
        return None
    first_of_slice = layout.lines[np.unique(layout.slices, return_index=True)[1]]
    centres = heads["position"][first_of_slice].astype(np.float64)
    directions = np.stack([heads["phase_dir"], heads["read_dir"]], axis=1)[first_of_slice].astype(np.float64)
    orientation = along_row, along_column = directions[0]
    right_angled = np.allclose(orientation @ orientation.T, np.eye(2), atol=1e-3)
    parallel = np.allclose(directions, orientation, atol=1e-3)
    if not (right_angled and parallel and np.isfinite(centres).all()):
        return Geometry.from_sizes(len(centres), encoding.image_shape, encoding.spacing, encoding.thickness)
    # Heads state the centre of a slice, DICOM and `Geometry` the centre of its first pixel.
    half_extents = [encoding.spacing[axis] * (encoding.matrix[axis] - 1) / 2 for axis in (0, 1)]
    corners = centres - along_column * half_extents[0] - along_row * half_extents[1]
    whole = Geometry(corners, orientation, encoding.spacing, encoding.thickness)
    return whole.crop(encoding.matrix, encoding.image_shape)
