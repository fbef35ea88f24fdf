"""Every request leaves one line in the audit trail, with hashes and without anything that a client may word freely."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.auth.audit import AuditLog, Entry
from kdmri_service.auth.chain import Head, head_file, verify
from kdmri_service.auth.keys import add_key
from kdmri_service.auth.principals import Scope
from kdmri_service.cli import audit as commands
from kdmri_service.settings import Settings
from kdmri_service.transports.http.auditing import note_operation
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from kdmri.errors import InvalidRequest
from kdmri.operations import OPERATIONS, Operation

PATIENT = "Hippelnuss"
"""A name that no other text holds."""
DICOM = {"content-type": "application/dicom"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of keys and trail."""
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    """A service with keys that audits."""
    key = add_key(folder / "keys.jsonl", "scanner 1", [Scope.infer])
    settings = Settings(
        keys=folder / "keys.jsonl",
        audit=folder / "audit.jsonl",
        audit_required=True,
        max_upload_mb=1,
        backend="onnxruntime",
        shadow_rate=0,
        parsers=0,
    )
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False, headers={"X-API-Key": key}) as running:
        yield running


def last_line(folder: Path) -> dict[str, object]:
    """Return the newest entry of the trail."""
    line: dict[str, object] = json.loads((folder / "audit.jsonl").read_bytes().splitlines()[-1])
    return line


def planted(folder: Path) -> bytes:
    """Return a DICOM image that names a patient wherever it can."""
    dataset = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
    dataset.PatientName = dataset.PatientID = dataset.StudyDescription = PATIENT
    dataset.save_as(folder / "planted.dcm")
    return (folder / "planted.dcm").read_bytes()


def test_a_request_is_recorded_with_its_hashes(client: TestClient, folder: Path) -> None:
    content = planted(folder)
    answer = client.post("/super-resolve?scale=2&role=teacher", content=content, headers=DICOM)
    assert answer.status_code == 200
    line = last_line(folder)
    assert line["operation"] == "super_resolve"
    assert line["key"] == "scanner 1"
    assert line["peer"] == "testclient"
    assert line["status"] == 200
    assert line["model"] == answer.headers["KDMRI-Model"]
    assert line["input_sha256"] == [hashlib.sha256(content).hexdigest()]
    assert line["output_sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert isinstance(line["parameters"], dict)
    assert {"role": "teacher", "scale": 2}.items() <= line["parameters"].items()


def test_each_file_of_an_upload_has_its_own_hash(client: TestClient, folder: Path) -> None:
    files = [("file", (f"{PATIENT}.dcm", content)) for content in (planted(folder), planted(folder) + b"\0\0")]
    client.post("/super-resolve", files=files)
    assert last_line(folder)["input_sha256"] == [hashlib.sha256(content).hexdigest() for _, (_, content) in files]


REFUSED = {
    "no key": ("/super-resolve", {"X-API-Key": ""}, 401, "urn:kdmri:problem:unauthenticated"),
    "no right": ("/metrics-of", {"X-API-Key": "x"}, 401, "urn:kdmri:problem:unauthenticated"),
    "unknown model": (f"/super-resolve?model={PATIENT}", {}, 404, "urn:kdmri:problem:unknown-model"),
    "unknown role": (f"/super-resolve?role={PATIENT}", {}, 400, "urn:kdmri:problem:invalid-request"),
    "unknown parameter": (f"/super-resolve?{PATIENT}=1", {}, 400, "urn:kdmri:problem:invalid-request"),
    "unknown address": (f"/{PATIENT}", {}, 404, "urn:kdmri:problem:http"),
    "unknown type": ("/super-resolve", {"content-type": PATIENT}, 415, "urn:kdmri:problem:unsupported-media"),
    "id": ("/super-resolve", {"X-Request-ID": PATIENT}, 422, "urn:kdmri:problem:unreadable-dicom"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_recorded_with_its_problem(client: TestClient, folder: Path, case: str) -> None:
    path, headers, status, problem = REFUSED[case]
    answer = client.post(path, content=b"none", headers={**DICOM, **headers})
    assert answer.status_code == status
    line = last_line(folder)
    assert (line["status"], line["problem"]) == (status, problem)


def test_the_patient_is_nowhere_and_the_chain_holds(client: TestClient, folder: Path) -> None:
    client.post(f"/super-resolve?model={PATIENT}", content=planted(folder), headers=DICOM)
    client.post("/super-resolve", files={"file": (f"{PATIENT}.dcm", planted(folder))})
    assert PATIENT not in (folder / "audit.jsonl").read_text()
    assert isinstance(verify([folder / "audit.jsonl"]), Head)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_parameter_of_free_text_is_withheld(operation: type[Operation]) -> None:
    free = {name for name, field in operation.model_fields.items() if field.annotation in (str, str | None)}
    entry = Entry("::1")
    request = Request({"type": "http", "state": {"audit": entry}})
    note_operation(request, operation.model_construct(**dict.fromkeys(free, PATIENT)))
    shown = {name for name, value in entry.parameters.items() if value == PATIENT}
    # Role and model are looked up before they are noted.
    assert shown <= {"role", "model"}
    assert all(entry.parameters[name] == "withheld" for name in free - shown)


def test_orchestrators_leave_no_line(client: TestClient, folder: Path) -> None:
    before = last_line(folder)
    for path in ("/livez", "/readyz", "/metrics"):
        client.get(path)
    assert last_line(folder) == before


def test_work_that_can_not_be_recorded_is_refused_and_taken_up_again(client: TestClient, folder: Path) -> None:
    head = head_file(folder / "audit.jsonl")
    kept = head.read_bytes()
    head.write_bytes(b"damaged")
    # The answer that could not be recorded is not given out, and the requests after it are not worked on.
    for _ in range(2):
        refused = client.post("/super-resolve", content=planted(folder), headers=DICOM)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:kdmri:problem:audit-failed"
        assert "retry-after" in refused.headers
    assert client.get("/readyz").status_code == 503
    head.write_bytes(kept)
    assert client.get("/models").status_code == 503
    assert client.get("/models").status_code == 200
    assert client.get("/readyz").json().get("audit") is None
    assert isinstance(verify([folder / "audit.jsonl"]), Head)


def test_a_failure_is_reported_where_it_refuses_nothing(tmp_path: Path) -> None:
    trail = AuditLog(tmp_path / "audit.jsonl")
    trail.begin()
    head_file(tmp_path / "audit.jsonl").write_bytes(b"damaged")
    assert trail.submit(Entry("::1")).result() is False
    assert trail.failing
    assert not trail.refuses_work
    trail.close()


def test_a_service_that_can_not_record_its_start_does_not_start(tmp_path: Path) -> None:
    trail = AuditLog(tmp_path / "none" / "audit.jsonl")
    with pytest.raises(InvalidRequest, match="KDMRI_AUDIT: expected a file that can be written"):
        trail.begin()
    trail.close()


def test_the_command_says_where_a_trail_breaks(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditLog(path)
    trail.begin()
    trail.close()
    whole = CliRunner().invoke(commands, ["verify", str(path)])
    assert whole.exit_code == 0
    digest = whole.output.split()[-1]
    assert CliRunner().invoke(commands, ["verify", str(path), "--contains", digest]).exit_code == 0
    assert CliRunner().invoke(commands, ["verify", str(path), "--contains", "0" * 64]).exit_code == 1
    path.write_bytes(path.read_bytes().replace(b'"start"', b'"begin"'))
    broken = CliRunner().invoke(commands, ["verify", str(path)])
    assert broken.exit_code == 1
    assert f"{path}, line 2: expected the hash of the line before" in broken.output


def test_a_job_is_recorded_with_its_hashes(tmp_path: Path) -> None:
    settings = Settings(
        audit=tmp_path / "audit.jsonl", spool=tmp_path / "spool", backend="onnxruntime", shadow_rate=0, parsers=0
    )
    content = planted(tmp_path)
    with TestClient(create_app(settings)) as running:
        accepted = running.post("/jobs?operation=super-resolve&scale=2", content=content, headers=DICOM)
        assert accepted.status_code == 202
        line = last_line(tmp_path)
    assert line["input_sha256"] == [hashlib.sha256(content).hexdigest()]
    assert line["parameters"] == {"role": "student", "scale": 2}
    assert PATIENT not in (tmp_path / "audit.jsonl").read_text()
