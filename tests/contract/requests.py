"""A fixed set of HTTP requests, and what of their answers must stay the same from one commit to the next.

The inputs are simulated or come with pydicom, so that anybody can send them.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import httpx2
import numpy as np
import pydicom
from numpy import ndarray
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import UID

from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile

HDF5, DICOM, ZIP, PNG, JSON = (
    "application/x-hdf5",
    "application/dicom",
    "application/zip",
    "image/png",
    "application/json",
)
SAMPLES = 64
"""Values of each array that are kept, evenly spaced."""
VOLATILE = ("date", "x-request-id", "content-length")
MADE_ANEW = re.compile(r"UID$|Date$|Time$|DateTime$|^PixelData$|^ContributingEquipmentSequence$|^SourceImageSequence$")
"""Keywords of DICOM elements whose values differ from answer to answer, or are compared as arrays."""
MAX_UPLOAD_MB = 8
"""Limit of the service that the record was made with, so that a body above it is small."""
SPEED = re.compile(r"milli|seconds|speedup")


@dataclass(frozen=True)
class Call:
    """One request."""

    path: str
    body: bytes | None = None
    kind: str = ""
    accept: str = ""
    method: str = "POST"
    parts: tuple[bytes, ...] = field(default=())


def calls() -> Iterator[tuple[str, Call]]:
    """Yield every request with a name."""
    one, several, series = kspace(1), kspace(4), kspace(1, slices=3)
    small = Path(str(get_testdata_file("MR_small.dcm"))).read_bytes()
    for accept in ("", HDF5, DICOM, ZIP, PNG, JSON):
        yield f"one coil as {accept or 'default'}", Call("/reconstruct", one, HDF5, accept)
    for role in ("student", "teacher", "both"):
        for accept in (HDF5, PNG, JSON):
            yield f"four coils, {role}, {accept}", Call(f"/reconstruct?role={role}", several, HDF5, accept)
    yield "three slices, zip", Call("/reconstruct", series, HDF5, ZIP)
    yield "three slices as one object", Call("/reconstruct", series, HDF5, DICOM)
    yield "two virtual coils", Call("/reconstruct?coils=2", several, HDF5)
    yield "by name", Call("/reconstruct?model=dc-cnn-teacher", one, HDF5, JSON)
    yield "octets", Call("/reconstruct", one, "application/octet-stream", JSON)
    yield "form", Call("/reconstruct", parts=(one,), accept=JSON)
    for scale in (2, 4):
        for accept in ("", DICOM, ZIP, PNG, JSON):
            yield (
                f"MR_small x {scale} as {accept or 'default'}",
                Call(f"/super-resolve?scale={scale}", small, DICOM, accept),
            )
    for role in ("teacher", "both"):
        yield f"MR_small, {role}, HDF5", Call(f"/super-resolve?role={role}", small, DICOM, HDF5)
    for name in ("MR_small_RLE", "MR_small_jp2klossless", "MR_small_bigendian", "MR_small_implicit"):
        content = Path(str(get_testdata_file(f"{name}.dcm"))).read_bytes()
        yield name, Call("/super-resolve", content, DICOM)
    yield "form of two", Call("/super-resolve", parts=(small, copy_of(small)))
    yield "zip of two", Call("/super-resolve", zipped(small, copy_of(small)), ZIP)
    mrd = ismrmrd(scan(phantom(96, 80), coils=2, acceleration=4))
    yield "ISMRMRD", Call("/reconstruct?contrast=0&repetition=0", mrd, HDF5)
    yield "ISMRMRD as DICOM", Call("/reconstruct", mrd, HDF5, DICOM)
    yield "no such repetition", Call("/reconstruct?repetition=1", mrd, HDF5)
    related = 'multipart/related; type="application/dicom"; boundary=parts'
    yield "multipart/related, zip", Call("/super-resolve", enclosed(small, copy_of(small)), related, ZIP)
    yield "multipart/related without an end", Call("/super-resolve", enclosed(small)[:-9], related)
    yield "over the limit", Call("/reconstruct", bytes(MAX_UPLOAD_MB * 2**20 + 1), HDF5)
    yield "head of a path that is read", Call("/livez", method="HEAD")
    yield "no such role", Call("/reconstruct?role=expert", one, HDF5)
    yield "no such model", Call("/reconstruct?model=none", one, HDF5)
    yield "no such scale", Call("/super-resolve?scale=3", small, DICOM)
    yield "a scale that is no number", Call("/super-resolve?scale=x", small, DICOM)
    yield "not acceptable", Call("/reconstruct", one, HDF5, "text/html")
    yield "no such media type", Call("/reconstruct", one, "text/plain")
    yield "no media type", Call("/reconstruct", one)
    yield "no HDF5", Call("/reconstruct", b"no k-space", HDF5)
    yield "HDF5 cut short", Call("/reconstruct", one[: len(one) // 2], HDF5)
    yield "no DICOM", Call("/super-resolve", b"no image", DICOM)
    yield "DICOM cut short", Call("/super-resolve", small[: len(small) // 2], DICOM)
    yield "two scans", Call("/reconstruct", parts=(one, one))
    yield "no such contrast", Call("/reconstruct?contrast=3", one, HDF5)
    yield "a negative contrast", Call("/reconstruct?contrast=-1", one, HDF5)
    yield "no such path", Call("/none", method="GET")
    yield "wrong method", Call("/reconstruct", method="GET")
    for path in ("/livez", "/readyz", "/models", "/models/dc-cnn-student", "/models/none"):
        yield path, Call(path, method="GET")


def kspace(coils: int, slices: int = 1) -> bytes:
    """Return a simulated scan of 96 x 80 at 4x in fastMRI layout."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scan.h5"
        fastmri.write(file, scan(np.repeat(phantom(96, 80), slices, axis=0), coils=coils, acceleration=4))
        return file.read_bytes()


def copy_of(content: bytes) -> bytes:
    """Return another instance of the same series."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{dataset.SOPInstanceUID}.2")
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def ismrmrd(measured: KSpace) -> bytes:
    """Return a scan in ISMRMRD layout."""
    with TemporaryDirectory() as folder:
        return MrdFile.of(measured).save(Path(folder) / "scan.h5").read_bytes()


def enclosed(*contents: bytes) -> bytes:
    """Return a multipart/related body of DICOM objects; its boundary is `parts`."""
    head = b"--parts\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + content + b"\r\n" for content in contents) + b"--parts--"


def zipped(*contents: bytes) -> bytes:
    """Return a zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.dcm", content)
    return buffer.getvalue()


def send(client: httpx2.Client, call: Call) -> httpx2.Response:
    """Send a request."""
    headers = {name: value for name, value in (("Content-Type", call.kind), ("Accept", call.accept)) if value}
    if call.parts:
        files = [("file", (f"{number}", content)) for number, content in enumerate(call.parts)]
        return client.post(call.path, files=files, headers=headers)
    return client.request(call.method, call.path, content=call.body, headers=headers)


def summary(answer: httpx2.Response) -> dict[str, object]:
    """Return status, headers and content of an answer, without what differs from run to run."""
    headers = {name: value for name, value in answer.headers.items() if name not in VOLATILE}
    if "server-timing" in headers:
        headers["server-timing"] = re.sub(r"dur=[\d.]+", "dur", headers["server-timing"])
    headers["content-type"] = re.sub(r"boundary=\w+", "boundary", headers["content-type"])
    # An answer without a body (HEAD, or 405 to it) still names the type that a body would have.
    reader = answer.content and next(
        (read for kind, read in READERS.items() if headers["content-type"].startswith(kind)), None
    )
    return {"status": answer.status_code, "headers": headers, "content": reader(answer.content) if reader else None}


def _json(content: bytes) -> object:
    return _without_speed(json.loads(content))


def _without_speed(value: object) -> object:
    if isinstance(value, dict):
        return {key: "measured" if SPEED.search(key) else _without_speed(item) for key, item in value.items()}
    return [_without_speed(item) for item in value] if isinstance(value, list) else value


def _hdf5(content: bytes) -> object:
    with h5py.File(io.BytesIO(content)) as file:
        found: dict[str, object] = {"": _attributes(file)}
        for name, dataset in file.items():
            found[name] = [_attributes(dataset), summary_of_array(dataset[()])]
        return found


def _attributes(place: h5py.Group | h5py.Dataset) -> object:
    attributes = {
        name: value.tolist() if isinstance(value, ndarray | np.generic) else value
        for name, value in place.attrs.items()
    }
    return _without_speed(attributes)


def summary_of_array(array: ndarray) -> object:
    """Return type, shape and evenly spaced values of an array."""
    flat = array.astype(float).ravel()
    chosen = flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)]
    return {"type": array.dtype.name, "shape": list(array.shape), "values": [float(f"{value:.6g}") for value in chosen]}


def _png(content: bytes) -> object:
    return summary_of_array(np.asarray(Image.open(io.BytesIO(content))))


def _dicom(content: bytes) -> object:
    dataset = pydicom.dcmread(io.BytesIO(content))
    return [_elements(dataset), summary_of_array(dataset.pixel_array)]


def _elements(dataset: Dataset) -> dict[str, str]:
    return {
        element.keyword or str(element.tag): "" if MADE_ANEW.search(element.keyword) else str(element.value)
        for element in dataset
    }


def _zip(content: bytes) -> object:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: _dicom(archive.read(name)) for name in archive.namelist()}


READERS: dict[str, Callable[[bytes], object]] = {
    "application/problem+json": _json,
    JSON: _json,
    HDF5: _hdf5,
    DICOM: _dicom,
    ZIP: _zip,
    PNG: _png,
}
