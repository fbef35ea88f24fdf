"""Slices of pydicom's 64 x 64 MR image with some attributes changed, and super-resolution by interpolation."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pydicom
import torch
from pydicom import Dataset
from pydicom.data import get_testdata_file

from kdmri.formats.dicom import derived, objects, reader
from kdmri.physics.resampling import upsample

MODEL = "vdsr-student@1.2.0"
MR = Path(str(get_testdata_file("MR_small.dcm", download=False)))


def mr_slice(**changes: object) -> Dataset:
    """Return a slice; None takes an attribute out."""
    dataset = pydicom.dcmread(MR)
    for keyword, value in changes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


def content(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=False)
    return buffer.getvalue()


def zipped(contents: Sequence[bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for number, member in enumerate(contents):
            archive.writestr(f"DICOM/IM{number:04d}", member)
    return buffer.getvalue()


def answer_to(*sources: bytes, scale: int = 2, model: str = MODEL) -> list[Dataset]:
    """Read an upload, interpolate, and return the answer as a receiver reads it."""
    groups = reader.read(sources)
    pixels = [upsample(torch.from_numpy(group.images.pixels), scale).numpy() for group in groups]
    made = derived.derive(groups, pixels, scale=scale, model=model)
    return [pydicom.dcmread(io.BytesIO(objects.to_bytes(dataset))) for dataset in made]


def with_value(source: bytes, tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an explicit little endian file with another VR and value of a short element."""
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    start = source.index(head, 132)
    old = int.from_bytes(source[start + 6 : start + 8], "little")
    value += b" " * (len(value) % 2)
    length = bytes(2) + len(value).to_bytes(4, "little") if vr in (b"UT", b"UN") else len(value).to_bytes(2, "little")
    return source[:start] + head + vr + length + value + source[start + 8 + old :]
