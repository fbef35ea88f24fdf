"""HDF5 of unknown origin: nothing but k-space in the file itself is read, and damage is told in one sentence."""

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kdmri.data.kspace import KSpace
from kdmri.errors import KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import fastmri
from kdmri.formats.kspace import reader as kspace
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile


@pytest.fixture(scope="module")
def full() -> KSpace:
    return scan(phantom(16, 12), coils=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, full: KSpace) -> dict[str, Path]:
    """The same k-space in both layouts."""
    folder = tmp_path_factory.mktemp("kspace")
    fastmri.write(folder / "fastmri.h5", full)
    return {"fastmri": folder / "fastmri.h5", "mrd": MrdFile.of(full).save(folder / "mrd.h5")}


@pytest.mark.parametrize("layout", ["fastmri", "mrd"])
def test_layouts_are_told_apart_by_content(files: dict[str, Path], full: KSpace, layout: str, tmp_path: Path) -> None:
    disguised = tmp_path / "scan.dcm"
    disguised.write_bytes(files[layout].read_bytes())
    with disguised.open("rb") as stream:
        for source in (disguised, stream, io.BytesIO(disguised.read_bytes())):
            assert_array_equal(kspace.read(source).samples, full.samples)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello" * 100, "expected an HDF5 file, got 500 bytes that begin with 'hellohel'"),
        (b"", "expected an HDF5 file, got 0 bytes that begin with ''"),
        (bytes(132), "expected an HDF5 file, got 132 bytes that begin with '"),
        (b"\xff\xd8\xff\xe0" * 4, "expected an HDF5 file, got 16 bytes that begin with hexadecimal ff d8 ff e0"),
    ],
)
def test_what_is_not_hdf5(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "scan.h5").write_bytes(content)
    for source in (tmp_path / "scan.h5", io.BytesIO(content)):
        with pytest.raises(UnreadableKSpace) as refusal:
            kspace.read(source)
        assert str(refusal.value).startswith(message)


def test_a_missing_file_is_not_called_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kspace.read(tmp_path / "absent.h5")


@pytest.mark.parametrize("layout", ["fastmri", "mrd"])
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused(files: dict[str, Path], layout: str, share: float) -> None:
    content = files[layout].read_bytes()
    with pytest.raises(UnreadableKSpace, match=r"^expected an (intact )?HDF5 file, got"):
        kspace.read(io.BytesIO(content[: int(share * len(content))]))


def test_an_overwritten_heap_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    """The table of acquisitions is intact, the samples it points to are not."""
    content = files["mrd"].read_bytes()
    assert b"GCOL" in content
    (tmp_path / "scan.h5").write_bytes(content.replace(b"GCOL", b"LOST"))
    with pytest.raises(UnreadableKSpace, match="expected an intact HDF5 file, got one that is truncated or damaged"):
        kspace.read(tmp_path / "scan.h5")


@pytest.mark.parametrize("empty", [lambda file: None, lambda file: file.create_group("dataset/data")])
def test_hdf5_without_kspace(tmp_path: Path, empty) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        empty(file)
    with pytest.raises(UnreadableKSpace, match=r"expected k-space: .*\(fastMRI\) or .*\(ISMRMRD\), got neither"):
        kspace.read(tmp_path / "scan.h5")


# Another file on the same machine must stay unread.


@pytest.fixture
def secret(tmp_path: Path, full: KSpace) -> Path:
    fastmri.write(tmp_path / "secret.h5", full)
    return tmp_path / "secret.h5"


@pytest.mark.parametrize("soft", [False, True])
def test_links_are_not_followed(tmp_path: Path, secret: Path, soft: bool) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["elsewhere" if soft else "kspace"] = h5py.ExternalLink(str(secret), "kspace")
        if soft:
            file["kspace"] = h5py.SoftLink("/elsewhere")
        assert file["kspace"].shape == (1, 2, 16, 12)  # h5py itself follows
    with pytest.raises(UnreadableKSpace, match="expected `kspace` in the file itself, got a link to elsewhere"):
        kspace.read(tmp_path / "scan.h5")


def test_linked_groups_hold_no_scan(tmp_path: Path, files: dict[str, Path]) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["dataset"] = h5py.ExternalLink(str(files["mrd"]), "dataset")
    with pytest.raises(UnreadableKSpace, match="got neither"):
        kspace.read(tmp_path / "scan.h5")


def test_external_storage_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(bytes(range(256)) * 8)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        outside = [(str(tmp_path / "secret.txt"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("kspace", (1, 16, 16), np.complex64, external=outside)
        assert file["kspace"][()].any()
    with pytest.raises(UnreadableKSpace, match="got a dataset that refers to other files"):
        kspace.read(tmp_path / "scan.h5")


def test_virtual_datasets_are_not_read(tmp_path: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((1, 2, 16, 12), np.complex64)
    layout[...] = h5py.VirtualSource(secret, "kspace", (1, 2, 16, 12), np.complex64)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
        assert file["kspace"][()].any()
    with pytest.raises(UnreadableKSpace, match="got a dataset that refers to other files"):
        kspace.read(tmp_path / "scan.h5")


@pytest.mark.parametrize("name", ["kspace", "mask"])
def test_what_would_not_fit_in_memory_is_refused_unread(tmp_path: Path, full: KSpace, name: str) -> None:
    path = tmp_path / "scan.h5"
    fastmri.write(path, full)
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, (2**12, 2**12, 2**12), np.complex64, chunks=(1, 64, 64), compression="gzip")
        file[name][0, 0, 0] = 1
    assert path.stat().st_size < 2**20
    with pytest.raises(UnsupportedInput, match="expected at most 8 GiB of k-space, got 512 GiB"):
        kspace.read(path)


@pytest.mark.parametrize("layout", ["fastmri", "mrd"])
def test_the_limit_can_be_chosen(files: dict[str, Path], full: KSpace, layout: str) -> None:
    with pytest.raises(UnsupportedInput, match="expected at most"):
        kspace.read(files[layout], max_bytes=full.samples.nbytes - 1)


def test_refusals_name_no_path(tmp_path: Path, files: dict[str, Path]) -> None:
    path = tmp_path / "Doe_John_19700101.h5"
    for content in (b"", b"Doe", files["mrd"].read_bytes()[:-999], files["fastmri"].read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(KdmriError) as refusal:
            kspace.read(path)
        assert "John" not in str(refusal.value)
        assert str(tmp_path) not in str(refusal.value)
