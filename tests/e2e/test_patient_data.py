"""Every DICOM at hand through the service, and not one of its names, ids or UIDs in the log or in the metrics."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pydicom
import pydicom.data
import pytest

from kdmri.bundles.store import Bundle
from kdmri.phantoms import phantom, scan
from tests.e2e import quick_models
from tests.e2e.serving import PATIENCE, Service, serving
from tests.formats.kspace import test_description as description
from tests.formats.kspace.mrd_files import MrdFile

INSTALLED = Path(pydicom.data.__file__).parent
IDENTIFYING = ("PN", "UI", "LO", "SH", "ST", "LT", "UC", "UT")
"""Value representations that hold names, identifiers, addresses, comments and UIDs."""
STANDARD = "1.2.840.10008."
"""DICOM's own UIDs: classes and transfer syntaxes, the same for everybody."""
SHORT, SHORT_NUMBER = 5, 8
"""Characters below which a value, such as `MR` or 10000, may stand in a log for other reasons."""


@pytest.fixture(scope="module")
def quick(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose networks take no time, with every request run again."""
    models = quick_models.write(bundles, tmp_path_factory.mktemp("models"))
    settings = {"KDMRI_MODELS": str(models), "KDMRI_LOG_LEVEL": "debug", "KDMRI_SHADOW_RATE": "1"}
    # Every warning, for those may quote what a file holds.
    with serving(tmp_path_factory.mktemp("log"), PYTHONWARNINGS="always", **settings) as service:
        yield service


def identifying(file: Path) -> set[str]:
    """What a file says of its patient, its place and itself, as far as pydicom can read it."""
    try:
        dataset = pydicom.dcmread(file, force=True)
        elements = [element for element in dataset.iterall() if element.VR in IDENTIFYING]
        texts = {str(part) for e in elements for part in (e.value if e.VM > 1 else [e.value])}
    except Exception:
        return set()
    # A name is worth finding in parts as well.
    parts = {part for text in texts for part in (text, *re.split(r"[\^=\\]", text))}
    return {p.strip() for p in parts if telling(p.strip()) and not p.startswith(STANDARD)}


def telling(text: str) -> bool:
    return len(text) >= (SHORT_NUMBER if text.replace(".", "").isdigit() else SHORT)


def stands(value: str, text: str) -> bool:
    """Whether a value is in a text, other than by chance as part of a word or number."""
    return value in text and re.search(rf"(?<![\w.]){re.escape(value)}(?!\w)", text) is not None


def ours(service: Service) -> str:
    """What the service itself says: version, models, metrics' help. Words that a file may happen to hold as well."""
    return httpx2.get(f"{service.address}/metrics").text + httpx2.get(f"{service.address}/models").text


def check(service: Service, files: list[Path]) -> None:
    known = ours(service)
    statuses = []
    with httpx2.Client(base_url=service.address, timeout=PATIENCE) as client:
        for file in files:
            content = file.read_bytes()
            for headers in ({"accept": "application/json"}, {}):
                found = client.post(
                    "/super-resolve", content=content, headers={"content-type": "application/dicom", **headers}
                )
                statuses.append(found.status_code)
            client.post("/reconstruct", files={"file": (file.name, content)})
        metrics = client.get("/metrics").text
    written = service.log.read_text()
    assert 200 in statuses
    assert written.count('"event": "answered"') >= 3 * len(files)
    secrets = {value for file in files for value in (*identifying(file), file.name)}
    assert secrets
    leaked = {value for value in secrets if stands(value, written + metrics) and value not in known}
    assert leaked == set()


def test_nothing_of_a_shared_dicom_is_logged(quick: Service, data: Path) -> None:
    check(quick, sorted((data / "dicom").rglob("*.dcm")))


def test_nothing_of_pydicoms_own_files_is_logged(quick: Service) -> None:
    """Odd and damaged ones, that libraries warn of."""
    check(quick, sorted(file for file in INSTALLED.rglob("*") if file.is_file() and file.suffix in ("", ".dcm")))


def test_nothing_of_a_k_space_header_is_logged(quick: Service, tmp_path: Path) -> None:
    """It goes into the DICOM answer and nowhere else; a header that does not fit is not quoted either."""
    xml = description.FULL
    secrets = ("Müller", "4711/08", "1.2.276.0.7230010", "t2_tse_tra", "19620228", "1962-02-28")
    for number, text in enumerate((xml, xml.replace("<x>16</x>", "<x>Müller</x>"))):
        file = MrdFile.of(scan(phantom(16, 16)))
        file.xml = text
        content = file.save(tmp_path / f"{number}.h5").read_bytes()
        headers = {"content-type": "application/x-hdf5", "accept": "application/dicom"}
        with httpx2.Client(base_url=quick.address, timeout=PATIENCE) as client:
            answer = client.post("/reconstruct", content=content, headers=headers)
            assert not any(secret in str(answer.headers) for secret in secrets)
            if number == 0:
                assert str(pydicom.dcmread(io.BytesIO(answer.content)).PatientName) == "Müller^Änne"
            else:
                assert answer.status_code == 422
                assert not any(secret in answer.text for secret in secrets)
            metrics = client.get("/metrics").text
    assert not any(secret in quick.log.read_text() + metrics for secret in secrets)


def test_every_line_is_json_and_those_of_a_request_have_its_id(quick: Service) -> None:
    headers = {"x-request-id": "one-of-mine", "content-type": "application/dicom"}
    httpx2.post(f"{quick.address}/super-resolve", content=b"no DICOM at all", headers=headers)
    entries = [json.loads(line) for line in quick.log.read_text().splitlines()]
    mine = [entry for entry in entries if entry.get("request_id") == "one-of-mine"]
    assert [(entry["event"], entry["status"]) for entry in mine] == [("answered", 422)]
    assert all(entry.get("request_id") for entry in entries if entry["event"] == "answered")
    assert {"event", "level", "timestamp"} <= set.intersection(*map(set, entries))
