import errno
import io
import json
import tempfile
from pathlib import Path

import h5py
import kdmri_service.errors
import numpy as np
import pytest
from fastapi.testclient import TestClient
from kdmri_service.transports.http.problems import STATUS, status_of
from pydicom.data import get_testdata_file

import kdmri.errors
from kdmri.errors import KdmriError, UnreadableInput

DICOM = {"content-type": "application/dicom"}
HDF5 = {"content-type": "application/x-hdf5"}


def hdf5(**datasets: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return buffer.getvalue()


def sample(name: str) -> bytes:
    return Path(get_testdata_file(name)).read_bytes()


CASES = {
    "not HDF5": ("/reconstruct", b"hello, this is no HDF5", HDF5, 422, ("HDF5", "hello")),
    "no k-space": ("/reconstruct", hdf5(image=np.ones((4, 4))), HDF5, 422, ("kspace",)),
    "real k-space": (
        "/reconstruct",
        hdf5(kspace=np.ones((3, 32, 32), "f4")),
        HDF5,
        422,
        ("complex", "float32 (3, 32, 32)"),
    ),
    "empty body": ("/reconstruct", b"", HDF5, 422, ("HDF5",)),
    "unknown role": ("/reconstruct?role=professor", b"", HDF5, 400, ("student or teacher", "professor")),
    "unknown model": ("/reconstruct?model=gpt", b"", HDF5, 404, ("gpt", "there is")),
    "other type": ("/reconstruct", b"", {"content-type": "text/html"}, 415, ("application/x-hdf5", "text/html")),
    "not acceptable": ("/reconstruct", b"", {**HDF5, "accept": "text/html"}, 406, ("image/png", "text/html")),
    "over the limit": ("/reconstruct", bytes(9 * 2**20), HDF5, 413, (str(8 * 2**20), str(9 * 2**20))),
    "no boundary": ("/reconstruct", b"", {"content-type": "multipart/form-data"}, 400, ("boundary", "none")),
    "CT": ("/super-resolve", sample("CT_small.dcm"), DICOM, 422, ("MR", "CT")),
    "colour": ("/super-resolve", sample("examples_rgb_color.dcm"), DICOM, 422, ("expected",)),
    "truncated": ("/super-resolve", sample("MR_truncated.dcm"), DICOM, 422, ("truncated", "8192", "8130")),
    "not DICOM": ("/super-resolve", b"hello" * 100, DICOM, 422, ("DICOM",)),
    "odd scale": ("/super-resolve?scale=3", sample("MR_small.dcm"), DICOM, 400, ("2 or 4", "3")),
    "no number": ("/super-resolve?scale=two", b"", DICOM, 400, ("scale",)),
    "no such parameter": ("/super-resolve?Scale=4", b"", DICOM, 400, ("role, model, scale", "'Scale'")),
    "no address": ("/nowhere", b"", DICOM, 404, ("not found",)),
}


@pytest.mark.parametrize(
    ("number", "status", "kind"),
    [(errno.ENOSPC, 507, "storage-full"), (errno.EDQUOT, 507, "storage-full"), (errno.EMFILE, 503, "overloaded")],
)
def test_a_full_temporary_folder_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, number: int, status: int, kind: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused")

    # The system's own error at the place where it would come from: a disk is not filled for a test.
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", refuse)
        answer = client.post("/reconstruct", content=bytes(2**21), headers=HDF5)
    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:kdmri:problem:{kind}"
    assert client.post("/reconstruct", content=bytes(2**21), headers=HDF5).status_code == 422


@pytest.mark.parametrize("case", CASES)
def test_bad_requests_are_told_what_was_expected_and_what_came(client: TestClient, case: str) -> None:
    url, body, headers, status, words = CASES[case]
    answer = client.post(url, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"]
    assert client.get("/readyz").status_code == 200


def test_a_form_without_the_part_names_what_it_has(client: TestClient) -> None:
    answer = client.post("/reconstruct", files={"image": b"x"})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "expected a part named file, got image"


def test_a_form_that_ends_early(client: TestClient) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf a fi'
    answer = client.post("/reconstruct", content=body, headers=kind)
    assert answer.status_code == 400
    assert "closing boundary" in answer.json()["detail"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(client: TestClient) -> None:
    answer = client.post("/reconstruct", content=(bytes(2**20) for _ in range(10)), headers=HDF5)
    assert answer.status_code == 413


def tree(error: type[KdmriError]) -> set[type[KdmriError]]:
    return {error}.union(*map(tree, error.__subclasses__()))


PROJECT = {e for e in tree(KdmriError) if e.__module__ in (kdmri.errors.__name__, kdmri_service.errors.__name__)}


@pytest.mark.parametrize("error", PROJECT - {KdmriError}, ids=lambda error: error.__name__)
def test_every_error_has_a_status_of_its_own_or_of_its_base(error: type[KdmriError]) -> None:
    nearest = next(base for base in error.__mro__ if base in STATUS)
    assert nearest is not KdmriError
    assert status_of(error("expected this, got that")) == STATUS[nearest]


def test_the_table_holds_errors_of_the_project_alone() -> None:
    assert set(STATUS) <= PROJECT


def test_an_error_of_a_subclass_has_the_status_of_its_base() -> None:
    class UnreadableVolume(UnreadableInput):
        """An error that a later format adds."""

    assert status_of(UnreadableVolume()) == STATUS[UnreadableInput]


def test_what_was_not_foreseen_leaks_nothing(client: TestClient, kspace_file: Path, monkeypatch, capsys) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Doe^John in /secret/path")

    monkeypatch.setattr("kdmri.operations.encoding.hdf5", broken)
    answer = client.post("/reconstruct", files={"file": kspace_file.read_bytes()}, headers={"x-request-id": "abc"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    written = answer.text + "\n" + capsys.readouterr().out
    assert "secret" not in written
    assert "Doe" not in written
    entry = next(json.loads(line) for line in written.splitlines() if "request failed" in line)
    assert (entry["request_id"], entry["error"]) == ("abc", "RuntimeError")


NAMES = {
    "plain": 'name="file"',
    "with a character set": "name*=utf-8''file",
    "with a language": "name*=utf-8'en'file",
    "in two": 'name*0="fi"; name*1="le"',
    "in two with a character set": "name*0*=utf-8''fi; name*1=le",
    "percent-encoded": "name*=utf-8''%66ile",
}
ODD_NAMES = {
    "an unknown character set": "name*=klingon''file%ff",
    "a number that is none": "name*x=file",
    "a gap": "name*0=fi; name*2=le",
    "an empty one": "name*=",
    "quotes that do not end": 'name="file',
    "a huge number": "name*99999999999999999999=file",
    "control characters": "name=\x01\x02",
    "only a star": "*",
    "twice": "name=a; name*=utf-8''b",
}


def form(disposition: str, content: bytes = b"no k-space") -> tuple[bytes, dict[str, str]]:
    """Return a form of one part with this disposition, and its headers."""
    head = f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    return head + content + b"\r\n--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_legal_form_of_the_parts_name_is_read(client: TestClient, name: str) -> None:
    content, headers = form(name)
    answer = client.post("/reconstruct", content=content, headers=headers)
    assert (answer.status_code, answer.json()["detail"][:26]) == (422, "expected an HDF5 file, got")


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_an_odd_name_of_a_part_is_the_clients_error(client: TestClient, name: str) -> None:
    content, headers = form(name)
    assert client.post("/reconstruct", content=content, headers=headers).status_code in (400, 422)


@pytest.mark.parametrize(
    "kind", ["*=", "a/b; x*=1", "multipart/form-data; boundary*=utf-8''B", ";", "a/b; =", "\x7f/;*0="]
)
def test_an_odd_type_of_a_body_is_the_clients_error(client: TestClient, kind: str) -> None:
    assert client.post("/reconstruct", content=b"x", headers={"Content-Type": kind}).status_code in (400, 415)
