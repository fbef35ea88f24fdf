"""The two operations. Thin: receive, run, answer; errors.py answers failures, telemetry.py measures."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import APIRouter, BackgroundTasks, Header, Query, Request, Response
from kdmri_service.engine.inference import Answer, Job, Reconstruction, SuperResolution, infer
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability.observation import BOTH, Observation, observed
from kdmri_service.shadow import replay as rerun
from kdmri_service.transports.http import encoders as wire
from kdmri_service.transports.http import response as answers
from kdmri_service.transports.http.encoders import DICOM, HDF5, JSON, PNG, RELATED, ZIP
from kdmri_service.transports.http.openapi import answered, body
from kdmri_service.transports.http.upload import Part, receive
from pydicom import Dataset
from starlette.requests import ClientDisconnect

from kdmri.data.images import Images
from kdmri.data.kspace import Scan
from kdmri.errors import InvalidRequest
from kdmri.formats.dicom import derived
from kdmri.formats.dicom.reader import DicomSeries, read, read_zip
from kdmri.formats.kspace import reader as kspace
from kdmri.runtime.model import Model as LoadedModel

router = APIRouter()

Found = TypeVar("Found")

Role = Annotated[str, Query(description="student, teacher, or both: the two images, their difference and figures")]
Model = Annotated[str | None, Query(description="NAME or NAME@VERSION; by default the role's newest")]
Accept = Annotated[str | None, Header()]
Number = Annotated[int, Query(ge=0, description="which of an ISMRMRD file's, from 0")]
Coils = Annotated[int | None, Query(ge=1, description="virtual coils; by default what keeps the signal")]

RAW_KSPACE = (HDF5, "application/x-hdf", "application/octet-stream")
RAW_DICOM = (DICOM, ZIP, "application/octet-stream")
SIDE_BY_SIDE = (HDF5, PNG, JSON)
"""Types that hold the images of both roles; DICOM would mix two series of machine-made images."""
BOTH_ANSWERED = (
    "The images. For role=both: HDF5 with the datasets `student`, `teacher` and `difference` (student minus teacher) "
    "and the figures as attributes, a PNG with the three side by side (the difference five times as bright), "
    "or the figures as JSON: psnr_db and ssim of the student against the teacher, speedup, and each one's own."
)


@router.post(
    "/reconstruct",
    openapi_extra=body(HDF5),
    responses=answered(HDF5, DICOM, ZIP, PNG, JSON, description=BOTH_ANSWERED),
    response_class=Response,
)
async def reconstruct(
    request: Request,
    after: BackgroundTasks,
    role: Role = "student",
    model: Model = None,
    accept: Accept = None,
    contrast: Number = 0,
    repetition: Number = 0,
    coils: Coils = None,
) -> Response:
    """Undersampled k-space (fastMRI or ISMRMRD HDF5) to magnitude images."""
    state = request.app.state
    with observed("reconstruct", role) as stage, ExitStack() as files:
        kind = wire.negotiate(accept, SIDE_BY_SIDE if role == BOTH else (HDF5, DICOM, ZIP, PNG, JSON))
        chosen = state.models.choose("reconstruction", role, model)
        stage.role = role if role == BOTH else chosen[0].manifest.role
        parts = await receive(request, raw=RAW_KSPACE, limit=state.settings.max_upload_mb * 2**20)
        with state.scheduler.attending():
            with stage("parse"):
                limit = state.settings.max_unpacked_mb * 2**20
                measured = await run_sync(_opened, files, parts, contrast, repetition, limit)
            jobs = [(Reconstruction(measured, coils), one) for one in chosen]
            found = await while_connected(request, _inferred(jobs, state.scheduler, stage))
            with stage("encode"):
                if len(found) > 1:
                    content = await run_sync(_both, found, stage, kind)
                else:
                    content, kind = await run_sync(_reconstructed, found[0], stage, kind, measured)
        # Of fully sampled k-space all models make one image, which says nothing of how close the student comes.
        if role != BOTH and not measured.mask.all() and (pair := state.shadow.drawn(found[0])):
            after.add_task(state.shadow.offer, partial(rerun.of_reconstruction, jobs[0][0], found[0], pair))
        after.add_task(files.pop_all().close)
        return answers.respond(content, kind, answers.headers(found, stage.role), stage)


@router.post(
    "/super-resolve",
    openapi_extra=body(DICOM, ZIP, RELATED),
    responses=answered(DICOM, ZIP, RELATED, HDF5, PNG, JSON, description=BOTH_ANSWERED),
    response_class=Response,
)
async def super_resolve(
    request: Request,
    after: BackgroundTasks,
    scale: int = 2,
    role: Role = "student",
    model: Model = None,
    accept: Accept = None,
) -> Response:
    """Low-resolution MR DICOM, one object or a series, to the same images on a finer grid."""
    state = request.app.state
    with observed("super_resolve", role) as stage:
        chosen = state.models.choose("super-resolution", role, model)
        stage.role = role if role == BOTH else chosen[0].manifest.role
        parts = await receive(request, raw=RAW_DICOM, limit=state.settings.max_upload_mb * 2**20)
        with state.scheduler.attending():
            with stage("parse"):
                groups = await run_sync(_read_dicom, parts, state.settings.max_unpacked_mb * 2**20, scale)
            if role == BOTH and len(groups) > 1:
                raise InvalidRequest(f"role=both: expected images of one series and one size, got {len(groups)} kinds")
            kind = wire.negotiate(accept, SIDE_BY_SIDE if role == BOTH else _offered(groups, request))
            jobs = [(SuperResolution(group.images, scale), one) for group in groups for one in chosen]
            found = await while_connected(request, _inferred(jobs, state.scheduler, stage))
            with stage("encode"):
                if role == BOTH:
                    content = await run_sync(_both, found, stage, kind, groups[0].headers)
                else:
                    content, kind = await run_sync(_super_resolved, groups, found, stage, kind, scale)
        if role != BOTH and (pair := state.shadow.drawn(found[0])):
            first = groups[0].images
            after.add_task(state.shadow.offer, partial(rerun.of_super_resolution, first, scale, found[0], pair))
        return answers.respond(content, kind, answers.headers(found, stage.role), stage)


async def while_connected(request: Request, work: Coroutine[Any, Any, Found]) -> Found:
    """What `work` answers. Where the client leaves first, work is cancelled; raises ClientDisconnect.

    For when all of the body has come: the next thing to be received is the end of the connection.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _inferred(jobs: Sequence[tuple[Job, LoadedModel]], scheduler: Scheduler, stage: Observation) -> list[Answer]:
    return [await infer(job, model, scheduler, stage) for job, model in jobs]


def _opened(files: ExitStack, parts: Sequence[Part], contrast: int, repetition: int, max_bytes: int) -> Scan:
    """The k-space of an upload, readable until `files` close."""
    for part in parts:
        files.enter_context(part.file)
    if len(parts) != 1:
        raise InvalidRequest(f"expected one k-space file, got {len(parts)}")
    found = kspace.opened(parts[0].file, contrast=contrast, repetition=repetition, max_bytes=max_bytes)
    return files.enter_context(found)


def _read_dicom(parts: Sequence[Part], max_bytes: int, scale: int) -> list[DicomSeries]:
    # An answer is scale^2 as large, float32 while it is worked on and 16 bit twice on its way out.
    max_pixels = max_bytes // (8 * max(scale, 1) ** 2)
    with ExitStack() as files:
        for part in parts:
            files.enter_context(part.file)
        return _series(parts, max_bytes, max_pixels)


def _series(parts: Sequence[Part], max_bytes: int, max_pixels: int) -> list[DicomSeries]:
    zipped = parts[0].file.read(4) == b"PK\x03\x04"
    parts[0].file.seek(0)
    if zipped and len(parts) == 1:
        return read_zip(parts[0].file, max_bytes=max_bytes, max_pixels=max_pixels)
    return read([part.file for part in parts], max_pixels=max_pixels)


def _offered(groups: Sequence[DicomSeries], request: Request) -> tuple[str, ...]:
    """Media types to choose from, the first where the client has no wish: one object bare, several as they came."""
    objects = sum(len(group.headers) for group in groups)
    related = request.headers["content-type"].lower().startswith(RELATED)
    envelopes = (DICOM, ZIP, RELATED) if objects == 1 else (ZIP, RELATED)
    return (*sorted(envelopes, key=lambda kind: related and kind != RELATED), PNG, JSON)


def _reconstructed(answer: Answer, stage: Observation, kind: str, measured: Scan) -> tuple[bytes, str]:
    figures = answers.figures(answer, stage)
    if kind in (DICOM, ZIP):
        model = answer.manifest.reference
        patient, acceleration = measured.patient_and_study, measured.acceleration
        objects = derived.reconstructed(
            answer.images, model=model, patient_and_study=patient, acceleration=acceleration
        )
        return wire.dicom(objects, kind)
    if kind == HDF5:
        return wire.hdf5({"reconstruction": answer.images.pixels}, figures), kind
    return (wire.preview(answer.images) if kind == PNG else wire.figures_json(figures)), kind


def _super_resolved(
    groups: Sequence[DicomSeries], found: Sequence[Answer], stage: Observation, kind: str, scale: int
) -> tuple[bytes, str]:
    if kind == PNG:
        return wire.preview(found[0].images, groups[0].headers), kind
    if kind == JSON:
        shapes = [list(answer.images.pixels.shape) for answer in found]
        return wire.figures_json({**answers.figures(found[0], stage), "shapes": shapes}), kind
    pixels = [answer.images.pixels for answer in found]
    datasets = derived.super_resolved(groups, pixels, scale=scale, model=found[0].manifest.reference)
    return wire.dicom(datasets, kind)


def _both(pair: Sequence[Answer], stage: Observation, kind: str, headers: Sequence[Dataset] = ()) -> bytes:
    if kind == PNG:
        return wire.preview(Images(answers.side_by_side(pair)), headers)
    figures = answers.figures_of_both(pair, answers.compared(pair), stage)
    return wire.hdf5(answers.datasets_of_both(pair), figures) if kind == HDF5 else wire.figures_json(figures)
