"""Records to the bytes that a client accepts."""

import io
import json
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
from jaxtyping import Float32
from kdmri_service.transports.http.problems import NotAcceptable
from numpy import ndarray
from pydicom import Dataset

from kdmri.data.images import Images
from kdmri.formats import png
from kdmri.formats.dicom import derived

HDF5, DICOM, ZIP = "application/x-hdf5", "application/dicom", "application/zip"
PNG, JSON, RELATED = "image/png", "application/json", "multipart/related"


def negotiate(accept: str | None, offered: Sequence[str]) -> str:
    """The offered media type that the client likes best; the first offered where it does not say.

    Raises NotAcceptable where it accepts none of them (RFC 9110, section 12.5.1).
    """
    best, liked = None, 0.0
    for kind in offered:
        quality = _quality(accept or "*/*", kind)
        if quality > liked:
            best, liked = kind, quality
    if best is None:
        raise NotAcceptable(f"expected Accept with one of {', '.join(offered)}, got {(accept or '')[:200]}")
    return best


def _quality(accept: str, kind: str) -> float:
    """The weight that the most specific matching range of an Accept header gives to a media type."""
    group = kind.split("/")[0]
    specific, quality = -1, 0.0
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        rank = {kind: 2, f"{group}/*": 1, "*/*": 0}.get(name, -1)
        if rank > specific:
            specific, quality = rank, _weight(parameters)
    return quality


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def hdf5(datasets: Mapping[str, Float32[ndarray, "slice row column"]], figures: dict[str, Any]) -> bytes:
    """HDF5 with float32 datasets [slice, row, column] and the figures as attributes.

    Figures in a mapping of a dataset's name are that dataset's; other mappings and None have no place in HDF5.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, pixels in datasets.items():
            file.create_dataset(name, data=pixels)
        for place, values in ((file, figures), *((file[name], figures.get(name, {})) for name in datasets)):
            place.attrs.update({key: value for key, value in values.items() if not isinstance(value, dict | None)})
    return buffer.getvalue()


def figures_json(figures: dict[str, Any]) -> bytes:
    """The figures of an answer, without its images."""
    return json.dumps(figures).encode()


def preview(images: Images, headers: Sequence[Dataset] = ()) -> bytes:
    """The images as one 8-bit PNG, windowed as a viewer would; `headers` are of the DICOM that they were made from."""
    return png.to_bytes(images, headers)


def dicom(datasets: Sequence[Dataset], kind: str) -> tuple[bytes, str]:
    """DICOM objects in an envelope (application/dicom, application/zip, multipart/related), and its Content-Type.

    Raises NotAcceptable for several objects as application/dicom.
    """
    objects = [derived.to_bytes(dataset) for dataset in datasets]
    if kind == RELATED:
        return _related(objects)
    if kind == ZIP:
        return _zipped(objects), ZIP
    if len(objects) != 1:
        raise NotAcceptable(f"{DICOM} holds one object, the answer has {len(objects)}: accept {ZIP} or {RELATED}")
    return objects[0], DICOM


def _zipped(objects: Sequence[bytes]) -> bytes:
    buffer = io.BytesIO()
    # Stored: pixels of noise hardly shrink, and a network is faster than deflate.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, content in enumerate(objects, start=1):
            archive.writestr(f"{number:04d}.dcm", content)
    return buffer.getvalue()


def _related(objects: Sequence[bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    body = b"".join(head + content + b"\r\n" for content in objects) + f"--{boundary}--\r\n".encode()
    return body, f'{RELATED}; type="{DICOM}"; boundary={boundary}'
