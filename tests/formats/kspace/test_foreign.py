"""What is sent as k-space and is none is refused by its name, with the programme that converts it."""

import gzip
import io
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from kdmri.errors import KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import foreign, reader


def siemens_vb(first: int, name: bytes) -> bytes:
    return struct.pack("<II", first, 6) + name + b"\0" + b"<XProtocol>" * 20


def siemens_ve(count: int) -> bytes:
    entry = struct.pack("<IIQQ", 100, 200, 10240, 2**20) + b"Doe^John".ljust(64, b"\0") + b"scan".ljust(64, b"\0")
    return (struct.pack("<II", 0, count) + entry * count).ljust(10240, b"\0") + b"more"


def philips_lab(kind: int) -> bytes:
    return struct.pack("<IHHHHHH", 2048, 0, 0, 1, 2, 3, kind).ljust(64, b"\0") * 4


FOREIGN = {
    "Siemens VB": (siemens_vb(65536, b"Config"), "siemens_to_ismrmrd"),
    "Siemens VB, other first buffer": (siemens_vb(40000, b"MeasYaps"), "siemens_to_ismrmrd"),
    "Siemens VD, two measurements": (siemens_ve(2), "siemens_to_ismrmrd"),
    "Siemens VE, one measurement": (siemens_ve(1), "siemens_to_ismrmrd"),
    "GE 16": (struct.pack("<f", 16.0).ljust(34, b"\0") + b"GE_MED_NMR" + bytes(2000), "ge_to_ismrmrd"),
    "GE 26": (struct.pack("<f", 26.002).ljust(34, b"\0") + b"GE_MED_NMR" + bytes(2000), "ge_to_ismrmrd"),
    "GE, unused logo": (struct.pack(">f", 9.0).ljust(34, b"\0") + b"INVALIDNMR" + bytes(2000), "ge_to_ismrmrd"),
    "Philips lab": (philips_lab(0x7F00), "philips_to_ismrmrd"),
    "Philips lab, end": (philips_lab(0x7F01), "philips_to_ismrmrd"),
    "Philips sin": (b"01 00 00: location_matrices  : 1.0 0.0\r\n" * 9, "philips_to_ismrmrd"),
    "Philips list": (b"# === DATA DESCRIPTION FILE ======\n#\n# typ mix dyn\n" * 3, "philips_to_ismrmrd"),
    "Bruker acqp": (b"##TITLE=Parameter List, ParaVision 6.0.1\n##JCAMPDX=4.24\n", "bruker_to_ismrmrd"),
    "MRD v2, binary": (b"yardl" + bytes(99), "MRD v2 stream"),
    "MRD v2, text": (b'{"yardl": {"version": 1}}', "MRD v2 stream"),
    "DICOM": (bytes(128) + b"DICM" + bytes(99), "super-resolution"),
    "NIfTI": (struct.pack("<i", 348).ljust(344, b"\0") + b"n+1\0" + bytes(99), "a NIfTI image"),
    "MATLAB 5": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM", "save it again with -v7.3"),
    "tar": (b"scan.h5".ljust(257, b"\0") + b"ustar\0" + bytes(250), "a tar archive"),
    "xz": (b"\xfd7zXZ\0" + bytes(99), "compressed by xz"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed by zstd"),
    "bzip2": (b"BZh91AY&SY" + bytes(99), "compressed by bzip2"),
}
POINTERS = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "Git LFS, Windows": (b"version https://git-lfs.github.com/spec/v1\r\noid sha256:4d7a\r\n", "git lfs pull"),
    "git-annex": (b"/annex/objects/MD5E-s123--abc.h5\n", "git annex get"),
    "datalad": (b"../.git/annex/objects/Xk/9z/MD5E-s9--abc.h5/MD5E-s9--abc.h5", "datalad get"),
    "HTML": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>", "HTML page"),
    "HTML after a byte order mark": (b"\xef\xbb\xbf\n<html lang='en'>", "HTML page"),
    "store": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "error message of a file store"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("packing", [bytes, gzip.compress], ids=["bare", "gzipped"])
def test_formats_of_scanners_and_images_are_refused_with_their_converter(name: str, packing) -> None:
    content, words = FOREIGN[name]
    with pytest.raises(UnsupportedInput) as refusal:
        reader.read(io.BytesIO(packing(content)))
    assert words in str(refusal.value)
    assert "Doe" not in str(refusal.value)


@pytest.mark.parametrize("name", POINTERS)
def test_what_a_download_left_in_the_place_of_a_file_is_named(name: str, tmp_path: Path) -> None:
    content, words = POINTERS[name]
    (tmp_path / "scan.h5").write_bytes(content)
    for source in (tmp_path / "scan.h5", io.BytesIO(content)):
        with pytest.raises(UnreadableKSpace) as refusal:
            reader.read(source)
        assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("Doe.raw", "philips_to_ismrmrd"), ("Doe.data", "philips_to_ismrmrd"), ("fid", "bruker_to_ismrmrd"),
     ("rawdata.job0", "bruker_to_ismrmrd")],
)  # fmt: skip
def test_samples_without_a_signature_are_told_by_their_name(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(np.arange(999, dtype=np.int32).tobytes())
    with pytest.raises(UnsupportedInput, match=words) as refusal:
        reader.read(tmp_path / name)
    assert "Doe" not in str(refusal.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [(("a.raw", "a.lab", "a.sin"), "philips_to_ismrmrd"), (("1/fid", "1/acqp", "1/method"), "bruker_to_ismrmrd")],
)
def test_a_zip_of_a_scanners_folder_is_named(names: tuple[str, ...], words: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, bytes(99))
    with pytest.raises(UnsupportedInput, match=words):
        reader.read(stream)


@pytest.mark.parametrize("group", ["dataset/image_0", "images_0", "dataset/image_4"])
def test_ismrmrd_files_of_images_are_named(tmp_path: Path, group: str) -> None:
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file[f"{group}/data"] = np.ones((1, 1, 1, 8, 8), np.float32)
        file[f"{group}/header"] = np.zeros(1)
        file[f"{group}/attributes"] = [b"<ismrmrdMeta/>"]
    with pytest.raises(UnsupportedInput, match="ISMRMRD file of images: expected acquisitions"):
        reader.read(tmp_path / "out.h5")


@pytest.mark.parametrize("length", [0, 1, 8, 31, 40, 300])
def test_anything_else_is_shown_by_its_first_bytes(length: int) -> None:
    error = foreign.refusal(b"hello" * 100, 500)
    assert str(error) == "expected an HDF5 file, got 500 bytes that begin with 'hellohel'"
    assert isinstance(foreign.refusal(b"\xff" * length, length), KdmriError)
