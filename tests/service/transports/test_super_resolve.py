import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
import torch
from dicomweb_client.web import DICOMwebClient
from fastapi.testclient import TestClient
from numpy.testing import assert_allclose
from PIL import Image
from pydicom.data import get_testdata_file, get_testdata_files

from kdmri.formats.dicom import reader as dicom
from kdmri.physics.resampling import downsample

MR = Path(get_testdata_file("MR_small.dcm"))
SERIES = ("t1_series", "t1_sagittal_series", "ge_phantom_series")


def instances(source: bytes, count: int) -> list[bytes]:
    """Slices of one series: copies of one instance would be worked on once."""
    contents = []
    for number in range(count):
        dataset = pydicom.dcmread(io.BytesIO(source))
        dataset.InstanceNumber = number
        dataset.save_as(file := io.BytesIO())
        contents.append(file.getvalue())
    return contents


def check_derived(source: bytes, answer: bytes, scale: int) -> None:
    """The whole contract of one object: geometry, identity, and pixels that hold what was measured."""
    before, after = pydicom.dcmread(io.BytesIO(source)), pydicom.dcmread(io.BytesIO(answer))
    assert (after.Rows, after.Columns) == (before.Rows * scale, before.Columns * scale)
    old, new = (np.array(d.PixelSpacing, float) for d in (before, after))
    assert_allclose(new, old / scale, rtol=1e-5)
    along_row, along_column = np.array(before.ImageOrientationPatient, float).reshape(2, 3)
    moved = ((new - old) / 2)[1] * along_row + ((new - old) / 2)[0] * along_column
    expected = np.array(before.ImagePositionPatient, float) + moved
    assert_allclose(np.array(after.ImagePositionPatient, float), expected, atol=1e-3)
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    coarse, fine = (dicom.read([content])[0].images.pixels for content in (source, answer))
    measured = downsample(torch.from_numpy(fine), scale).numpy()
    assert_allclose(measured, coarse, atol=1e-4 * np.abs(coarse).max())


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_one_object(client: TestClient, scale: int, role: str) -> None:
    headers = {"content-type": "application/dicom"}
    answer = client.post(f"/super-resolve?scale={scale}&role={role}", content=MR.read_bytes(), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom"
    assert answer.headers["kdmri-role"] == role
    check_derived(MR.read_bytes(), answer.content, scale)


@pytest.mark.parametrize("series", SERIES)
def test_a_slice_of_every_series(client: TestClient, series: str, data: Path) -> None:
    source = sorted((data / "dicom" / series).glob("*.dcm"))[0].read_bytes()
    answer = client.post("/super-resolve?scale=2", content=source, headers={"content-type": "application/dicom"})
    assert answer.status_code == 200
    check_derived(source, answer.content, 2)


def test_several_files_are_answered_as_a_zip(client: TestClient) -> None:
    files = [("file", ("a.dcm", content)) for content in instances(MR.read_bytes(), 2)]
    answer = client.post("/super-resolve", files=files)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        for name in archive.namelist():
            check_derived(MR.read_bytes(), archive.read(name), 2)


@pytest.mark.parametrize("envelope", ["application/zip", "application/x-zip-compressed", "form"])
def test_zip_in(client: TestClient, envelope: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("study/one.dcm", MR.read_bytes())
    if envelope != "form":
        answer = client.post("/super-resolve", content=buffer.getvalue(), headers={"content-type": envelope})
    else:
        answer = client.post("/super-resolve", files={"file": ("series.zip", buffer.getvalue())})
    check_derived(MR.read_bytes(), answer.content, 2)


@pytest.mark.parametrize("kind", ["application/dicom", "application/zip", "application/x-zip-compressed"])
def test_a_zip_among_the_parts_of_a_form(client: TestClient, kind: str) -> None:
    """A part is told apart by its content, whatever type and name it has."""
    first, second, third = instances(MR.read_bytes(), 3)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("study/two.dcm", second)
        archive.writestr("study/readme.txt", "text")
    parts = [("a.dcm", first), ("b.dcm", buffer.getvalue()), ("c.dcm", third)]
    answer = client.post("/super-resolve", files=[("file", (name, content, kind)) for name, content in parts])
    assert answer.headers["KDMRI-Notes"] == "1 of 4 objects were left out: 1 x something else."
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len(archive.namelist()) == 3


def test_multipart_related_is_answered_in_kind(client: TestClient) -> None:
    """A STOW-RS body: quoted boundary, pixel data with any bytes in it."""
    head = b"--a b\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + content + b"\r\n" for content in instances(MR.read_bytes(), 2)) + b"--a b--"
    kind = 'multipart/related; type="application/dicom"; boundary="a b"'
    answer = client.post("/super-resolve", content=body, headers={"content-type": kind})
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    objects = [chunk.split(b"\r\n\r\n", 1)[1][:-2] for chunk in answer.content.split(b"--" + boundary)[1:-1]]
    assert len(objects) == 2
    for content in objects:
        check_derived(MR.read_bytes(), content, 2)


@pytest.mark.parametrize("boundary", [b"--a b", b"\r\n\r\n", b"\r\n--a b", b"\r\n--a b\r\r\n", b"\r\n\r\n--a "])
def test_pixels_may_look_like_the_envelope(client: TestClient, boundary: bytes) -> None:
    """The boundary "a b!" never stands in them whole."""
    source = pydicom.dcmread(MR)
    source.PixelData = (boundary + source.PixelData)[: len(source.PixelData)]
    source.save_as(file := io.BytesIO())
    head = b"--a b!\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + content + b"\r\n" for content in instances(file.getvalue(), 2)) + b"--a b!--"
    kind = 'multipart/related; type="application/dicom"; boundary="a b!"'
    answer = client.post(
        "/super-resolve",
        content=body,
        headers={"content-type": kind, "accept": "application/zip"},
    )
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len(archive.namelist()) == 2
        for name in archive.namelist():
            check_derived(file.getvalue(), archive.read(name), 2)


def test_a_localizer_of_three_planes_is_answered_plane_by_plane(client: TestClient) -> None:
    """Series of the wheel: each answered object is checked against the source that it names."""
    contents = [Path(name).read_bytes() for name in get_testdata_files("dicomdirtests/98892003/MR2/*")]
    answer = client.post("/super-resolve", files=[("file", ("a.dcm", content)) for content in contents])
    assert answer.headers["content-type"] == "application/zip"
    sources = {pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID: content for content in contents}
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        objects = [archive.read(name) for name in archive.namelist()]
    derived = [pydicom.dcmread(io.BytesIO(content)) for content in objects]
    assert len(objects) == len(contents) == 7
    assert len({dataset.SeriesInstanceUID for dataset in derived}) == 3
    for dataset, content in zip(derived, objects, strict=True):
        check_derived(sources[dataset.SourceImageSequence[0].ReferencedSOPInstanceUID], content, 2)


def test_dicomweb_client_is_understood_and_understands(client: TestClient) -> None:
    """What it stores with (STOW-RS) is read, what it retrieves with (WADO-RS) reads the answer."""
    kind = 'multipart/related; type="application/dicom"; boundary="9f2b"'
    body = DICOMwebClient._encode_multipart_message(instances(MR.read_bytes(), 3), kind)
    answer = client.post("/super-resolve", content=body, headers={"content-type": kind})
    received = requests.Response()
    received.status_code, received._content = answer.status_code, answer.content
    received.headers["content-type"] = answer.headers["content-type"]
    objects = list(DICOMwebClient("http://127.0.0.1")._decode_multipart_message(received, stream=False))
    assert len(objects) == 3
    for content in objects:
        check_derived(MR.read_bytes(), bytes(content), 2)


def test_figures_and_preview(client: TestClient) -> None:
    for kind in ("application/json", "image/png"):
        headers = {"accept": kind, "content-type": "application/dicom"}
        answer = client.post("/super-resolve", content=MR.read_bytes(), headers=headers)
        assert answer.headers["content-type"] == kind


def test_quality_is_answered_and_what_is_unusual_warned_of(client: TestClient) -> None:
    """An image of one value has no contrast, and no model saw such."""
    source = pydicom.dcmread(MR)
    uniform = pydicom.dcmread(MR)
    uniform.PixelData = np.full_like(source.pixel_array, 100).tobytes()
    warned = []
    for dataset in (source, uniform):
        dataset.save_as(file := io.BytesIO())
        said = client.post(
            "/super-resolve", content=file.getvalue(), headers={"content-type": "application/dicom"}
        ).headers
        assert float(said["kdmri-residual"]) < 1e-3
        assert float(said["kdmri-noise"]) >= 0
        assert "contrast=" in said["kdmri-distance"]
        warned.append("contrast" in said.get("kdmri-warning", ""))
    assert warned == [False, True]


@pytest.mark.parametrize("role", ["student", "both"])
def test_a_preview_has_the_window_of_its_source(client: TestClient, role: str) -> None:
    """The window is moved above all pixels: then everything is black."""
    source = pydicom.dcmread(MR)
    peak = float(source.pixel_array.max())
    shades = []
    for center in (peak / 2, 10 * peak):
        source.WindowCenter, source.WindowWidth = f"{center:.1f}", f"{peak:.1f}"
        source.save_as(file := io.BytesIO())
        headers = {"content-type": "application/dicom", "accept": "image/png"}
        answer = client.post(f"/super-resolve?role={role}", content=file.getvalue(), headers=headers)
        shades.append(np.asarray(Image.open(io.BytesIO(answer.content))).max())
    assert shades == [255, 0]
