import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient
from numpy.testing import assert_allclose
from PIL import Image

from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import fastmri
from kdmri.formats.kspace import reader as kspace
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model
from tests.formats.kspace.mrd_files import MrdFile
from tests.service.transports.test_status import value


def as_part(path: Path) -> dict[str, tuple[str, bytes]]:
    return {"file": (path.name, path.read_bytes())}


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_k_space_in_images_out(
    client: TestClient, kspace_file: Path, models: dict[tuple[str, str], Model], role: str
) -> None:
    answer = client.post("/reconstruct", params={"role": role}, files=as_part(kspace_file))
    assert answer.status_code == 200
    with h5py.File(io.BytesIO(answer.content)) as file:
        pixels = file["reconstruction"]
        assert pixels.dtype == np.float32
        expected = Reconstructor(models["reconstruction", role]).reconstruct(kspace.read(kspace_file)).pixels
        assert_allclose(pixels, expected, atol=1e-5)
    manifest = models["reconstruction", role].manifest
    assert answer.headers["content-type"] == "application/x-hdf5"
    assert answer.headers["kdmri-model"] == manifest.reference
    assert answer.headers["kdmri-role"] == role
    assert float(answer.headers["kdmri-acceleration"]) == pytest.approx(4, abs=0.1)
    stages = [entry.split(";")[0] for entry in answer.headers["server-timing"].split(", ")]
    assert stages == ["parse", "queue", "sensitivities", "data_consistency", "denoise", "encode"]


@pytest.mark.parametrize("kind", ["application/x-hdf5", "application/octet-stream"])
def test_raw_body_and_form_are_answered_alike(client: TestClient, kspace_file: Path, kind: str) -> None:
    form = client.post("/reconstruct", files=as_part(kspace_file))
    raw = client.post("/reconstruct", content=kspace_file.read_bytes(), headers={"content-type": kind})
    read = [h5py.File(io.BytesIO(a.content))["reconstruction"][()] for a in (form, raw)]
    assert_allclose(read[0], read[1])


def test_png(client: TestClient, kspace_file: Path) -> None:
    answer = client.post("/reconstruct", files=as_part(kspace_file), headers={"accept": "image/png"})
    assert Image.open(io.BytesIO(answer.content)).mode == "L"


def test_figures(client: TestClient, kspace_file: Path) -> None:
    figures = client.post("/reconstruct", files=as_part(kspace_file), headers={"accept": "application/json"}).json()
    assert figures["shape"] == [2, 64, 80]
    assert figures["milliseconds_per_slice"] > 0


def test_dicom_series(client: TestClient, kspace_file: Path) -> None:
    answer = client.post("/reconstruct", files=as_part(kspace_file), headers={"accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        slices = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert len(slices) == 2
    assert len({s.SeriesInstanceUID for s in slices}) == 1
    assert len({s.SOPInstanceUID for s in slices}) == 2


def test_several_slices_are_no_single_dicom_object(client: TestClient, kspace_file: Path) -> None:
    answer = client.post("/reconstruct", files=as_part(kspace_file), headers={"accept": "application/dicom"})
    assert answer.status_code == 406
    assert "accept application/zip" in answer.json()["detail"]


def test_acceleration_beyond_training_is_warned_of(client: TestClient, tmp_path: Path) -> None:
    fastmri.write(tmp_path / "fast.h5", scan(phantom(64, 192), acceleration=16))
    fastmri.write(tmp_path / "full.h5", scan(phantom(64, 192)))
    fast, full = (client.post("/reconstruct", files=as_part(tmp_path / name)) for name in ("fast.h5", "full.h5"))
    assert "outside the trained range" in fast.headers["kdmri-warning"]
    assert "fully sampled" in full.headers["kdmri-warning"]


def test_a_model_by_name(client: TestClient, kspace_file: Path, models: dict[tuple[str, str], Model]) -> None:
    wanted = models["reconstruction", "teacher"].manifest
    for model in (wanted.name, wanted.reference):
        answer = client.post("/reconstruct", params={"model": model}, files=as_part(kspace_file))
        assert answer.headers["kdmri-model"] == wanted.reference


def test_quality_is_answered_and_exported(client: TestClient, kspace_file: Path) -> None:
    """One definition: headers, figures and the histograms' sums say the same."""
    labels = {"operation": "reconstruct"}
    names = ("kdmri_quality_residual_ratio", "kdmri_quality_noise_ratio", "kdmri_quality_distance_octaves")
    before = [value(client, f"{name}_sum", **labels) for name in names]
    warned = value(client, "kdmri_quality_warnings_total", **labels)
    answer = client.post("/reconstruct", files=as_part(kspace_file), headers={"accept": "application/json"})
    found = answer.json()
    after = [value(client, f"{name}_sum", **labels) for name in names]
    sums = [found["residual"], found["noise"], sum(found["distance_octaves"].values())]
    assert_allclose(np.subtract(after, before), sums, atol=2e-3)
    assert float(answer.headers["kdmri-residual"]) == pytest.approx(found["residual"], rel=1e-2)
    assert float(answer.headers["kdmri-noise"]) == pytest.approx(found["noise"], rel=1e-2)
    listed = dict(entry.split("=") for entry in answer.headers["kdmri-distance"].split(", "))
    assert {name: float(octaves) for name, octaves in listed.items()} == pytest.approx(
        found["distance_octaves"], abs=0.01
    )
    assert answer.headers["kdmri-warning"] == found["warning"]
    assert "columns 80 is outside the trained range" in found["warning"]
    assert value(client, "kdmri_quality_warnings_total", **labels) == warned + 1


def test_openapi_describes_the_headers(client: TestClient, kspace_file: Path) -> None:
    answered = client.post("/reconstruct?role=both", files=as_part(kspace_file)).headers
    said = {name for name in answered if name not in ("content-type", "content-length")}
    described = client.get("/openapi.json").json()["paths"]["/reconstruct"]["post"]["responses"]["200"]["headers"]
    assert said <= {name.lower() for name in described}


def test_virtual_coils_are_chosen_by_number(
    client: TestClient, tmp_path: Path, models: dict[tuple[str, str], Model]
) -> None:
    measured = scan(phantom(48, 40), coils=8, acceleration=2)
    fastmri.write(tmp_path / "scan.h5", measured)
    answer = client.post("/reconstruct", params={"coils": 3}, files=as_part(tmp_path / "scan.h5"))
    expected = Reconstructor(models["reconstruction", "student"]).reconstruct(measured, coils=3).pixels
    assert_allclose(h5py.File(io.BytesIO(answer.content))["reconstruction"][()], expected, atol=1e-4 * expected.max())
    assert client.post("/reconstruct", params={"coils": 0}, files=as_part(tmp_path / "scan.h5")).status_code == 400


def test_a_contrast_that_is_not_there_is_refused_by_number(client: TestClient, tmp_path: Path) -> None:
    file = MrdFile.of(scan(phantom(48, 40))).save(tmp_path / "scan.h5")
    assert client.post("/reconstruct", params={"contrast": 0}, files=as_part(file)).status_code == 200
    answer = client.post("/reconstruct", params={"contrast": 3}, files=as_part(file))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == 400
    assert "got 3" in answer.json()["detail"]


def test_a_full_real_scan_is_said_to_be_answered_with_its_plain_image(client: TestClient, data: Path) -> None:
    answer = client.post("/reconstruct", files=as_part(data / "kspace" / "brain_16ch.mrd.h5"))
    assert "k-space is fully sampled: the answer is the plain image" in answer.headers["kdmri-warning"]


def test_a_real_scan_far_beyond_the_trained_range_is_answered_with_a_warning(
    client: TestClient, data: Path, tmp_path: Path
) -> None:
    """And with the residual."""
    full = kspace.read(data / "kspace" / "brain_16ch.mrd.h5")
    lines = np.isin(np.arange(128), [2, 40, *range(62, 67), 110])
    mask = np.broadcast_to(lines, (1, 128, 128))
    fastmri.write(tmp_path / "scan.h5", KSpace(full.samples * lines, mask, full.image_shape))
    answer = client.post("/reconstruct", files=as_part(tmp_path / "scan.h5"))
    assert answer.status_code == 200
    assert float(answer.headers["kdmri-acceleration"]) == 16
    assert "acceleration 16 is outside the trained range" in answer.headers["kdmri-warning"]
    assert 0 < float(answer.headers["kdmri-residual"]) < 1


def test_a_real_scan_with_a_radial_trajectory_is_refused_by_name(
    client: TestClient, data: Path, tmp_path: Path
) -> None:
    file = MrdFile.load(data / "kspace" / "brain_16ch.mrd.h5")
    file.xml = file.xml.replace("cartesian", "radial")
    answer = client.post("/reconstruct", files=as_part(file.save(tmp_path / "scan.h5")))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "radial trajectory: only Cartesian k-space is reconstructed"
