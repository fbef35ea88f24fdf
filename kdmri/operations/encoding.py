"""Answers as bytes: figures, HDF5, two roles side by side, and envelopes for several DICOM objects."""

import io
import json
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydantic import JsonValue

from kdmri.bundles.manifest import Manifest
from kdmri.data.images import Images
from kdmri.errors import NotAcceptable
from kdmri.operations.media_types import DICOM, RELATED, ZIP
from kdmri.quality import no_reference
from kdmri.quality.no_reference import Quality
from kdmri.quality.prediction import Prediction

Pixels = Float32[ndarray, "slice row column"]

GAIN = 5
"""Gain of the difference in a picture: a student's errors are a few percent of the image, invisible in its window."""


def figures(manifest: Manifest, images: Images, quality: Quality) -> dict[str, JsonValue]:
    """Return model, role, shape and quality of the images that a model made.

    Args:
        manifest: manifest of the model.
        images: the images, of which the shape (slice, row, column) is stated.
        quality: figures of the images; those that do not apply to them are left out.

    Returns:
        Values that JSON and HDF5 attributes can hold.
    """
    # Four digits: the noise estimate itself is good to two or three.
    measured = {name: float(f"{value:.4g}") for name, value in vars(quality).items() if isinstance(value, float | int)}
    distances = no_reference.distances(quality, manifest)
    warnings = no_reference.warnings(quality, manifest)
    return {
        "model": manifest.reference,
        "role": manifest.role,
        "shape": list(images.pixels.shape),
        **measured,
        "distance_octaves": {name: round(octaves, 3) for name, octaves in distances.items()},
        **(predicted_figures(quality.prediction) if quality.prediction else {}),
        **({"warning": "; ".join(warnings)} if warnings else {}),
    }


def predicted_figures(prediction: Prediction) -> dict[str, JsonValue]:
    """Return the predicted error and PSNR with its interval."""
    return {
        "predicted_error": float(f"{prediction.error:.3g}"),
        "predicted_psnr_db": round(prediction.psnr, 2),
        "predicted_psnr_interval_db": [round(bound, 2) for bound in prediction.psnr_interval],
        "predicted_psnr_coverage": prediction.coverage,
    }


def json_bytes(values: Mapping[str, JsonValue]) -> bytes:
    """Return figures as a JSON document."""
    return json.dumps(values).encode()


def hdf5(datasets: Mapping[str, Pixels], values: Mapping[str, JsonValue]) -> bytes:
    """Write an HDF5 file of float32 datasets, with figures as attributes.

    Args:
        datasets: Pixels of shape (slice, row, column) by the dataset's name.
        values: Figures. A mapping under a dataset's name holds the attributes of that dataset; other mappings and None
            have no equivalent in HDF5 and are only found in the JSON answer.

    Returns:
        The content of the file.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, pixels in datasets.items():
            file.create_dataset(name, data=pixels)
        # Attributes have no null and no nesting: what HDF5 can't hold is left to the JSON answer.
        for place, attributes in ((file, values), *((file[name], values.get(name)) for name in datasets)):
            if isinstance(attributes, Mapping):
                place.attrs.update({key: v for key, v in attributes.items() if not isinstance(v, dict | None)})
    return buffer.getvalue()


def datasets_of_both(student: Images, teacher: Images) -> dict[str, Pixels]:
    """Return both images and their difference, student minus teacher, in the input's units."""
    return {
        "student": student.pixels,
        "teacher": teacher.pixels,
        "difference": student.pixels - teacher.pixels,
    }


def side_by_side(student: Images, teacher: Images) -> Pixels:
    """Return student, teacher and the size of their difference (times GAIN) as one wide image for every slice."""
    # The sign is lost: a preview has no colours, and grey for zero would hide small errors.
    difference = GAIN * np.abs(student.pixels - teacher.pixels)
    return np.concatenate([student.pixels, teacher.pixels, difference], axis=2)


def envelope(files: Sequence[bytes], media_type: str) -> tuple[bytes, str]:
    """Put the files of an answer into one body.

    Args:
        files: The contents of the files.
        media_type: The type of the answer: ZIP and RELATED hold any number of files, all others hold one.

    Returns:
        The body and its Content-Type.

    Raises:
        NotAcceptable: There are several files and the type holds one.
    """
    # multipart/related needs a boundary in its Content-Type, so that type comes back with the body.
    if media_type == RELATED:
        return _multipart_related(files)
    if media_type == ZIP:
        return _zip_archive(files), ZIP
    if len(files) != 1:
        raise NotAcceptable(f"{DICOM} holds one object, the answer has {len(files)}: accept {ZIP} or {RELATED}")
    return files[0], media_type


def write_files(files: Sequence[bytes], target: Path) -> None:
    """Write one file to `target`, or several as 0001.dcm and so on to the folder `target`."""
    # Four digits keep the order of slices in listings that sort by name; longer series go on with five.
    if len(files) == 1:
        target.write_bytes(files[0])
        return
    target.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(files, start=1):
        (target / f"{number:04d}.dcm").write_bytes(content)


def _zip_archive(objects: Sequence[bytes]) -> bytes:
    buffer = io.BytesIO()
    # Members are stored, not deflated: noisy pixels hardly shrink, and a network is faster than deflate.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, content in enumerate(objects, start=1):
            archive.writestr(f"{number:04d}.dcm", content)
    return buffer.getvalue()


def _multipart_related(objects: Sequence[bytes]) -> tuple[bytes, str]:
    # 122 random bits: the boundary must occur in no file, and searching gigabytes for it would take longer.
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    body = b"".join(head + content + b"\r\n" for content in objects) + f"--{boundary}--\r\n".encode()
    return body, f'{RELATED}; type="{DICOM}"; boundary={boundary}'
