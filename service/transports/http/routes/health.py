"""Routes of the service's health, for orchestrators."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from kdmri_service.transports.http.dependencies import RunningService

router = APIRouter()


@router.get("/livez")
async def live() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def ready(service: RunningService) -> JSONResponse:
    """Models are loaded and warm, which they are before the server listens, and the service is not ending."""
    if service.drain.draining:
        return JSONResponse({"status": "ending"}, HTTPStatus.SERVICE_UNAVAILABLE)
    return JSONResponse({"status": "ready", "models": len(service.engine.catalogue.bundles)})
