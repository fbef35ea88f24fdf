"""Requests that are alike go through the networks together, and nobody can tell from their answers."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from kdmri_service.app import create_app
from kdmri_service.engine.cancellation import cancellable, combine
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.errors import Cancelled, Overloaded
from kdmri_service.observability.observation import MODEL_STAGES, Observation
from kdmri_service.settings import GPU_BATCH, Settings
from numpy.testing import assert_allclose
from pydicom import dcmread
from pydicom.data import get_testdata_file

from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import fastmri
from kdmri.operations.media_types import DICOM, HDF5, JSON
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model
from tests.e2e.serving import PATIENCE, until
from tests.service.engine.test_cancellation import Stages
from tests.service.transports.test_status import value

Request = Callable[[TestClient], Response]
RunBatch = Callable[[Sequence["Tenfold"]], list[int]]
FOREVER = 1e6
"""Seconds of patience: whoever waits for them is not answered."""


@dataclass(frozen=True)
class Tenfold:
    """Answers ten times its number, alone or with others; below 0 it fails, and so do they."""

    number: int
    asked: list[list[int]]
    """The numbers of every call."""

    def __call__(self) -> int:
        return run_batch([self])[0]


def run_batch(jobs: Sequence[Tenfold]) -> list[int]:
    numbers = [job.number for job in jobs]
    jobs[0].asked.append(numbers)
    if min(numbers) < 0:
        raise RuntimeError(f"among {numbers}")
    return [10 * number for number in numbers]


class Service:
    """A scheduler, and what was asked of it."""

    def __init__(self, *, batch: int, capacity: int = 16, patience: float = FOREVER) -> None:
        self.scheduler = Scheduler(inferences=1, capacity=capacity, batch=batch, patience=patience)
        self.asked: list[list[int]] = []
        self._gate = threading.Event()

    def request(self, number: int, key: str | None = "a key", batch: RunBatch = run_batch) -> "asyncio.Task[int]":
        job = Tenfold(number, self.asked)
        return asyncio.create_task(self.scheduler.run(job, Observation(), batch_key=key, run_batch=batch))

    async def queued(self, *numbers: int, key: str | None = "a key") -> "list[asyncio.Task[int]]":
        """Requests that wait behind another one until `answers`."""
        if not self.scheduler.running:
            self._first = asyncio.create_task(self.scheduler.run(self._gate.wait, Observation()))
        before = self.scheduler.waiting
        requests = [self.request(number, key) for number in numbers]
        while self.scheduler.waiting < before + len(numbers):
            await asyncio.sleep(0)
        return requests

    async def answers(self, *requests: "asyncio.Task[int]") -> list[int | BaseException]:
        self._gate.set()
        found = await asyncio.gather(*requests, return_exceptions=True)
        self.scheduler.close()
        return found


def test_those_that_wait_at_the_same_time_share_a_turn() -> None:
    async def scenario() -> None:
        service = Service(batch=3)
        requests = await service.queued(1, 2, 3, 4)
        assert await service.answers(*requests) == [10, 20, 30, 40]
        assert service.asked == [[1, 2, 3], [4]]

    asyncio.run(scenario())


def test_only_those_that_are_alike_do_and_the_others_turns_come_in_order() -> None:
    async def scenario() -> None:
        service = Service(batch=8)
        kinds = ("a", "b", None, "a", None, "b")
        requests = [request for n, kind in enumerate(kinds) for request in await service.queued(n, key=kind)]
        assert await service.answers(*requests) == [10 * n for n in range(6)]
        assert service.asked == [[0, 3], [1, 5], [2], [4]]

    asyncio.run(scenario())


def test_a_batch_of_one_is_one_after_the_other() -> None:
    async def scenario() -> None:
        service = Service(batch=1)
        requests = await service.queued(1, 2, 3)
        assert await service.answers(*requests) == [10, 20, 30]
        assert service.asked == [[1], [2], [3]]

    asyncio.run(scenario())


@pytest.mark.parametrize(("attended", "patience", "capacity"), [(1, FOREVER, 16), (2, FOREVER, 0), (2, 0.001, 16)])
def test_a_request_that_nobody_joins_is_answered(attended: int, patience: float, capacity: int) -> None:
    """At once where nobody else is in the service or the queue is full, else when its patience ends."""

    async def scenario() -> None:
        service = Service(batch=8, capacity=capacity, patience=patience)
        with ExitStack() as crowd:
            for _ in range(attended):
                crowd.enter_context(service.scheduler.request_in_flight())
            assert await service.answers(service.request(1)) == [10]

    asyncio.run(scenario())


def test_company_is_waited_for_until_the_batch_is_full_and_keeps_nobody_else_waiting() -> None:
    async def scenario() -> None:
        service = Service(batch=2)
        with service.scheduler.request_in_flight(), service.scheduler.request_in_flight():
            first = service.request(1)
            assert await service.request(2, key=None) == 20
            assert not first.done()
            assert await service.answers(first, service.request(3)) == [10, 30]
        assert service.asked == [[2], [1, 3]]

    asyncio.run(scenario())


def test_the_queue_is_as_long_as_without_batches() -> None:
    async def scenario() -> None:
        service = Service(batch=8, capacity=2)
        requests = await service.queued(1, 2)
        with pytest.raises(Overloaded, match="among 2 waiting"):
            await service.request(3)
        assert await service.answers(*requests) == [10, 20]

    asyncio.run(scenario())


def test_an_error_is_that_of_its_own_request() -> None:
    async def scenario() -> None:
        service = Service(batch=3)
        good, bad, other = await service.answers(*await service.queued(1, -1, 2))
        assert (good, str(bad), other) == (10, "among [-1]", 20)
        assert service.asked == [[1, -1, 2], [1], [-1], [2]]

    asyncio.run(scenario())


def test_a_client_that_leaves_while_it_waits_is_not_taken_along() -> None:
    async def scenario() -> None:
        service = Service(batch=3)
        requests = await service.queued(1, 2, 3)
        requests[0].cancel()
        await asyncio.wait(requests[:1])
        assert await service.answers(*requests[1:]) == [20, 30]
        assert service.asked == [[2, 3]]

    asyncio.run(scenario())


def test_a_client_that_leaves_a_running_batch_does_no_harm() -> None:
    async def scenario() -> None:
        service = Service(batch=2)
        begun, gate = threading.Event(), threading.Event()

        def slowly(jobs: Sequence[Tenfold]) -> list[int]:
            begun.set()
            assert gate.wait(PATIENCE)
            return run_batch(jobs)

        with service.scheduler.request_in_flight(), service.scheduler.request_in_flight():
            leaving, staying = (service.request(number, batch=slowly) for number in (1, 2))
            await asyncio.to_thread(begun.wait, PATIENCE)
            leaving.cancel()
            await asyncio.wait([leaving])
            gate.set()
            assert await service.answers(staying, service.request(3, key=None)) == [20, 30]
        assert service.scheduler.running == service.scheduler.waiting == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("leaving", [1, 2])
def test_a_pass_goes_on_for_those_who_stay_and_ends_where_nobody_does(
    models: dict[tuple[str, str], Model], leaving: int
) -> None:
    reconstructor, scanned = Reconstructor(models["reconstruction", "student"]), scan(phantom(32, 32), acceleration=2)
    seen = [Stages(), Stages()]
    # As the first one's third cascade begins.
    left = [seen[0].third if number < leaving else threading.Event() for number in range(2)]
    stage = combine([cancellable(one, event) for event, one in zip(left, seen, strict=True)])
    with pytest.raises(Cancelled) if leaving == 2 else nullcontext():
        reconstructor.reconstruct_each([scanned, scanned], stage=stage)
    every = len(reconstructor.model.denoisers)
    assert [one.denoised for one in seen] == ([3, 2] if leaving == 2 else [3, every])


def test_the_time_of_a_batch_is_shared_out_and_what_the_others_take_is_time_in_the_queue() -> None:
    request = Observation()
    run = request.run_of("student")
    with run("denoise", batch_size=4):
        pass
    for seen in (run, request):
        assert seen.seconds["queue"] == pytest.approx(3 * seen.model_seconds)
        assert seen.model_seconds > 0


@pytest.mark.parametrize(("device", "said", "batch"), [("cpu", None, 1), ("cuda:0", None, GPU_BATCH), ("cpu", 4, 4)])
def test_batches_are_for_graphics_cards_unless_said_otherwise(device: str, said: int | None, batch: int) -> None:
    assert Settings(batch=said).batch_on(device) == batch


@pytest.fixture(scope="module")
def batching() -> Iterator[TestClient]:
    settings = Settings(shadow_rate=0, backend="onnxruntime", batch=8)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def sent_together(client: TestClient, *requests: Request) -> list[Response]:
    """Answers to requests that have all come before the first is worked on."""
    scheduler, gate = client.app.state.service.engine.scheduler, threading.Event()
    client.portal.start_task_soon(scheduler.run, partial(gate.wait, PATIENCE), Observation())
    until(lambda: scheduler.running == 1)
    with ThreadPoolExecutor(len(requests)) as crowd:
        answers = [crowd.submit(request, client) for request in requests]
        until(lambda: scheduler.waiting == len(requests))
        gate.set()
        return [answer.result() for answer in answers]


@contextmanager
def inferences(client: TestClient, *, of: int, requests: int) -> Iterator[None]:
    """So many are made inside, the one that requests wait for included."""
    names = ("kdmri_batch_size_count", "kdmri_batch_size_sum")
    before = [value(client, name) for name in names]
    yield
    assert [value(client, name) - old for name, old in zip(names, before, strict=True)] == [of, requests]


def asking(folder: Path, measured: KSpace, query: str = "", accept: str = HDF5) -> Request:
    fastmri.write(folder / "scan.h5", measured)
    content = (folder / "scan.h5").read_bytes()
    return lambda client: client.post(
        f"/reconstruct{query}", content=content, headers={"content-type": HDF5, "accept": accept}
    )


def test_answers_are_those_of_requests_by_themselves(batching: TestClient, tmp_path: Path) -> None:
    image = phantom(64, 48)
    alike = [scan(10.0**n * image, acceleration=2 + n, seed=n, noise=0.02 * n) for n in range(3)]
    others = [scan(phantom(48, 64)), scan(image.repeat(2, axis=0)), scan(image, coils=2, acceleration=2)]
    requests = [asking(tmp_path, measured) for measured in (*alike, *others)]
    requests.append(asking(tmp_path, alike[0], "?role=teacher"))
    alone = [request(batching) for request in requests]
    # One by which they are kept waiting, one for the three, one for each of the others.
    with inferences(batching, of=1 + 1 + 4, requests=1 + len(requests)):
        found = sent_together(batching, *requests)
    for answer, expected in zip(found, alone, strict=True):
        assert answer.status_code == 200
        pixels, reference = (pixels_of(one) for one in (answer, expected))
        assert_allclose(pixels, reference, atol=1e-5 * reference.max())
        for name in ("Model", "Role", "Acceleration", "Noise", "Distance", "Warning"):
            assert answer.headers.get(f"KDMRI-{name}") == expected.headers.get(f"KDMRI-{name}")
        residuals = [float(one.headers["KDMRI-Residual"]) for one in (answer, expected)]
        assert residuals[0] == pytest.approx(residuals[1], rel=0.01, abs=1e-5)


def pixels_of(answer: Response) -> np.ndarray:
    with h5py.File(io.BytesIO(answer.content)) as file:
        return file["reconstruction"][:]


def test_images_of_one_size_and_scale_are_made_finer_together(batching: TestClient) -> None:
    def asking(scale: int, *, turned: bool = False) -> Request:
        dataset, written = dcmread(get_testdata_file("MR_small.dcm")), io.BytesIO()
        dataset.PixelData = dataset.pixel_array[:: -1 if turned else 1].tobytes()
        dataset.save_as(written)
        headers = {"content-type": DICOM}
        return lambda client: client.post(f"/super-resolve?scale={scale}", content=written.getvalue(), headers=headers)

    requests = [asking(2), asking(2, turned=True), asking(4)]
    alone = [request(batching) for request in requests]
    with inferences(batching, of=1 + 1 + 1, requests=1 + 3):
        found = sent_together(batching, *requests)
    for answer, expected in zip(found, alone, strict=True):
        images = [dcmread(io.BytesIO(one.content)) for one in (answer, expected)]
        assert images[0].ImagePositionPatient == images[1].ImagePositionPatient
        # One step of what is stored.
        assert_allclose(*(image.pixel_array.astype(float) for image in images), atol=1)


def test_a_file_that_cannot_be_read_fails_by_itself(batching: TestClient, tmp_path: Path) -> None:
    good = scan(phantom(64, 48), acceleration=4)
    bad = replace(good, samples=np.where(np.arange(48) == 24, np.nan, good.samples).astype(np.complex64))
    found = sent_together(batching, *(asking(tmp_path, measured) for measured in (good, bad, good)))
    assert [answer.status_code for answer in found] == [200, 422, 200]
    assert "finite" in found[1].json()["detail"]


def test_the_times_of_a_comparison_are_those_of_one_slice(batching: TestClient, tmp_path: Path) -> None:
    request = asking(tmp_path, scan(phantom(64, 48), acceleration=4), "?role=both", JSON)
    with inferences(batching, of=1 + 4, requests=1 + 4):
        assert [answer.status_code for answer in sent_together(batching, request, request)] == [200, 200]


def test_figures_tell_a_request_its_share_of_the_models_time(batching: TestClient, tmp_path: Path) -> None:
    request = asking(tmp_path, scan(phantom(64, 48), acceleration=4), accept=JSON)
    for answer in sent_together(batching, request, request):
        figures = answer.json()
        stages = figures["stage_milliseconds"]
        model = sum(stages.get(stage, 0) for stage in MODEL_STAGES)
        assert figures["milliseconds_per_slice"] == pytest.approx(model, abs=0.01)
        assert stages["queue"] > model
