"""K-space that is not a bare HDF5 file: packed, .npy and BART pairs hold the same scan, within the same limits."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import kdmri
from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import fastmri, reader
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile
from tests.shared_data import ABSENT, DATA

REAL = DATA / "kspace" / "brain_16ch.h5"


@pytest.fixture(scope="module")
def full() -> KSpace:
    return scan(phantom(40, 36), coils=3)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory, full: KSpace) -> dict[str, bytes]:
    """The same k-space as files of three formats."""
    folder = tmp_path_factory.mktemp("packed")
    fastmri.write(folder / "a.h5", full)
    return {
        "scan.h5": (folder / "a.h5").read_bytes(),
        "scan.mrd": MrdFile.of(full).save(folder / "b.h5").read_bytes(),
        "scan.npy": npy(full.samples),
    }


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(**members: bytes) -> bytes:
    """Zip members; a double underscore in a name stands for the dot."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


def bart(samples: np.ndarray, *, more: dict[int, int] | None = None) -> tuple[bytes, bytes]:
    """Write (slice, coil, row, column) as BART's .cfl and .hdr, repeated times 1, 2, ... along further dimensions."""
    lengths = [1] * 16
    lengths[0], lengths[1], lengths[3], lengths[13] = (samples.shape[axis] for axis in (2, 3, 1, 0))
    whole = samples.transpose(2, 3, 1, 0).reshape(lengths)
    for number, count in (more or {}).items():
        whole = np.concatenate([whole * (entry + 1) for entry in range(count)], axis=number)
    header = "# Dimensions\n" + " ".join(str(length) for length in whole.shape) + " \n# Command\nfft 3\n"
    return whole.astype(np.complex64).ravel(order="F").tobytes(), header.encode()


@pytest.mark.parametrize("name", ["scan.h5", "scan.mrd", "scan.npy"])
@pytest.mark.parametrize("packing", ["gzip", "zip", "zip with a desktop's files", "two gzips in a row"])
def test_a_packed_file_holds_the_same_scan(layouts: dict[str, bytes], full: KSpace, name: str, packing: str) -> None:
    content = layouts[name]
    packed = {
        "gzip": lambda: gzip.compress(content),
        "zip": lambda: zipped(**{"folder/" + name: content}),
        "zip with a desktop's files": lambda: zipped(
            **{name: content, f"__MACOSX/._{name}": b"x", "folder/.DS_Store": b"x"}
        ),
        "two gzips in a row": lambda: gzip.compress(content[:100]) + gzip.compress(content[100:]),
    }[packing]()
    assert_array_equal(reader.read(io.BytesIO(packed)).samples, full.samples)
    found = kdmri.read(packed)
    assert isinstance(found, KSpace)
    assert_array_equal(found.samples, full.samples)


@pytest.mark.skipif(not REAL.exists(), reason=ABSENT)
@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped(scan__h5=content)], ids=["gzip", "zip"])
def test_a_real_scan_can_be_packed(pack) -> None:
    content = REAL.read_bytes()
    assert_array_equal(reader.read(io.BytesIO(pack(content))).samples, reader.read(REAL).samples)


@pytest.mark.parametrize("name", ["scan.h5", "scan.mrd", "scan.npy"])
@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped(a=content)], ids=["gzip", "zip"])
def test_unpacking_stays_within_the_limit(layouts: dict[str, bytes], name: str, pack) -> None:
    content = layouts[name]
    with pytest.raises(UnsupportedInput, match=f"at most {len(content) - 1} bytes unpacked"):
        reader.read(io.BytesIO(pack(content)), max_bytes=len(content) - 1)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    for packed in (gzip.compress(bytes(2**24)), zipped(a=bytes(2**24))):
        assert len(packed) < 2**16
        with pytest.raises(UnsupportedInput, match="at most 1048576 bytes unpacked"):
            reader.read(io.BytesIO(packed), max_bytes=2**20)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: gzip.compress(content)[:-9], "intact gzip, got one that ends early"),
        (lambda content: gzip.compress(content)[:200] + bytes(99), "intact gzip, got one that (is damaged|ends early)"),
        (lambda content: zipped(a=content)[:-30], "intact zip of one k-space file, got one that is damaged"),
        (lambda content: zipped(a=content, b=content), r"zip of one k-space file \(HDF5.*, got 2 files"),
        (lambda content: zipped(), "got 0 files"),
        (lambda content: gzip.compress(gzip.compress(content)), "expected an HDF5 file, got"),
    ],
)
def test_damaged_and_nested_archives_are_refused(layouts: dict[str, bytes], damage, words: str) -> None:
    with pytest.raises(UnreadableKSpace, match=words):
        reader.read(io.BytesIO(damage(layouts["scan.h5"])))


def test_zips_of_other_methods_are_refused(layouts: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("scan.h5", layouts["scan.h5"])
    with pytest.raises(UnsupportedInput, match="compressed by deflate"):
        reader.read(stream)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16"])
def test_npy_files_of_any_order_and_precision(full: KSpace, tmp_path: Path, order: str, dtype: str) -> None:
    array = np.asarray(full.samples, dtype=dtype, order=order)
    np.save(tmp_path / "scan.npy", array)
    for source in (tmp_path / "scan.npy", io.BytesIO(npy(array))):
        assert_allclose(reader.read(source).samples, full.samples, rtol=1e-6)


def test_a_mask_beside_an_npy_is_taken(full: KSpace) -> None:
    mask = np.arange(36) % 3 == 0
    for shape in ((36,), (1, 1, 36, 1), (40, 36)):
        pattern = np.broadcast_to(mask, shape) if shape == (40, 36) else mask.reshape(shape)
        found = reader.read(io.BytesIO(zipped(kspace__npy=npy(full.samples), mask__npy=npy(pattern))))
        assert_array_equal(found.mask, np.broadcast_to(mask, found.mask.shape))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.array([{"a": 1}], dtype=object)), "got one of Python objects"),
        (npy(np.ones((1, 2, 8, 8), np.complex64))[:-1], "of 1024 bytes of samples by its header, got 1023"),
        (npy(np.ones((1, 2, 8, 8), np.int16)), r"expected complex k-space .*, got int16 \(1, 2, 8, 8\)"),
        (npy(np.ones((8, 8), np.complex64)), r"got complex64 \(8, 8\)"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': evil()}", "header can't be read"),
    ],
)
def test_npy_files_that_hold_no_k_space_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(KdmriError, match=words):
        reader.read(io.BytesIO(content))


def test_an_npy_header_is_held_against_the_file_before_memory_is_taken() -> None:
    content = npy(np.ones((1, 2, 8, 8), np.complex64)).replace(b"(1, 2, 8, 8)", b"(9, 9, 9, 9)")
    with pytest.raises(UnreadableKSpace, match="of 52488 bytes of samples by its header, got 1024"):
        reader.read(io.BytesIO(content))


def test_three_axes_without_a_header_are_said_to_be_slices(full: KSpace) -> None:
    assert any(
        "(slice, row, column) of one coil" in note for note in reader.read(io.BytesIO(npy(full.samples[0]))).notes
    )


@pytest.mark.parametrize("suffix", [".cfl", ".hdr"])
def test_a_bart_pair_by_either_path(full: KSpace, tmp_path: Path, suffix: str) -> None:
    cfl, hdr = bart(full.samples)
    (tmp_path / "scan.cfl").write_bytes(cfl)
    (tmp_path / "scan.hdr").write_bytes(hdr)
    for found in (reader.read(tmp_path / f"scan{suffix}"), kdmri.read(tmp_path / f"scan{suffix}")):
        assert isinstance(found, KSpace)
        assert_array_equal(found.samples, full.samples)


def test_a_bart_pair_in_a_zip(full: KSpace) -> None:
    cfl, hdr = bart(np.concatenate([full.samples, 2 * full.samples]))
    found = kdmri.read(zipped(scan__cfl=cfl, scan__hdr=hdr))
    assert isinstance(found, KSpace)
    assert_array_equal(found.samples, np.concatenate([full.samples, 2 * full.samples]))


@pytest.mark.parametrize(("number", "parameter", "name"), [(5, "contrast", "TE"), (10, "repetition", "TIME")])
def test_one_entry_of_barts_further_dimensions_is_chosen(full: KSpace, number: int, parameter: str, name: str) -> None:
    cfl, hdr = bart(full.samples, more={number: 3})
    for entry in (0, 2):
        found = reader.read(io.BytesIO(zipped(a__cfl=cfl, a__hdr=hdr)), **{parameter: entry})
        assert_allclose(found.samples, (entry + 1) * full.samples, rtol=1e-6)
        assert any(f"Number {entry} (from 0) of 3 in BART's dimension {name}" in note for note in found.notes)
    with pytest.raises(InvalidRequest, match=f"expected a {parameter} from 0 to 2"):
        reader.read(io.BytesIO(zipped(a__cfl=cfl, a__hdr=hdr)), **{parameter: 3})


def test_bart_pairs_that_do_not_fit_are_refused(full: KSpace, tmp_path: Path) -> None:
    cfl, hdr = bart(full.samples)
    with pytest.raises(UnreadableKSpace, match=rf"expected {len(cfl)} bytes in the \.cfl, .*, got {len(cfl) - 8}"):
        reader.read(io.BytesIO(zipped(a__cfl=cfl[:-8], a__hdr=hdr)))
    with pytest.raises(UnreadableKSpace, match="a line of 2 to 16 lengths"):
        reader.read(io.BytesIO(zipped(a__cfl=cfl, a__hdr=b"# Dimensions\n40 -36 1 3\n")))
    with pytest.raises(UnsupportedInput, match="READ 40, PHS1 36, PHS2 3"):
        reader.read(io.BytesIO(zipped(a__cfl=cfl, a__hdr=b"# Dimensions\n40 36 3 1\n")))
    with pytest.raises(UnsupportedInput, match="at most"):
        reader.read(io.BytesIO(zipped(a__cfl=b"", a__hdr=b"# Dimensions\n99999 99999 1 99\n")))
    with pytest.raises(UnsupportedInput, match=r"the \.hdr of a BART pair without its \.cfl"):
        reader.read(io.BytesIO(hdr))
    (tmp_path / "alone.cfl").write_bytes(cfl)
    with pytest.raises(InvalidRequest, match=r"beside each other, no \.hdr"):
        reader.read(tmp_path / "alone.cfl")


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_the_readout_of_a_file_without_header_is_cropped_on_request(full: KSpace, factor: float) -> None:
    found = reader.read(io.BytesIO(npy(full.samples)), oversampling=factor)
    assert found.image_shape == (round(40 / factor), 36)
    assert any(f"central {round(40 / factor)} of 40 rows" in note for note in found.notes)


def test_oversampling_that_a_header_states_is_not_asked_for(layouts: dict[str, bytes]) -> None:
    for name in ("scan.h5", "scan.mrd"):
        with pytest.raises(InvalidRequest, match="whose header states it, got 2"):
            reader.read(io.BytesIO(layouts[name]), oversampling=2)
