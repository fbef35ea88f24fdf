"""The fastMRI layout, real and made: masks, padding, crop, what is written comes back, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ismrmrd import xsd
from numpy import ndarray
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.geometry import Geometry
from kdmri.data.kspace import KSpace
from kdmri.errors import KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import fastmri
from kdmri.formats.kspace import reader as kspace
from kdmri.phantoms import phantom, scan
from kdmri.physics.fourier import ifft2c
from tests.formats.kspace.mrd_files import MrdFile

ROWS, COLUMNS = 12, 10
# Each example writes a file.
few = settings(max_examples=25)


@st.composite
def kspaces(draw: st.DrawFn) -> KSpace:
    """Any k-space: every kind of mask, crop, with and without geometry."""
    slices, coils, rows, columns = (draw(st.integers(1, most)) for most in (3, 3, 8, 8))
    mask = draw(arrays.arrays(bool, (draw(st.sampled_from([1, slices])), draw(st.sampled_from([1, rows])), columns)))
    mask = np.broadcast_to(mask, (len(mask), rows, columns)).copy()
    mask[:, :, draw(st.integers(0, columns - 1))] = True
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    samples = (rng.standard_normal((slices, coils, rows, columns, 2)) @ [1, 1j]).astype(np.complex64)
    crop = (draw(st.integers(1, rows)), draw(st.integers(1, columns)))
    placed = Geometry(rng.standard_normal((slices, 3)), rng.standard_normal((2, 3)), (0.7, 0.9), 4.1)
    sizes = Geometry.from_sizes(slices, crop, (0.7, 0.9), 4.1)
    return KSpace(samples * mask[:, np.newaxis], mask, crop, draw(st.sampled_from([None, placed, sizes])))


@few
@given(written=kspaces())
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, written: KSpace) -> None:
    path = tmp_path_factory.mktemp("fastmri") / "scan.h5"
    fastmri.write(path, written)
    read = kspace.read(path)
    assert read.samples.dtype == np.complex64
    assert_array_equal(read.samples, written.samples)
    slices = len(written.samples)
    assert_array_equal(*(np.broadcast_to(k.mask, (slices, *k.mask.shape[1:])) for k in (read, written)))
    assert read.image_shape == written.image_shape
    assert (read.geometry is None) == (written.geometry is None)
    if read.geometry and written.geometry:
        assert_allclose(read.geometry.positions, written.geometry.positions, atol=1e-9)
        assert_array_equal(read.geometry.orientation, written.geometry.orientation)
        assert_allclose(read.geometry.spacing, written.geometry.spacing, rtol=1e-6)
        assert_allclose(read.geometry.thickness, written.geometry.thickness, rtol=1e-6)
        assert read.geometry.placed == written.geometry.placed


def test_what_is_written_is_laid_out_as_fastmri_has_it(tmp_path: Path) -> None:
    full = scan(phantom(ROWS, COLUMNS), acceleration=2)
    fastmri.write(tmp_path / "scan.h5", full)
    with h5py.File(tmp_path / "scan.h5") as file:
        assert (file["kspace"].shape, file["kspace"].dtype) == ((1, ROWS, COLUMNS), np.complex64)
        assert (file["mask"].shape, file["mask"].dtype) == ((COLUMNS,), np.uint8)
        encoding = xsd.CreateFromDocument(file["ismrmrd_header"][()]).encoding[0]
    assert (encoding.encodedSpace.matrixSize.x, encoding.encodedSpace.matrixSize.y) == (ROWS, COLUMNS)
    assert encoding.encodingLimits.kspace_encoding_step_1.center == COLUMNS // 2


# Made files


@pytest.fixture
def samples() -> ndarray:
    """Two slices, three coils, every sample measured."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((2, 3, ROWS, COLUMNS, 2)) @ [1, 1j]).astype(np.complex64)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Save datasets by name as one file."""

    def save(**datasets: object) -> Path:
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            for name, dataset in datasets.items():
                file[name] = dataset
        return tmp_path / "scan.h5"

    return save


LINES = np.arange(COLUMNS) % 3 == 0
SPOTS = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) % 3 == 0


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (LINES, LINES),
        (LINES.astype(np.float32), LINES),
        (LINES.astype(np.uint8), LINES),
        (SPOTS, SPOTS),
        (SPOTS.astype(np.float64), SPOTS),
        (np.stack([SPOTS, ~SPOTS]), np.stack([SPOTS, ~SPOTS])),
        (np.stack([SPOTS, SPOTS]), SPOTS),
    ],
    ids=["1-D", "1-D float", "1-D integer", "2-D", "2-D float", "3-D", "3-D the same"],
)
def test_a_given_mask_is_taken(saved: Callable[..., Path], samples: ndarray, mask: ndarray, expected: ndarray) -> None:
    found = kspace.read(saved(kspace=samples, mask=mask))
    assert_array_equal(found.mask, np.broadcast_to(expected, found.mask.shape))
    assert len(found.mask) == (2 if expected.ndim == 3 else 1)
    # Samples outside the mask were not measured, whatever they hold.
    assert_array_equal(found.samples, samples * found.mask[:, np.newaxis])


def test_without_a_mask_zero_columns_were_not_measured(saved: Callable[..., Path], samples: ndarray) -> None:
    samples = samples * LINES
    samples[0, :, 5, 3] = 0  # a sample may be zero
    assert_array_equal(kspace.read(saved(kspace=samples)).mask, np.broadcast_to(LINES, (1, ROWS, COLUMNS)))


def test_single_coil_and_other_precisions(saved: Callable[..., Path], samples: ndarray) -> None:
    for stored in (samples[:, 0], samples[:, 0].astype(np.complex128), samples[:, 0].astype(">c8")):
        found = kspace.read(saved(kspace=stored)).samples
        assert found.dtype == np.complex64
        assert_array_equal(found, samples[:, :1])


def header(**changes: object) -> str:
    return MrdFile(np.zeros(0), [], (ROWS, COLUMNS), (ROWS // 2, 8), **changes).header()


def test_the_image_is_cropped_to_the_recon_space(saved: Callable[..., Path], samples: ndarray) -> None:
    path = saved(kspace=samples, ismrmrd_header=header(), reconstruction_rss=np.zeros((2, 3, 3)))
    found = kspace.read(path)
    assert found.image_shape == (ROWS // 2, 8)
    assert_array_equal(found.samples, samples)


def test_sizes_are_told_by_the_header(saved: Callable[..., Path], samples: ndarray) -> None:
    geometry = kspace.read(saved(kspace=samples, ismrmrd_header=header())).geometry
    assert geometry is not None
    assert not geometry.placed
    assert (geometry.spacing, geometry.thickness) == ((1.5, 1.0), 4.0)
    assert_allclose(np.diff(geometry.positions, axis=0), [[0, 0, 4]])
    assert kspace.read(saved(kspace=samples[..., :6], ismrmrd_header=header())).geometry is None  # of another grid


def test_a_recon_space_wider_than_the_grid_crops_nothing(saved: Callable[..., Path], samples: ndarray) -> None:
    assert kspace.read(saved(kspace=samples[..., :6], ismrmrd_header=header())).image_shape == (ROWS // 2, 6)


@pytest.mark.parametrize("mask", [None, np.ones(COLUMNS)])
def test_padding_outside_the_limits_was_not_measured(
    saved: Callable[..., Path], samples: ndarray, mask: ndarray | None
) -> None:
    """fastMRI's rule: columns / 2 - centre to the left of the acquired lines is padding, and the rest to the right."""
    path = saved(kspace=samples, ismrmrd_header=header(limits=(0, 6, 3)), **({} if mask is None else {"mask": mask}))
    found = kspace.read(path)
    acquired = np.zeros(COLUMNS, bool)
    acquired[COLUMNS // 2 - 3 : COLUMNS // 2 - 3 + 7] = True
    assert_array_equal(found.mask, np.broadcast_to(acquired, (1, ROWS, COLUMNS)))
    assert_array_equal(found.samples, samples * acquired)


def with_value(value: complex) -> Callable[[ndarray], dict]:
    def change(samples: ndarray) -> dict:
        samples[1, 2, 3, 4] = value
        return {"kspace": samples}

    return change


SHAPE = r"expected complex k-space \(slice, coil, row, column\)"
REFUSED: dict[str, tuple[Callable[[ndarray], dict], type[KdmriError], str]] = {
    "real": (
        lambda k: {"kspace": k[:, 0].real},
        UnreadableKSpace,
        rf"^{SHAPE}, got float32 \(2, {ROWS}, {COLUMNS}\)$",
    ),
    "integer": (lambda k: {"kspace": np.zeros((2, 3, 4), int)}, UnreadableKSpace, rf"{SHAPE}, got int64 \(2, 3, 4\)"),
    "2-D": (lambda k: {"kspace": k[0, 0]}, UnreadableKSpace, rf"{SHAPE}, got complex64 \({ROWS}, {COLUMNS}\)"),
    "6-D": (lambda k: {"kspace": k[np.newaxis, np.newaxis]}, UnreadableKSpace, rf"{SHAPE}, got complex64 \(1, 1, 2"),
    "scalar": (lambda k: {"kspace": 1j}, UnreadableKSpace, rf"{SHAPE}, got complex128 \(\)"),
    "nothing": (lambda k: {"kspace": h5py.Empty("c8")}, UnreadableKSpace, rf"{SHAPE}, got complex64 None"),
    "text": (lambda k: {"kspace": "k-space"}, UnreadableKSpace, rf"{SHAPE}, got object"),
    "zero size": (lambda k: {"kspace": k[:0]}, UnreadableKSpace, rf"{SHAPE}, got complex64 \(0, 3"),
    "group": (lambda k: {"kspace/slice": k}, UnreadableKSpace, f"{SHAPE}, got no dataset `kspace`"),
    "NaN": (with_value(np.nan), UnreadableKSpace, f"{SHAPE} of finite single-precision samples"),
    "infinity": (with_value(np.inf), UnreadableKSpace, f"{SHAPE} of finite single-precision samples"),
    "too large": (
        lambda k: {"kspace": k.astype(complex) * 1e300},
        UnreadableKSpace,
        f"{SHAPE} of finite single-precision samples",
    ),
    "zeros": (lambda k: {"kspace": 0 * k}, UnreadableKSpace, "expected measured samples, got none"),
    "empty mask": (
        lambda k: {"kspace": k, "mask": np.zeros(COLUMNS)},
        UnreadableKSpace,
        "expected measured samples, got none",
    ),
    "wrong mask": (lambda k: {"kspace": k, "mask": np.ones(7)}, UnreadableKSpace, r"expected a numeric mask .* \(7,\)"),
    "text mask": (lambda k: {"kspace": k, "mask": "every 4th"}, UnreadableKSpace, r"expected a numeric mask .* \|S9"),
    "no header": (
        lambda k: {"kspace": k, "ismrmrd_header": "<p>Hello</p>"},
        UnreadableKSpace,
        "expected an ISMRMRD header",
    ),
    "radial": (
        lambda k: {"kspace": k, "ismrmrd_header": header(trajectory="radial")},
        UnsupportedInput,
        "^radial trajectory: only Cartesian k-space is reconstructed$",
    ),
    "no k-space": (
        lambda k: {"reconstruction_rss": np.abs(k[:, 0])},
        UnreadableKSpace,
        "expected k-space: a dataset `kspace`",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_thing(saved: Callable[..., Path], samples: ndarray, case: str) -> None:
    change, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        kspace.read(saved(**change(samples)))


def test_geometry_of_other_slices_is_refused(tmp_path: Path) -> None:
    fastmri.write(tmp_path / "scan.h5", scan(phantom(ROWS, COLUMNS)))
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file.attrs["image_position_patient"] = np.zeros((5, 3))
        file.attrs["image_orientation_patient"] = np.eye(3)[:2]
        file.attrs["pixel_spacing"], file.attrs["slice_thickness"] = (1, 1), 1
    with pytest.raises(UnreadableKSpace, match="expected the positions of 1 slices, got 5"):
        kspace.read(tmp_path / "scan.h5")


# Real files


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("brain_sagittal_1ch", "reconstruction_esc"),
        ("brain_16ch", "reconstruction_rss"),
        ("phantom_32ch", "reconstruction_rss"),
    ],
)
def test_real_fully_sampled_scans(data: Path, name: str, stored: str) -> None:
    path = data / "kspace" / f"{name}.h5"
    found = kspace.read(path)
    assert found.mask.all()
    with h5py.File(path) as file:
        truth = file[stored][()]
    assert found.image_shape == truth.shape[1:]
    image = torch.linalg.vector_norm(ifft2c(torch.from_numpy(found.samples)), dim=1)
    assert_allclose(image, truth, atol=1e-4 * truth.max())


def test_a_real_scan_undersampled_in_both_directions(data: Path) -> None:
    found = kspace.read(data / "kspace" / "brain_8ch_vd2d.h5")
    assert found.samples.shape == (1, 8, 230, 180)
    assert found.mask.shape == (1, 230, 180)
    assert 0.11 < found.mask.mean() < 0.13
    assert (found.mask != found.mask[:, :1]).any()
    assert (found.mask != found.mask[:, :, :1]).any()
    assert_array_equal(found.mask, (found.samples != 0).any(axis=1))


@pytest.mark.parametrize("chunks", [None, (1, 8, 8), (3, 16, 16)])
def test_slices_are_read_as_they_are_asked_for(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    """The same as all of them at once, however they lie in the file; a broken one breaks no other."""
    whole = scan(phantom(24, 16).repeat(7, axis=0) * np.arange(1, 8, dtype=np.float32)[:, None, None], acceleration=2)
    samples = whole.samples[:, 0].copy()
    samples[6, 0, 0] = np.nan
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["mask"] = whole.mask[0, 0]
        file.create_dataset("kspace", data=samples, chunks=chunks, compression=chunks and "gzip")
    with kspace.open_scan(tmp_path / "scan.h5") as stored:
        assert stored.shape == whole.samples.shape
        for part in (slice(2, 5), slice(0, 6), slice(5, 6), slice(3, 4)):
            assert_array_equal(stored.select(part).samples, whole.samples[part])
        with pytest.raises(UnreadableKSpace, match="NaN or infinity"):
            stored.select(slice(6, 9))
