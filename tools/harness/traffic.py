"""Requests as clients send them, to either role, with k-space and DICOM of installed packages or of a data set."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from pydicom.data import get_testdata_file

from kdmri.data.images import Images
from kdmri.formats import nifti
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import fastmri
from kdmri.operations.undersampling import keep_lines, of_images

ROLES = ("student", "teacher")
AIR = 0.1
"""Slices whose largest value is below this share of the volume's are left out, as in training."""


def slices_of(data: Path, anatomy: str) -> Iterator[Images]:
    """Read every slice of the test split that is not air."""
    for file in sorted((data / "volumes" / "test" / anatomy).glob("*.nii.gz")):
        pixels = nifti.read(file).pixels
        for image in pixels:
            if image.max() > AIR * pixels.max():
                yield Images(image[None])


def kspace_file(images: Images, acceleration: float, seed: int = 0) -> bytes:
    """Write magnitude images as undersampled k-space in fastMRI layout: simulated, one coil, no phase.

    Args:
        images: Magnitudes.
        acceleration: Grid lines over measured lines.
        seed: Seed of the mask.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        fastmri.write(path, keep_lines(of_images(images), acceleration, seed=seed))
        return path.read_bytes()


@cache
def small_dicom() -> bytes:
    """Return a 64 x 64 MR slice that pydicom's package carries."""
    file = get_testdata_file("MR_small.dcm")
    if not isinstance(file, str):
        raise FileNotFoundError("expected MR_small.dcm in pydicom's package, found none")
    return Path(file).read_bytes()


@cache
def small_kspace() -> bytes:
    """Return the k-space of the same slice at 4x."""
    return kspace_file(dicom.read([small_dicom()])[0].images, 4)


def reconstruct(client: httpx2.Client, role: str, body: bytes | None = None) -> httpx2.Response:
    """Send k-space to POST /reconstruct.

    Args:
        client: HTTP client of the service.
        role: Role that answers.
        body: The file; by default a small slice.
    """
    files: Mapping[str, bytes] = {"file": body or small_kspace()}
    return client.post("/reconstruct", params={"role": role}, files=files)


def super_resolve(client: httpx2.Client, role: str, body: bytes | None = None) -> httpx2.Response:
    """Send DICOM to POST /super-resolve.

    Args:
        client: HTTP client of the service.
        role: Role that answers.
        body: The object; by default a small slice.
    """
    headers = {"content-type": "application/dicom"}
    return client.post("/super-resolve", params={"role": role}, content=body or small_dicom(), headers=headers)


def send_mixed(client: httpx2.Client) -> None:
    """Send both operations to both roles, and a file that can't be read."""
    for role in ROLES:
        reconstruct(client, role).raise_for_status()
        super_resolve(client, role).raise_for_status()
    reconstruct(client, "student", b"not HDF5")


def crowd(client: httpx2.Client, size: int, body: bytes | None = None) -> list[int]:
    """Send many requests at a time.

    Args:
        client: HTTP client of the service.
        size: Number of requests.
        body: The file to send.

    Returns:
        Their statuses.
    """
    # A thread for each request: httpx's client sends from many threads, each request on a connection of its own.
    with ThreadPoolExecutor(size) as pool:
        sent = [pool.submit(reconstruct, client, "teacher", body) for _ in range(size)]
        return [answer.result().status_code for answer in sent]
