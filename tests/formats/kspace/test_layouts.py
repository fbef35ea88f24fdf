"""Arrays as communities store them: their axes are recognised and said, and the scan is the same."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy import ndarray
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import datasets, reader
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile
from tests.shared_data import ABSENT, DATA

REAL = DATA / "kspace" / "brain_16ch.h5"


@pytest.fixture(scope="module")
def full() -> KSpace:
    return scan(phantom(40, 36), coils=3)


def matlab(path: Path, name: str, samples: ndarray, fields: tuple[str, str] = ("real", "imag")) -> Path:
    """Write samples as MATLAB v7.3 does: pairs, compressed, after a user block of 512 bytes."""
    pairs = np.empty(samples.shape, [(field, "<f4") for field in fields])
    for field, part in zip(fields, (samples.real, samples.imag), strict=True):
        pairs[field] = part
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=pairs, compression="gzip")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\0\2IM")
    return path


def stored(path: Path, **arrays: ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.mark.parametrize("name", ["kspace_full", "kspace_sub04", "kspace_single_full", "Kspace", "data", "k_space"])
@pytest.mark.parametrize("fields", [("real", "imag"), ("r", "i")])
def test_matlab_files_of_any_name(tmp_path: Path, full: KSpace, name: str, fields: tuple[str, str]) -> None:
    """CMRxRecon's: (time, slice, coil, ky, kx) as h5py shows it."""
    frames = np.stack([full.samples, 2 * full.samples])
    path = matlab(tmp_path / "cine.mat", name, frames, fields)
    for number in (0, 1):
        found = reader.read(path, repetition=number)
        assert_allclose(found.samples, (number + 1) * full.samples, rtol=1e-6)
        assert any(f"Number {number} (from 0) of 2 along the axis before the slices" in note for note in found.notes)
    assert any(f"dataset {name} was taken" in note for note in found.notes)
    with pytest.raises(InvalidRequest, match="expected a repetition from 0 to 1"):
        reader.read(path, repetition=2)


def test_several_datasets_of_k_space_are_listed_and_one_is_chosen(tmp_path: Path, full: KSpace) -> None:
    path = stored(tmp_path / "a.mat", kspace_full=full.samples, kspace_sub04=3 * full.samples, sens=full.samples)
    with pytest.raises(UnreadableKSpace, match=r"got 2: kspace_full complex64 \(1, 3, 40, 36\); kspace_sub04 .*group"):
        reader.read(path)
    assert_array_equal(reader.read(path, group="kspace_sub04").samples, 3 * full.samples)


def test_the_only_complex_dataset_is_the_k_space(tmp_path: Path, full: KSpace) -> None:
    path = stored(tmp_path / "a.h5", measured=full.samples, sens_maps=full.samples, target=np.ones((1, 40, 36)))
    assert_array_equal(reader.read(path).samples, full.samples)


@pytest.mark.parametrize("name", ["image", "volume", "data"])
def test_files_without_k_space_are_refused_by_what_they_hold(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path / "a.h5", **{name: np.ones((3, 8, 8), np.float32)})
    with pytest.raises(UnreadableKSpace, match=rf"got neither but {name} float32 \(3, 8, 8\)"):
        reader.read(path)


def calgary(samples: ndarray) -> ndarray:
    out = np.empty((len(samples), *samples.shape[2:], 2 * samples.shape[1]), np.float32)
    last = np.moveaxis(samples, 1, -1)
    out[..., 0::2], out[..., 1::2] = last.real, last.imag
    return out


LAYOUTS = {
    "to_tensor": (lambda k: np.stack([k.real, k.imag], -1), r"\(real, imaginary\)"),
    "to_tensor of frames": (lambda k: np.stack([k.real, k.imag], -1)[None], r"\(real, imaginary\)"),
    "Calgary-Campinas": (calgary, "real and imaginary parts of 3 coils in turn"),
    "coils last": (lambda k: np.moveaxis(k, 1, -1), "coils of 36|40 coils of 36 x 3 samples are implausible"),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("slices", [1, 3])
def test_layouts_of_data_loaders_are_recognised_and_said(tmp_path: Path, full: KSpace, name: str, slices: int) -> None:
    make, words = LAYOUTS[name]
    samples = np.concatenate([(number + 1) * full.samples for number in range(slices)])
    found = reader.read(stored(tmp_path / "a.h5", kspace=make(samples)))
    assert_allclose(found.samples, samples, rtol=1e-6)
    assert any(re.search(words, note) for note in found.notes)


@pytest.mark.skipif(not REAL.exists(), reason=ABSENT)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_real_scan_in_layouts_of_data_loaders(tmp_path: Path, name: str) -> None:
    whole = reader.read(REAL).samples
    path = stored(tmp_path / "a.h5", kspace=LAYOUTS[name][0](whole))
    assert_allclose(reader.read(path).samples, whole, rtol=1e-6)


def test_averages_by_the_header_are_averaged_where_they_were_measured(tmp_path: Path, full: KSpace) -> None:
    """fastMRI's prostate scans: averages 1 and 3 measure odd lines, average 2 the even ones."""
    odd = np.arange(36) % 2 == 1
    frames = np.stack([full.samples * odd, full.samples * ~odd, full.samples * odd])
    header = MrdFile.of(full).header()
    limits = "<encodingLimits><average><minimum>0</minimum><maximum>2</maximum><center>0</center></average>"
    path = stored(tmp_path / "a.h5", kspace=frames)
    with h5py.File(path, "a") as file:
        file["ismrmrd_header"] = header.replace("<encodingLimits>", limits)
    found = reader.read(path)
    assert_allclose(found.samples, full.samples, rtol=1e-6)
    assert any("mean of 3 averages" in note for note in found.notes)


@pytest.mark.parametrize("code", [32015, 32001, 32004, 32008, 32026])
def test_filters_that_are_not_at_hand_are_named(tmp_path: Path, full: KSpace, code: int) -> None:
    """HDF5 writes no dataset through a filter that it lacks, but for chunks that are handed over ready."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        pipeline = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        pipeline.set_chunk(full.samples.shape)
        pipeline.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        space, kind = h5py.h5s.create_simple(full.samples.shape), h5py.h5t.py_create(full.samples.dtype)
        dataset = h5py.h5d.create(file.id, b"kspace", kind, space, pipeline)
        dataset.write_direct_chunk((0, 0, 0, 0), full.samples.tobytes())
    with pytest.raises(UnsupportedInput, match=rf"got {datasets.FILTERS[code]} \(filter {code}\): .*h5repack"):
        reader.read(tmp_path / "a.h5")
