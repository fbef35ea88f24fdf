"""A client that leaves: nobody works on for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from fastapi.testclient import TestClient
from kdmri_service.engine.cancellation import cancellable
from kdmri_service.errors import Cancelled
from starlette.types import Message

from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, StageName
from tests.service.transports.test_status import value

SLICES = 6


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Six slices that are worked on one by one."""
    monkeypatch.setattr("kdmri.runtime.memory.AT_MOST", 1)
    fastmri.write(tmp_path / "scan.h5", scan(phantom(48, 48).repeat(SLICES, axis=0), acceleration=4))
    return (tmp_path / "scan.h5").read_bytes()


class Stages:
    """Counts denoising, and calls back as it begins for the third time."""

    def __init__(self) -> None:
        self.denoised = 0
        self.third = threading.Event()

    @contextmanager
    def __call__(self, name: StageName) -> Iterator[None]:
        if name == "denoise":
            self.denoised += 1
            if self.denoised == 3:
                self.third.set()
        yield


def test_no_stage_begins_once_the_client_has_left(models: dict[tuple[str, str], Model]) -> None:
    stages = Stages()
    with pytest.raises(Cancelled):
        Reconstructor(models["reconstruction", "student"]).reconstruct(
            scan(phantom(32, 32)), stage=cancellable(stages, stages.third)
        )
    assert stages.denoised == 3


def test_a_request_whose_client_leaves_ends_within_a_slice(
    client: TestClient,
    models: dict[tuple[str, str], Model],
    stack: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages = Stages()
    monkeypatch.setattr(
        "kdmri_service.engine.inference.cancellable",
        lambda stage, cancelled: cancellable(both(stages, stage), cancelled),
    )
    before = value(client, "kdmri_requests_total", status="408"), value(client, "kdmri_slices_total")
    sent: list[Message] = []
    body = [{"type": "http.request", "body": stack, "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await anyio.to_thread.run_sync(stages.third.wait)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/x-hdf5"), (b"x-request-id", b"leaver")]
    scope = {"type": "http", "method": "POST", "path": "/reconstruct", "query_string": b"", "headers": headers}
    client.portal.call(client.app, {**scope, "app": client.app}, receive, send)
    assert sent == []
    # The next request has the model once the one that was left has ended.
    assert client.post("/reconstruct", files={"file": stack}).status_code == 200
    cascades = len(models["reconstruction", "student"].denoisers)
    assert stages.denoised - SLICES * cascades <= 3 + cascades
    after = value(client, "kdmri_requests_total", status="408"), value(client, "kdmri_slices_total")
    assert after == (before[0] + 1, before[1] + SLICES)
    assert '"event": "client left", "request_id": "leaver"' in capsys.readouterr().out


def both(one: Stage, other: Stage) -> Stage:
    @contextmanager
    def stage(name: StageName) -> Iterator[None]:
        with one(name), other(name):
            yield

    return stage
