import asyncio
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from kdmri_service.app import create_app
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability import metrics, multiprocess
from kdmri_service.observability.observation import Observation
from kdmri_service.settings import Settings
from kdmri_service.shadow.controller import Shadow
from kdmri_service.shadow.replay import Replay, Sample, middle_slices, sample_of
from numpy.testing import assert_allclose
from PIL import Image
from pydicom.data import get_testdata_file

from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.formats.kspace import fastmri
from kdmri.operations import Reconstruct, SuperResolve
from kdmri.operations.operation import Result
from kdmri.operations.reconstruction import ReconstructionJob
from kdmri.operations.super_resolution import REPLAY_BYTES_PER_PIXEL, SuperResolutionJob
from kdmri.phantoms import phantom, scan
from kdmri.quality.comparison import PSNR_CEILING, Comparison, compare
from kdmri.quality.metrics import psnr
from kdmri.quality.no_reference import Quality
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.model import Model
from tests.service.transports.test_status import value

UNKNOWN = Quality(0, 0, 0, 0)
ONES = Images(np.ones((1, 8, 8), np.float32))
PATIENCE = 240.0
"""Seconds after which a test that waits for an event has failed."""


@pytest.fixture(scope="module")
def shadowing() -> Iterator[TestClient]:
    """The service with every request run again."""
    with TestClient(create_app(Settings(shadow_rate=1))) as running:
        yield running


def caught_up(client: TestClient) -> None:
    """Return once the shadow has run what it was offered: its one thread takes jobs in turn."""
    client.app.state.service.shadow._thread.submit(int).result(PATIENCE)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_shadow_finds_what_both_roles_answer(shadowing: TestClient, kspace_file: Path, role: str) -> None:
    names = ("kdmri_shadow_psnr_db", "kdmri_shadow_ssim")
    upload = {"files": {"file": kspace_file.read_bytes()}}
    both = shadowing.post("/reconstruct?role=both", headers={"accept": "application/json"}, **upload).json()
    caught_up(shadowing)
    before = {name: value(shadowing, f"{name}_sum", operation="reconstruct") for name in names}
    shadowing.post(f"/reconstruct?role={role}", **upload)
    caught_up(shadowing)
    found = [value(shadowing, f"{name}_sum", operation="reconstruct") - before[name] for name in names]
    assert_allclose(found, [both["psnr_db"], both["ssim"]], rtol=1e-3)


def test_super_resolution_is_shadowed(shadowing: TestClient) -> None:
    name = "kdmri_shadow_ssim_count"
    before = value(shadowing, name, operation="super_resolve")
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    shadowing.post("/super-resolve", content=mr, headers={"content-type": "application/dicom"})
    caught_up(shadowing)
    assert value(shadowing, name, operation="super_resolve") == before + 1


def test_no_shadow_where_the_rate_is_zero(kspace_file: Path) -> None:
    with TestClient(create_app(Settings(shadow_rate=0))) as client:
        before = value(client, "kdmri_shadow_psnr_db_count")
        client.post("/reconstruct", files={"file": kspace_file.read_bytes()})
        caught_up(client)
        assert value(client, "kdmri_shadow_psnr_db_count") == before


def test_fully_sampled_k_space_is_not_compared(shadowing: TestClient, tmp_path: Path) -> None:
    """Two models that have nothing to do agree, and would hide a student that drifts."""
    fastmri.write(tmp_path / "full.h5", scan(phantom(64, 80)))
    before = value(shadowing, "kdmri_shadow_psnr_db_count"), value(shadowing, "kdmri_shadow_dropped_total")
    shadowing.post("/reconstruct", files={"file": (tmp_path / "full.h5").read_bytes()}).raise_for_status()
    caught_up(shadowing)
    assert (value(shadowing, "kdmri_shadow_psnr_db_count"), value(shadowing, "kdmri_shadow_dropped_total")) == before


@given(st.integers(1, 400), st.integers(0, 100))
def test_the_slices_kept_share_their_middle_with_all(count: int, at_most: int) -> None:
    kept = range(count)[middle_slices(count, at_most)]
    assert len(kept) == min(count, max(at_most, 1))
    assert kept[len(kept) // 2] == count // 2


@pytest.mark.parametrize("coils", [1, 4])
def test_slices_run_again_by_the_same_model_come_out_the_same(
    models: dict[tuple[str, str], Model], bundles: list[Bundle], coils: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.concatenate([phantom(48, 64) * brightness for brightness in (1, 3, 2, 5, 4)])
    measured = scan(images, coils=coils, acceleration=3)
    monkeypatch.setattr("kdmri_service.shadow.replay.MOST_BYTES", 3 * measured.samples[0].nbytes)
    model = models["reconstruction", "student"]
    live = Result(model.manifest, Reconstructor(model).reconstruct(measured), UNKNOWN)
    job = ReconstructionJob(measured)
    sample = sample_of(Reconstruct, job, live, served=bundles[0], counterpart=bundles[1])
    assert len(sample.served_images.pixels) == 3
    assert_allclose(sample.job.run(model, Observation()).pixels, sample.served_images.pixels, atol=1e-4)


def test_super_resolved_slices_come_out_the_same(
    models: dict[tuple[str, str], Model], bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdmri_service.shadow.replay.MOST_BYTES", 2 * REPLAY_BYTES_PER_PIXEL * 64 * 64)
    model = models["super-resolution", "student"]
    images = Images(np.concatenate([phantom(32, 32) * brightness for brightness in (1, 3, 2, 5)]))
    live = Result(model.manifest, SuperResolver(model).super_resolve(images, 2), UNKNOWN)
    job = SuperResolutionJob(images, 2)
    sample = sample_of(SuperResolve, job, live, served=bundles[0], counterpart=bundles[1])
    assert len(sample.served_images.pixels) == 2
    assert_allclose(sample.job.run(model, Observation()).pixels, sample.served_images.pixels, atol=1e-5)


class Slow:
    """A job of the student's and the teacher's seconds by a clock of its own; it notes who ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, model: Model, stage: Observation) -> Images:
        self.ran.append(model.manifest.role)
        stage._add("denoise", {"student": 1.0, "teacher": 3.0}[model.manifest.role])
        return ONES


@pytest.mark.parametrize("answered", ["student", "teacher"])
def test_the_times_of_both_roles_are_taken_in_the_shadow_and_neither_is_always_first(
    models: dict[tuple[str, str], Model], monkeypatch: pytest.MonkeyPatch, answered: str
) -> None:
    pair = {role: Bundle(Path(), models["reconstruction", role].manifest) for role in ("student", "teacher")}
    own, other = pair.pop(answered), *pair.values()
    again, job = Replay(device="cpu", threads=1, backend="onnxruntime"), Slow()
    monkeypatch.setattr(again, "_model", lambda bundle, _: models["reconstruction", bundle.manifest.role])
    live = Images(ONES.pixels * 2)
    for _ in range(2):
        found = again(Sample(Reconstruct, job, live, own, other))
        assert found.speedup == 3
        # What was answered is compared, not what would be answered now.
        assert found.psnr_db < PSNR_CEILING
    assert job.ran in (["student", "teacher", "teacher", "student"], ["teacher", "student", "student", "teacher"])


@pytest.fixture
def sample(bundles: list[Bundle]) -> Sample:
    """One that can't be run."""
    return Sample(Reconstruct, ReconstructionJob("Doe^John"), ONES, bundles[0], bundles[1])  # type: ignore[arg-type]


def state(shadow: Shadow) -> str:
    """Of its process: T where it is stopped."""
    return Path(f"/proc/{shadow._process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell a process' state")
def test_the_process_is_stopped_while_a_live_job_runs(shadowing: TestClient, kspace_file: Path) -> None:
    compared_again(shadowing, kspace_file)
    scheduler, shadow = shadowing.app.state.service.engine.scheduler, shadowing.app.state.service.shadow
    begun, gate = threading.Event(), threading.Event()

    def live() -> None:
        begun.set()
        assert gate.wait(PATIENCE)

    running = shadowing.portal.start_task_soon(scheduler.run, live, Observation())
    assert begun.wait(PATIENCE)
    until(lambda: state(shadow) == "T")
    gate.set()
    running.result(PATIENCE)
    until(lambda: state(shadow) != "T")


def test_a_process_that_starts_while_a_live_job_runs_is_stopped_too(shadowing: TestClient, sample: Sample) -> None:
    slot = Shadow(shadowing.app.state.service.engine.catalogue, Scheduler(inferences=1, capacity=1), rate=1)
    slot.pause_for_live_work(True)
    offered(slot, lambda: sample)
    until(lambda: slot._process is not None and state(slot) == "T")
    slot.close()
    assert not slot._process.is_alive()


def test_the_scheduler_tells_when_work_begins_and_when_there_is_none() -> None:
    async def scenario() -> list[bool]:
        scheduler = Scheduler(inferences=1, capacity=4)
        told: list[bool] = []
        scheduler.on_busy_change = told.append
        gate = threading.Event()
        jobs = [asyncio.create_task(scheduler.run(gate.wait, Observation())) for _ in range(3)]
        while scheduler.waiting < 2:
            await asyncio.sleep(0)
        assert told == [True]
        gate.set()
        await asyncio.gather(*jobs)
        scheduler.close()
        return told

    assert asyncio.run(scenario()) == [True, False]


def test_a_request_is_live_work_from_its_upload_to_its_answer(client: TestClient, kspace_file: Path) -> None:
    """Reading and writing files takes time, too; and nothing is left behind by a request that fails in between."""
    scheduler, told = client.app.state.service.engine.scheduler, []
    scheduler.on_busy_change = told.append
    before = scheduler.busy_epoch
    for content, status in ((kspace_file.read_bytes(), 200), (b"not HDF5", 422)):
        assert client.post("/reconstruct", files={"file": content}).status_code == status
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    client.post("/super-resolve", content=mr, headers={"content-type": "application/dicom"})
    scheduler.on_busy_change = client.app.state.service.shadow.pause_for_live_work
    assert told == [True, False] * 3
    assert scheduler.busy_epoch == before + 3
    assert scheduler.in_flight == 0


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_time_that_a_live_request_fell_into_is_not_reported(
    shadow: Shadow, sample: Sample, client: TestClient, monkeypatch: pytest.MonkeyPatch, disturbed: bool
) -> None:
    def answer(_: Sample) -> Comparison:
        shadow._scheduler.busy_epoch += disturbed
        return Comparison(40, 0.99, 1, 2)

    monkeypatch.setattr(shadow, "_replay", answer)
    before = {name: value(client, f"kdmri_shadow_{name}_count") for name in ("speedup_ratio", "psnr_db")}
    offered(shadow, lambda: sample)
    shadow._thread.submit(int).result(PATIENCE)
    after = {name: value(client, f"kdmri_shadow_{name}_count") for name in before}
    assert after == {"speedup_ratio": before["speedup_ratio"] + (not disturbed), "psnr_db": before["psnr_db"] + 1}


@pytest.fixture
def shadow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shadow]:
    """The slot, with a process that is never started."""
    slot = Shadow(
        SimpleNamespace(device="cpu", threads=1, backend="onnxruntime"), Scheduler(inferences=1, capacity=1), rate=1
    )  # type: ignore[arg-type]
    monkeypatch.setattr(slot, "_start", lambda: pytest.fail("no test of this fixture is to start a process"))
    yield slot
    slot.close()


def offered(shadow: Shadow, sample: Callable[[], Sample], times: int = 1) -> None:
    for _ in range(times):
        asyncio.run(shadow.submit(sample))


def test_one_runs_one_waits_and_others_are_dropped_and_counted(
    shadow: Shadow, sample: Sample, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, ran = threading.Event(), []

    def answer(_: Sample) -> str:
        assert gate.wait(PATIENCE)
        ran.append(1)
        return "an error"

    monkeypatch.setattr(shadow, "_replay", answer)
    before = value(client, "kdmri_shadow_dropped_total")
    offered(shadow, lambda: sample, times=5)
    gate.set()
    shadow._thread.submit(int).result(PATIENCE)
    assert len(ran) == 2
    assert value(client, "kdmri_shadow_dropped_total") == before + 3


@pytest.mark.parametrize("ends", ["an answer", "an error"])
def test_a_place_is_given_back_however_a_run_ends(
    shadow: Shadow, sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ends: str
) -> None:
    def answer(_: Sample) -> str:
        if ends == "an answer":
            return "RuntimeError"
        raise EOFError

    monkeypatch.setattr(shadow, "_replay", answer)
    for _ in range(4):
        offered(shadow, lambda: sample)
        shadow._thread.submit(int).result(PATIENCE)
    assert capsys.readouterr().out.count("shadow failed") == 4


def test_a_sample_that_can_not_be_taken_gives_its_place_back(shadow: Shadow, sample: Sample, monkeypatch) -> None:
    def broken() -> Sample:
        raise MemoryError

    ran: list[Sample] = []
    monkeypatch.setattr(shadow, "_replay", lambda sample: ran.append(sample) or "done")
    for _ in range(3):
        with pytest.raises(MemoryError):
            offered(shadow, broken)
    offered(shadow, lambda: sample)
    shadow._thread.submit(int).result(PATIENCE)
    assert len(ran) == 1


def test_what_a_run_fails_of_is_named_and_not_quoted(
    shadowing: TestClient, sample: Sample, kspace_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the process lives on."""
    offered(shadowing.app.state.service.shadow, lambda: sample)
    caught_up(shadowing)
    written = capsys.readouterr().out
    assert '"error": "AttributeError"' in written
    assert "Doe" not in written
    assert compared_again(shadowing, kspace_file) == 1


def compared_again(client: TestClient, kspace_file: Path) -> float:
    """Comparisons that come of one request."""
    before = value(client, "kdmri_shadow_psnr_db_count")
    client.post("/reconstruct", files={"file": kspace_file.read_bytes()})
    caught_up(client)
    return value(client, "kdmri_shadow_psnr_db_count") - before


def test_a_process_that_dies_is_replaced(shadowing: TestClient, kspace_file: Path) -> None:
    assert compared_again(shadowing, kspace_file) == 1
    spent = value(shadowing, "process_cpu_seconds_total")
    shadowing.app.state.service.shadow._process.kill()
    shadowing.app.state.service.shadow._process.join()
    # A counter never falls: what an ended process took stays counted.
    assert value(shadowing, "process_cpu_seconds_total") >= spent
    assert compared_again(shadowing, kspace_file) == 0
    assert compared_again(shadowing, kspace_file) == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell a process' memory")
def test_memory_of_the_process_is_the_services(shadowing: TestClient, kspace_file: Path) -> None:
    """Its models are as large as the service's own."""
    compared_again(shadowing, kspace_file)
    assert shadowing.app.state.service.shadow._process.pid in multiprocess.with_children()
    alone = multiprocess.ProcessTotals(lambda: [os.getpid()]).collect()
    (memory,) = (m.samples[0].value for m in alone if m.name == "process_resident_memory_bytes")
    assert value(shadowing, "process_resident_memory_bytes") > memory + 100e6


@given(st.floats(1, 20))
def test_the_median_read_off_buckets_is_near_a_speed_up_that_all_runs_have(speedup: float) -> None:
    edges = metrics.SPEEDUP
    above = next(number for number, edge in enumerate(edges) if edge >= speedup)
    assert (edges[above - 1] + edges[above]) / 2 == pytest.approx(speedup, rel=0.25 if speedup <= 1 else 0.15)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the system has no class of idle work")
def test_the_process_has_the_lowest_priority(shadowing: TestClient, kspace_file: Path) -> None:
    compared_again(shadowing, kspace_file)
    process = shadowing.app.state.service.shadow._process.pid
    threads = [int(task.name) for task in Path(f"/proc/{process}/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}


def test_a_service_that_ends_takes_a_stopped_process_along(kspace_file: Path, sample: Sample) -> None:
    with TestClient(create_app(Settings(shadow_rate=1))) as client:
        compared_again(client, kspace_file)
        shadow = client.app.state.service.shadow
        shadow.pause_for_live_work(True)
        offered(shadow, lambda: sample)
    assert not shadow._process.is_alive()


def figures(student: np.ndarray, teacher: np.ndarray) -> tuple[float, float | None]:
    found = compare(student, teacher, student_seconds=1, teacher_seconds=2)
    assert found.speedup == 2
    return found.psnr_db, found.ssim


def test_comparisons_at_the_edges() -> None:
    image, black = phantom(32, 32), np.zeros((1, 32, 32), np.float32)
    assert figures(image, image) == (PSNR_CEILING, 1)
    assert figures(black, black) == (PSNR_CEILING, 1)
    assert figures(image, black) == (0, 0)
    assert figures(image[:, :4, :4] + 1, image[:, :4, :4] + 2)[1] is None


def test_both_roles_and_their_difference(client: TestClient, kspace_file: Path) -> None:
    upload = {"files": {"file": kspace_file.read_bytes()}}
    answer = client.post("/reconstruct?role=both", **upload)
    assert answer.headers["kdmri-role"] == "both"
    with h5py.File(io.BytesIO(answer.content)) as file:
        images = {name: file[name][()] for name in ("student", "teacher", "difference")}
        attributes = dict(file.attrs)
        models = [file[role].attrs["model"] for role in ("student", "teacher")]
    for role in ("student", "teacher"):
        alone = client.post(f"/reconstruct?role={role}", **upload)
        with h5py.File(io.BytesIO(alone.content)) as file:
            assert_allclose(images[role], file["reconstruction"], atol=1e-5)
    assert_allclose(images["difference"], images["student"] - images["teacher"])
    assert attributes["psnr_db"] == pytest.approx(psnr(images["teacher"], images["student"]), abs=1e-2)
    assert attributes["speedup"] > 0
    assert answer.headers["kdmri-model"] == ", ".join(models)


def test_both_as_figures_and_as_picture(client: TestClient, kspace_file: Path) -> None:
    upload = {"files": {"file": kspace_file.read_bytes()}}
    found = client.post("/reconstruct?role=both", headers={"accept": "application/json"}, **upload).json()
    assert found["speedup"] == pytest.approx(
        found["teacher"]["milliseconds_per_slice"] / found["student"]["milliseconds_per_slice"], rel=1e-2
    )
    picture = client.post("/reconstruct?role=both", headers={"accept": "image/png"}, **upload)
    width, height = Image.open(io.BytesIO(picture.content)).size
    assert width * height == 3 * 2 * 64 * 80


@pytest.mark.parametrize("kind", ["application/dicom", "application/zip"])
def test_both_is_not_dicom(client: TestClient, kspace_file: Path, kind: str) -> None:
    upload = {"files": {"file": kspace_file.read_bytes()}}
    answer = client.post("/reconstruct?role=both", headers={"accept": kind}, **upload)
    assert answer.status_code == 406
    assert answer.json()["detail"] == (
        f"expected Accept with one of application/x-hdf5, application/x-nifti, image/png, application/json, got {kind}"
    )


def test_both_super_resolved(client: TestClient) -> None:
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    answer = client.post("/super-resolve?role=both", content=mr, headers={"content-type": "application/dicom"})
    with h5py.File(io.BytesIO(answer.content)) as file:
        assert {name: file[name].shape for name in file} == dict.fromkeys(
            ("student", "teacher", "difference"), (1, 128, 128)
        )
        assert file.attrs["psnr_db"] > 30
    assert value(client, "kdmri_requests_total", operation="super_resolve", role="both", status="200") >= 1


def test_both_super_resolved_as_figures(client: TestClient) -> None:
    mr = Path(get_testdata_file("MR_small.dcm")).read_bytes()
    headers = {"content-type": "application/dicom", "accept": "application/json"}
    answer = client.post("/super-resolve?role=both", content=mr, headers=headers)
    found = answer.json()
    assert found["psnr_db"] > 30
    assert 0.9 < found["ssim"] < 1
    assert found["speedup"] > 0
    assert answer.headers["kdmri-model"] == f"{found['student']['model']}, {found['teacher']['model']}"
    assert found["student"]["shape"] == found["teacher"]["shape"] == [1, 128, 128]


def test_both_names_the_teacher_that_a_student_was_distilled_from(client: TestClient, bundles: list[Bundle]) -> None:
    for bundle in bundles:
        if bundle.manifest.distilled_from:
            other = client.app.state.service.engine.catalogue.counterpart(bundle.manifest)
            assert other.manifest.reference == bundle.manifest.distilled_from
