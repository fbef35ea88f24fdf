"""Tiled images, mosaics and VFRAMEs: one slice of the answer for each tile, at the place that the maker states."""

import gzip
import io
import struct
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.nicom import dicomwrappers
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import Dataset

from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom import reader

from .slices import answer_to, content, mr_slice, zipped

SHARED = Path(__file__).parents[3].parent / "shared"
NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
SIDE, BETWEEN = 8, 2.5


def image(down: int, across: int, **changes: object) -> Dataset:
    """Return an image of tiles, each of one grey level: its number, from 1."""
    numbers = 1 + np.arange(down * across, dtype="<i2").reshape(down, across)
    pixels = numbers.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    return mr_slice(
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        PixelData=pixels.tobytes(),
        SmallestImagePixelValue=None,
        LargestImagePixelValue=None,
        PixelSpacing=[2, 3],
        ImagePositionPatient=[-10, -20, 30],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        SpacingBetweenSlices=BETWEEN,
        **changes,
    )


def csa(count: int, normal: tuple[float, ...]) -> bytes:
    """Return a CSA header of version 2 with the two values that say where a mosaic's slices lie."""
    values = [(b"NumberOfImagesInMosaic", b"IS", [str(count)])]
    values.append((b"SliceNormalVector", b"FD", [f"{value:.8f}" for value in normal]))
    header = b"SV10\4\3\2\1" + struct.pack("<2I", len(values), 77)
    for name, vr, texts in values:
        header += name.ljust(64, b"\0") + struct.pack("<i4s3i", len(texts), vr, 6, len(texts), 77)
        for text in texts:
            raw = text.encode() + b"\0"
            header += struct.pack("<4i", len(raw), len(raw), 77, len(raw)) + raw + bytes(-len(raw) % 4)
    return header


def mosaic(count: int, normal: tuple[float, ...] = (0, 0, 1), **changes: object) -> Dataset:
    side = int(np.ceil(np.sqrt(count)))
    dataset = image(side, side, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], Manufacturer="SIEMENS", **changes)
    dataset.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa(count, normal))
    return dataset


def vframe(count: int, positions: list[list[float]]) -> Dataset:
    across = int(np.ceil(np.sqrt(count)))
    dataset = image(-(-count // across), across, ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"], Manufacturer="UIH")
    del dataset.ImagePositionPatient
    items = []
    for position in positions:
        item = Dataset()
        item.ImagePositionPatient = position
        items.append(item)
    block = dataset.private_block(0x65, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(count))
    block.add_new(0x51, "SQ", items)
    return dataset


@pytest.mark.parametrize("count", [3, 7, 16])
@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 0, -1), (0, 0.6, 0.8)])
def test_a_mosaic_is_unpacked_along_its_slice_normal(count: int, normal: tuple[float, ...]) -> None:
    (series,) = reader.read([content(mosaic(count, normal))])
    assert series.notes == (f"1 tiled images were unpacked to {count} slices.",)
    assert_array_equal(series.images.pixels, np.ones((count, SIDE, SIDE)) * (1 + np.arange(count))[:, None, None])
    # Siemens centres the position that it writes on the mosaic: half of the tiles' surplus lies before the slice.
    surplus = (np.ceil(np.sqrt(count)) - 1) * SIDE / 2
    first = np.array([-10 + 3 * surplus, -20 + 2 * surplus, 30])
    expected = first + BETWEEN * np.arange(count)[:, None] * np.array(normal)
    assert_allclose(series.images.geometry.positions, expected, atol=1e-6)


@pytest.mark.parametrize("count", [3, 7, 20])
def test_a_vframe_is_unpacked_to_the_places_that_it_states(count: int) -> None:
    positions = [[-5.0, 1.0, 4.0 * number - 2 * (number % 2)] for number in range(count)]
    (series,) = reader.read([content(vframe(count, positions))])
    assert series.notes == (f"1 tiled images were unpacked to {count} slices.",)
    assert_array_equal(series.images.pixels[:, 0, 0], 1 + np.arange(count))
    assert_allclose(series.images.geometry.positions, positions)


@pytest.mark.parametrize("count", [3, 7, 16])
def test_the_answer_to_mosaics_is_a_series_of_slices(count: int) -> None:
    sources = [mosaic(count, InstanceNumber=number, SOPInstanceUID=f"1.2.{number}") for number in (1, 2)]
    outputs = answer_to(zipped([content(source) for source in sources]))
    assert len({output.SOPInstanceUID for output in outputs}) == 2 * count
    assert [output.InstanceNumber for output in outputs] == list(range(1, 2 * count + 1))
    for output in outputs:
        assert (output.Rows, output.Columns) == (2 * SIDE, 2 * SIDE)
        assert "MOSAIC" not in output.ImageType
        assert output.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    again = reader.read([content(output) for output in outputs])
    assert sum(len(series.headers) for series in again) == 2 * count


@pytest.mark.parametrize(
    "source",
    [
        mosaic(7, (0, 0, 0)),
        mosaic(7, (0, 1)),
        mosaic(7, ()),
        vframe(7, [[0.0, 0.0, 0.0]] * 6),
    ],
)
def test_tiles_of_unknown_place_are_refused_by_name(source: Dataset) -> None:
    with pytest.raises(UnsupportedInput, match=r"expected one slice in an image, got a (mosaic|VFRAME) of 7 slices"):
        reader.read([content(source)])


def real_mosaics() -> list[Path]:
    shared = sorted((SHARED / "data" / "dicom" / "signed_12bit").glob("*.dcm"))
    return [*sorted(NIBABEL.glob("siemens_dwi_*.dcm.gz")), *shared]


@pytest.mark.parametrize("path", real_mosaics(), ids=lambda path: path.name)
def test_real_mosaics_lie_where_nibabel_has_them(path: Path) -> None:
    source = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    (series,) = reader.read([source])
    reference = dicomwrappers.wrapper_from_data(pydicom.dcmread(io.BytesIO(source)))
    assert_allclose(np.moveaxis(series.images.pixels, 0, 2), reference.get_data())
    places = [reference.affine @ (0, 0, number, 1) for number in range(reference.n_mosaic)]
    # Siemens writes the slice normal with 6 decimals: over 48 slices that is a thousandth of a millimetre.
    assert_allclose(series.images.geometry.positions, np.array(places)[:, :3], atol=1e-3)
