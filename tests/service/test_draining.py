"""Ending well: readiness goes first, requests in flight finish, new ones are refused."""

import asyncio

import pytest
from fastapi.testclient import TestClient
from kdmri_service.draining import Drain


def test_the_service_waits_for_requests_in_flight() -> None:
    async def scenario() -> None:
        drain = Drain(delay=0, grace=60)
        with drain.request():
            waiting = asyncio.ensure_future(drain.wait())
            while not drain.draining:
                await asyncio.sleep(0)
            with drain.request():
                pass
            assert not waiting.done()
        await waiting

    asyncio.run(scenario())


def test_a_request_that_takes_longer_than_the_grace_period_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        drain = Drain(delay=0, grace=0.001)
        with drain.request():
            await drain.wait()

    asyncio.run(scenario())
    assert "requests are cut off" in capsys.readouterr().out


def test_new_requests_are_refused_and_readiness_is_gone_while_metrics_and_liveness_stay(client: TestClient) -> None:
    drain = client.app.state.service.drain
    drain.draining = True
    try:
        refused = client.post("/reconstruct", content=b"")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["connection"] == "close"
        assert refused.json()["type"] == "urn:kdmri:problem:overloaded"
        statuses = {path: client.get(path).status_code for path in ("/readyz", "/livez", "/metrics")}
        assert statuses == {"/readyz": 503, "/livez": 200, "/metrics": 200}
    finally:
        drain.draining = False
    assert client.get("/readyz").status_code == 200
