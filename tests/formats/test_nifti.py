"""NIfTI: pixels and millimetres survive the way there and back, and nibabel agrees about where a pixel lies."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.errors import UnreadableInput, UnsupportedInput
from kdmri.formats import nifti
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import reader as kspace
from kdmri.runtime import zero_filled

few = settings(max_examples=25)
spacings = st.floats(0.2, 5)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Oblique stacks, ascending or descending, with or without gaps, sheared where a gantry tilts."""
    rotation, _ = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 2**16))).standard_normal((3, 3)))
    along_row, along_column, between = rotation
    step = between * draw(spacings) * draw(st.sampled_from([-1, 1])) + along_column * draw(st.floats(-1, 1))
    corner = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    positions = corner + np.outer(np.arange(draw(st.integers(1, 4))), step)
    return Geometry(positions, np.stack([along_row, along_column]), (draw(spacings), draw(spacings)), draw(spacings))


def images(geometry: Geometry | None, slices: int, rows: int = 5, columns: int = 7) -> Images:
    pixels = np.arange(slices * rows * columns, dtype=np.float32).reshape(slices, rows, columns)
    return Images(pixels, geometry)


def through(folder: Path, written: Images) -> tuple[nib.Nifti1Image, Images]:
    """What nibabel and what kdmri read of what kdmri writes."""
    (folder / "image.nii.gz").write_bytes(nifti.to_bytes(written))
    return nib.load(folder / "image.nii.gz"), nifti.read(folder / "image.nii.gz")


@few
@given(geometry=geometries())
def test_pixels_and_millimetres_come_back(tmp_path_factory: pytest.TempPathFactory, geometry: Geometry) -> None:
    written = images(geometry, len(geometry.positions))
    _, read = through(tmp_path_factory.mktemp("nifti"), written)
    assert_array_equal(read.pixels, written.pixels)
    assert read.geometry is not None
    assert_allclose(read.geometry.positions, geometry.positions, atol=1e-3)
    assert_allclose(read.geometry.orientation, geometry.orientation, atol=1e-5)
    assert_allclose(read.geometry.spacing, geometry.spacing, rtol=1e-5)


@few
@given(geometry=geometries(), row=st.integers(0, 4), column=st.integers(0, 6))
def test_nibabel_finds_a_pixel_where_dicom_has_it(
    tmp_path_factory: pytest.TempPathFactory, geometry: Geometry, row: int, column: int
) -> None:
    """DICOM PS3.3 C.7.6.2.1.1, with x and y turned from LPS to RAS."""
    volume, _ = through(tmp_path_factory.mktemp("nifti"), images(geometry, len(geometry.positions)))
    along_row, along_column = geometry.orientation
    lps = geometry.positions[-1] + along_row * geometry.spacing[1] * column + along_column * geometry.spacing[0] * row
    found = volume.affine @ [row, column, len(geometry.positions) - 1, 1]
    assert_allclose(found[:3], lps * [-1, -1, 1], atol=0.01)
    assert volume.get_data_dtype() == np.float32
    assert volume.header.get_xyzt_units()[0] == "mm"


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    geometry = Geometry(np.zeros((1, 3)), np.eye(3)[:2], (0.5, 0.7), 4.0)
    volume, read = through(tmp_path, images(geometry, 1))
    assert_allclose(volume.header.get_zooms(), (0.5, 0.7, 4.0))
    assert read.geometry is not None
    assert read.geometry.thickness == 4


def test_without_geometry_voxels_are_millimetres(tmp_path: Path) -> None:
    volume, read = through(tmp_path, images(None, 3))
    assert_array_equal(volume.affine, np.eye(4))
    assert_array_equal(read.pixels, images(None, 3).pixels)


def test_sizes_alone_claim_no_place_in_a_scanner(tmp_path: Path) -> None:
    volume, _ = through(tmp_path, images(Geometry.from_sizes(3, (5, 7), (0.5, 0.7), 4.0), 3))
    assert_allclose(volume.header.get_zooms(), (0.5, 0.7, 4.0))
    assert nib.nifti1.xform_codes.label[int(volume.header["sform_code"])] != "scanner"
    assert_allclose(volume.affine @ [2, 3, 1, 1], [0, 0, 0, 1], atol=1e-6)  # the middle is the origin


def axial(heights: list[float]) -> Geometry:
    return Geometry(np.outer(heights, [0, 0, 1]), np.eye(3)[:2], (1.0, 1.0), 1.0)


def test_slices_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    written = images(axial([0, 20, 40, 10, 30]), 5)
    volume, read = through(tmp_path, written)
    assert_array_equal(read.pixels, written.pixels[[0, 3, 1, 4, 2]])
    assert_allclose(volume.header.get_zooms()[2], 10)


def test_uneven_slices_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="expected evenly spaced slices for NIfTI"):
        nifti.to_bytes(images(axial([0, 10, 25]), 3))


# Reading


def save(target: Path, volume: ndarray, affine: ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(volume, np.eye(4) if affine is None else affine), target)
    return target


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 3, 1), (5, 7, 1, 1, 1)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_axes_are_row_column_slice(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    volume = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    read = nifti.read(save(tmp_path / f"image{suffix}", volume))
    assert read.pixels.dtype == np.float32
    assert_array_equal(read.pixels, np.moveaxis(volume.reshape((*shape, 1)[:3]), 2, 0))


def test_stored_values_are_rescaled(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.linspace(0, 3, 24).reshape(2, 3, 4), np.eye(4))
    image.set_data_dtype(np.int16)  # nibabel chooses a slope
    nib.save(image, tmp_path / "image.nii")
    assert_allclose(np.moveaxis(nifti.read(tmp_path / "image.nii").pixels, 0, 2), image.get_fdata(), atol=1e-4)


def test_sheared_pixels_have_no_geometry(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    assert nifti.read(save(tmp_path / "image.nii", np.ones((2, 3, 4), np.float32), sheared)).geometry is None


@pytest.mark.parametrize(
    ("volume", "came"),
    [
        (np.ones((2, 3, 4), np.complex64), r"complex64 \(2, 3, 4\)"),
        (np.ones((2, 3, 4, 5), np.float32), r"float32 \(2, 3, 4, 5\)"),
        (np.ones(5, np.float32), r"float32 \(5,\)"),
        (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), r"\(2, 3, 4\)"),
    ],
    ids=["complex", "4-D", "1-D", "colour"],
)
def test_what_is_no_magnitude_volume_is_refused(tmp_path: Path, volume: ndarray, came: str) -> None:
    with pytest.raises(UnsupportedInput, match=rf"expected a magnitude volume \(row, column, slice\), got .*{came}"):
        nifti.read(save(tmp_path / "image.nii", volume))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("content", [b"", b"hello" * 100, bytes(1000), gzip.compress(b"hello" * 100)])
def test_what_is_not_nifti_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"image{suffix}").write_bytes(content)
    with pytest.raises(UnreadableInput) as refusal:
        nifti.read(tmp_path / f"image{suffix}")
    assert str(tmp_path) not in str(refusal.value)


@given(share=st.floats(0, 1, exclude_max=True))
@few
def test_truncated_files_are_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.mktemp("nifti")
    content = nifti.to_bytes(images(None, 3))
    (folder / "image.nii.gz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableInput, match="expected a NIfTI file, got one that is"):
        nifti.read(folder / "image.nii.gz")


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="expected finite pixels"):
        nifti.read(save(tmp_path / "image.nii", np.full((2, 3, 4), np.nan, np.float32)))


def test_a_missing_file_is_not_called_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        nifti.read(tmp_path / "absent.nii")


def test_a_real_volume_comes_back(data: Path, tmp_path: Path) -> None:
    source = data / "volumes" / "test" / "cardiac" / "sc-n-05_cine.nii.gz"
    original = nifti.read(source)
    volume, read = through(tmp_path, original)
    assert_array_equal(read.pixels, original.pixels)
    assert_allclose(volume.affine, nib.load(source).affine, atol=1e-4)


@pytest.mark.parametrize("folder", ["t1_series", "t1_sagittal_series", "ge_phantom_series"])
def test_a_real_series_lies_where_its_headers_have_it(folder: str, data: Path, tmp_path: Path) -> None:
    """Any order of the files gives one volume, in which every slice's corners lie where DICOM has them."""
    paths = sorted((data / "dicom" / folder).glob("*.dcm"))
    evenly = [path for path in paths if folder != "t1_series" or path.name >= "N2D_0192"]  # every 4th before
    shuffled = np.random.default_rng(0).permutation(evenly)
    (series,) = dicom.read(shuffled)
    volume, _ = through(tmp_path, series.images)
    pixels = volume.get_fdata(dtype=np.float32)
    to_voxels = np.linalg.inv(volume.affine)
    for header, image in zip(series.headers, series.images.pixels, strict=True):
        along_row, along_column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        row_spacing, column_spacing = map(float, header.PixelSpacing)
        found = []
        for row, column in ((0, 0), (image.shape[0] - 1, image.shape[1] - 1)):
            lps = np.array(header.ImagePositionPatient, float)
            lps = lps + along_row * column * column_spacing + along_column * row * row_spacing
            voxel = (to_voxels @ [*(lps * [-1, -1, 1]), 1])[:3]
            assert_allclose(voxel[:2], [row, column], atol=0.01 / row_spacing)
            found.append(round(voxel[2]))
        assert found[0] == found[1]
        assert_array_equal(pixels[:, :, found[0]], image)


def test_a_real_series_with_a_slice_missing_is_refused(data: Path) -> None:
    paths = sorted((data / "dicom" / "t1_sagittal_series").glob("*.dcm"))
    (series,) = dicom.read(paths[:5] + paths[6:])
    with pytest.raises(UnsupportedInput, match="expected evenly spaced slices for NIfTI, got slices at uneven"):
        nifti.to_bytes(series.images)


def test_a_real_scan_of_known_sizes_claims_no_place(data: Path, tmp_path: Path) -> None:
    volume, _ = through(tmp_path, zero_filled(kspace.read(data / "kspace" / "brain_sagittal_1ch.h5")))
    assert_allclose(volume.header.get_zooms(), (240 / 256, 240 / 256, 5))
    assert nib.nifti1.xform_codes.label[int(volume.header["sform_code"])] != "scanner"


def test_a_real_volume_cut_short_or_complex_is_refused(data: Path, tmp_path: Path) -> None:
    source = sorted((data / "volumes" / "test").glob("*/*.nii.gz"))[0]
    content = source.read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableInput, match="expected a NIfTI file, got one that is something else, truncated"):
        nifti.read(tmp_path / "cut.nii.gz")
    real = nib.load(source)
    nib.Nifti1Image(np.asarray(real.dataobj).astype(np.complex64), real.affine).to_filename(tmp_path / "complex.nii.gz")
    with pytest.raises(UnsupportedInput, match="expected a magnitude volume"):
        nifti.read(tmp_path / "complex.nii.gz")


def test_volumes_of_one_grid_share_a_file_with_a_comment() -> None:
    stack = [Images(np.full((3, 4, 5), value, np.float32) + np.arange(5, dtype=np.float32)) for value in (1, 2, 3)]
    image = nib.Nifti1Image.from_bytes(gzip.decompress(nifti.volumes_to_bytes(stack, b'{"psnr_db": 40.0}')))
    assert image.shape == (4, 5, 3, 3)
    for volume, images in enumerate(stack):
        assert np.array_equal(np.moveaxis(np.asarray(image.dataobj)[..., volume], 2, 0), images.pixels)
    (extension,) = image.header.extensions
    assert extension.get_code() == 6
    assert extension.get_content() == b'{"psnr_db": 40.0}'
