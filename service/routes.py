"""The addresses. Thin: receive, run, answer; errors.py answers failures, telemetry.py measures."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from kdmri.bundle import Manifest, choose
from kdmri.errors import InvalidRequest, UnknownModel
from kdmri.formats import derived, kspace
from kdmri.formats.dicom import DicomSeries, read, read_zip
from kdmri.records import KSpace
from service import telemetry, wire
from service.telemetry import Observation, observed
from service.upload import Part, receive
from service.wire import DICOM, HDF5, JSON, PNG, RELATED, ZIP

router = APIRouter()

Role = Annotated[str, Query(description="student or teacher")]
Model = Annotated[str | None, Query(description="NAME or NAME@VERSION; by default the role's newest")]
Accept = Annotated[str | None, Header()]

RAW_KSPACE = (HDF5, "application/x-hdf", "application/octet-stream")
RAW_DICOM = (DICOM, ZIP, "application/octet-stream")
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/problem+json": {}}}
    for code, text in (
        (400, "a parameter or the envelope is wrong"),
        (404, "no such model"),
        (406, "no acceptable type"),
        (413, "the body is over the limit"),
        (415, "the body's type is not read"),
        (422, "the file can't be read or is not supported"),
        (503, "no place in the queue"),
    )
}


def _body(*kinds: str) -> dict[str, Any]:
    """OpenAPI's description of a body that is streamed and so not declared by parameters."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": {"type": "array", "items": binary}}, "required": ["file"]}
    content: dict[str, Any] = {kind: {"schema": binary} for kind in kinds}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **content}}}


def _answers(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "the images", "content": {kind: {} for kind in kinds}}, **PROBLEMS}


@router.post(
    "/reconstruct",
    openapi_extra=_body(HDF5),
    responses=_answers(HDF5, DICOM, ZIP, PNG, JSON),
    response_class=Response,
)
async def reconstruct(request: Request, role: Role = "student", model: Model = None, accept: Accept = None) -> Response:
    """Undersampled k-space (fastMRI or ISMRMRD HDF5) to magnitude images."""
    state = request.app.state
    with observed("reconstruct", role) as stage:
        kind = wire.negotiate(accept, (HDF5, DICOM, ZIP, PNG, JSON))
        reconstructor = state.models.reconstructor(role, model)
        parts = await receive(request, raw=RAW_KSPACE, limit=state.settings.max_upload_mb * 2**20)
        with stage("parse"):
            measured = await run_sync(_read_kspace, parts, state.settings.max_unpacked_mb * 2**20)
        images = await state.scheduler.run(partial(reconstructor.reconstruct, measured, stage=stage), stage)
        stage.slices = len(images.pixels)
        manifest = reconstructor.model.manifest
        headers = _headers(manifest, f"{measured.acceleration:.2f}")
        if warning := outside_training(measured, manifest):
            headers["KDMRI-Warning"] = warning
        figures = {**_figures(manifest, stage, images.pixels.shape), "acceleration": round(measured.acceleration, 3)}
        with stage("encode"):
            if kind in (DICOM, ZIP):
                datasets = partial(
                    derived.reconstructed, images, model=manifest.reference, acceleration=measured.acceleration
                )
                body, kind = await run_sync(lambda: wire.dicom(datasets(), kind))
            elif kind == HDF5:
                body = await run_sync(wire.hdf5, images, figures)
            else:
                body = await run_sync(wire.preview, images) if kind == PNG else wire.figures_json(figures)
        return _response(body, kind, headers, stage)


@router.post(
    "/super-resolve",
    openapi_extra=_body(DICOM, ZIP, RELATED),
    responses=_answers(DICOM, ZIP, RELATED, PNG, JSON),
    response_class=Response,
)
async def super_resolve(
    request: Request, scale: int = 2, role: Role = "student", model: Model = None, accept: Accept = None
) -> Response:
    """Low-resolution MR DICOM, one object or a series, to the same images on a finer grid."""
    state = request.app.state
    with observed("super_resolve", role) as stage:
        resolver = state.models.super_resolver(role, model)
        parts = await receive(request, raw=RAW_DICOM, limit=state.settings.max_upload_mb * 2**20)
        with stage("parse"):
            groups = await run_sync(_read_dicom, parts, state.settings.max_unpacked_mb * 2**20, scale)
        in_kind = RELATED if request.headers["content-type"].lower().startswith(RELATED) else None
        kind = wire.negotiate(accept, _offered(sum(len(g.headers) for g in groups), in_kind))
        finer = []
        for group in groups:
            finer.append(
                await state.scheduler.run(partial(resolver.super_resolve, group.images, scale, stage=stage), stage)
            )
            stage.slices += len(group.images.pixels)
        manifest = resolver.model.manifest
        with stage("encode"):
            if kind == PNG:
                body = await run_sync(wire.preview, finer[0])
            elif kind == JSON:
                shapes = [list(images.pixels.shape) for images in finer]
                body = wire.figures_json({**_figures(manifest, stage, finer[0].pixels.shape), "shapes": shapes})
            else:
                body, kind = await run_sync(_derive, groups, finer, scale, manifest.reference, kind)
        return _response(body, kind, _headers(manifest), stage)


@router.get("/models")
async def list_models(request: Request) -> list[Manifest]:
    """The manifest of every model served."""
    manifests: list[Manifest] = request.app.state.models.manifests()
    return manifests


@router.get("/models/{name}", responses={404: PROBLEMS[404]})
async def show_model(request: Request, name: str) -> Manifest:
    """The manifest of NAME (its newest version) or NAME@VERSION."""
    for task in ("reconstruction", "super-resolution"):
        try:
            return choose(request.app.state.models.bundles, task, model=name).manifest
        except UnknownModel:
            continue
    there = ", ".join(manifest.reference for manifest in request.app.state.models.manifests())
    raise UnknownModel(f"expected one of {there}, got {name[:80]!r}")


@router.get("/livez")
async def live() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def ready(request: Request) -> JSONResponse:
    """Models are loaded and warm: the server does not listen before they are."""
    return JSONResponse({"status": "ready", "models": len(request.app.state.models.bundles)})


@router.get("/metrics", response_class=Response)
async def metrics(accept: Accept = None) -> Response:
    """Prometheus metrics."""
    content, kind = telemetry.exposition(accept)
    return Response(content, media_type=kind)


def outside_training(measured: KSpace, manifest: Manifest) -> str | None:
    """Says so where the acceleration is not one that the model was trained for."""
    low, high = manifest.trained_on["accelerations"]
    found = measured.acceleration
    if found < 1.01:
        return "k-space is fully sampled: the answer is the plain image"
    if found > high * 1.15:
        return f"acceleration {found:.1f} is outside the trained range {low:g} to {high:g}"
    return None


def _read_kspace(parts: Sequence[Part], max_bytes: int) -> KSpace:
    if len(parts) != 1:
        raise InvalidRequest(f"expected one k-space file, got {len(parts)}")
    return kspace.read(parts[0].file, max_bytes=max_bytes)


def _read_dicom(parts: Sequence[Part], max_bytes: int, scale: int) -> list[DicomSeries]:
    # An answer is scale^2 as large, float32 while it is worked on and 16 bit twice on its way out.
    max_pixels = max_bytes // (8 * max(scale, 1) ** 2)
    zipped = parts[0].file.read(4) == b"PK\x03\x04"
    parts[0].file.seek(0)
    if zipped and len(parts) == 1:
        return read_zip(parts[0].file, max_bytes=max_bytes, max_pixels=max_pixels)
    return read([part.file for part in parts], max_pixels=max_pixels)


def _offered(objects: int, in_kind: str | None) -> tuple[str, ...]:
    """Media types to choose from, the first where the client has no wish: one object bare, several as they came."""
    envelopes = (DICOM, ZIP, RELATED) if objects == 1 else (ZIP, RELATED)
    ordered = sorted(envelopes, key=lambda kind: kind != in_kind)
    return (*ordered, PNG, JSON)


def _derive(
    groups: Sequence[DicomSeries], finer: Sequence[Any], scale: int, model: str, kind: str
) -> tuple[bytes, str]:
    datasets = [
        dataset
        for group, images in zip(groups, finer, strict=True)
        for dataset in derived.super_resolved(group, images.pixels, scale=scale, model=model)
    ]
    return wire.dicom(datasets, kind)


def _figures(manifest: Manifest, stage: Observation, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "model": manifest.reference,
        "role": manifest.role,
        "shape": list(shape),
        "milliseconds_per_slice": round(1000 * stage.model_seconds / stage.slices, 3),
        "stage_milliseconds": {name: round(1000 * seconds, 3) for name, seconds in stage.seconds.items()},
    }


def _headers(manifest: Manifest, acceleration: str | None = None) -> dict[str, str]:
    headers = {"KDMRI-Model": manifest.reference, "KDMRI-Role": manifest.role}
    return headers if acceleration is None else {**headers, "KDMRI-Acceleration": acceleration}


def _response(body: bytes, kind: str, headers: dict[str, str], stage: Observation) -> Response:
    return Response(body, media_type=kind, headers={**headers, "Server-Timing": stage.server_timing()})
