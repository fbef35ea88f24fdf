"""What the service says of itself: its models, its health, its metrics."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from kdmri_service.observability import observation as telemetry
from kdmri_service.transports.http.openapi import PROBLEMS

from kdmri.bundles.manifest import Manifest
from kdmri.bundles.store import choose
from kdmri.errors import UnknownModel

router = APIRouter()


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
async def metrics(accept: Annotated[str | None, Header()] = None) -> Response:
    """Prometheus metrics."""
    content, kind = telemetry.exposition(accept)
    return Response(content, media_type=kind)
