"""Arrays without a measurement's header: NumPy's .npy, and BART's pairs of .cfl and .hdr.

Samples are mapped where the file has a path, and read otherwise; every size is checked against the bytes that are
there before memory is taken.
"""

import io
import math
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
from jaxtyping import Complex64
from numpy import ndarray

from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import hdf5
from kdmri.formats.kspace.unpacking import BART_HEADER, MAX_HEADER_BYTES, open_stream

BART_DIMENSIONS = 16
BART_AXES = (
    *("READ", "PHS1", "PHS2", "COIL", "MAPS", "TE", "COEFF", "COEFF2"),
    *("ITER", "CSHIFT", "TIME", "TIME2", "LEVEL", "SLICE", "AVG", "BATCH"),
)
"""BART's dimensions by number (its src/misc/mri.h)."""
BART_CHOICES = {5: "contrast", 10: "repetition", 11: "phase"}
"""Dimensions that a parameter chooses from; of the others the first entry is taken."""
READ, PHS1, PHS2, COIL, SLICE = 0, 1, 2, 3, 13


def npy(source: Path | BinaryIO, max_bytes: int) -> ndarray:
    """Return the array of an .npy file, mapped where it has a path.

    Raises:
        UnreadableKSpace: the file is damaged, or holds Python objects, which are never unpickled.
        UnsupportedInput: the array is larger than `max_bytes`.
    """
    with open_stream(source) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        # The header first: np.load takes the memory that a header claims before it reads a sample.
        shape, dtype = _npy_header(stream)
        wanted, left = math.prod(shape) * dtype.itemsize, size - stream.tell()
        stream.seek(0)
        if dtype.hasobject:
            raise UnreadableKSpace("expected an .npy file of numbers, got one of Python objects")
        hdf5.check_size(wanted, max_bytes)
        if wanted > left:
            raise UnreadableKSpace(f"expected an .npy file of {wanted} bytes of samples by its header, got {left}")
        with suppress(ValueError, OSError):
            if isinstance(source, Path):
                return np.asarray(np.load(source, mmap_mode="r", allow_pickle=False))
            return np.asarray(np.load(stream, allow_pickle=False))
    raise UnreadableKSpace("expected an intact .npy file, got one that is damaged")


def _npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, TokenError) as error:
        raise UnreadableKSpace("expected an intact .npy file, got one whose header can't be read") from error
    if any(length < 0 for length in shape):
        raise UnreadableKSpace(f"expected an .npy file with axes of positive length, got {shape}")
    return shape, dtype


def bart(
    source: Path | BinaryIO, header: bytes, choice: dict[str, int], max_bytes: int
) -> tuple[Complex64[ndarray, "slice coil row column"], tuple[str, ...]]:
    """Return the k-space of a BART pair, and notes on the dimensions of which one entry was taken.

    BART stores the first dimension fastest. READ becomes rows and PHS1 columns; a scan without READ (a slice of a 3-D
    scan, transformed along its readout) has PHS1 as rows and PHS2 as columns.

    Args:
        source: the .cfl file.
        header: content of the .hdr file.
        choice: numbers of contrast (TE), repetition (TIME) and phase (TIME2), from 0.
        max_bytes: largest size of the samples.

    Raises:
        UnreadableKSpace: the header has no dimensions, or others than the samples.
        UnsupportedInput: the scan is 3-D, non-Cartesian or too large.
        InvalidRequest: there is no such contrast, repetition or phase.
    """
    lengths = _bart_lengths(header)
    size = math.prod(lengths) * np.dtype(np.complex64).itemsize
    # Before the samples are looked at: a header of a few bytes may state any size.
    hdf5.check_size(size, max_bytes)
    with open_stream(source) as stream:
        found = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if found != size:
            shown = " ".join(str(length) for length in lengths)
            raise UnreadableKSpace(f"expected {size} bytes in the .cfl, for the .hdr has {shown}, got {found}")
        flat = (
            np.memmap(source, np.dtype("<c8"), "r")
            if isinstance(source, Path)
            else np.frombuffer(stream.read(size), np.dtype("<c8"))
        )
    # A view, whatever the order of the axes: a mapped file is read only where slices are taken from it.
    whole = flat.reshape(lengths, order="F")
    if lengths[READ] > 1 and lengths[PHS2] > 1:
        raise UnsupportedInput(
            f"3-D encoding: BART dimensions READ {lengths[READ]}, PHS1 {lengths[PHS1]}, PHS2 {lengths[PHS2]}; only 2-D "
            "is reconstructed: `bart fft -iu 1` along the readout makes slices of it, `bart slice 0 N` takes one"
        )
    index: list[int | slice] = [slice(None)] * BART_DIMENSIONS
    notes = []
    for number in range(BART_DIMENSIONS):
        if number in (READ, PHS1, PHS2, COIL, SLICE):
            continue
        name = BART_CHOICES.get(number, "")
        index[number] = _entry(name, choice.get(name, 0), lengths[number])
        if lengths[number] > 1:
            notes.append(
                f"Number {index[number]} (from 0) of {lengths[number]} in BART's dimension {BART_AXES[number]} was "
                "reconstructed, the others were left out."
            )
    chosen = whole[tuple(index)]
    rows_first = chosen[:, :, 0] if lengths[READ] > 1 else chosen[0]
    return rows_first.transpose(3, 2, 0, 1), tuple(notes)


def _entry(name: str, number: int, length: int) -> int:
    if not 0 <= number < length:
        raise InvalidRequest(f"expected a {name} from 0 to {length - 1}, those of the file, got {number}")
    return number


def _bart_lengths(header: bytes) -> list[int]:
    """Read the lengths of BART's sixteen dimensions; those that the header leaves out are 1."""
    lines = header[:MAX_HEADER_BYTES].splitlines()
    text = next((after for before, after in pairwise(lines) if before.strip() == BART_HEADER), b"")
    lengths = text.split()
    if not 2 <= len(lengths) <= BART_DIMENSIONS or not all(n.isdigit() and 0 < int(n[:19]) < 2**40 for n in lengths):
        raise UnreadableKSpace("expected a line of 2 to 16 lengths after `# Dimensions` in the .hdr, got another")
    return [int(length) for length in lengths] + [1] * (BART_DIMENSIONS - len(lengths))
