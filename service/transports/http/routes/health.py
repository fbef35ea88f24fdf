"""Routes of the service's health, for orchestrators."""

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
    """Models are loaded and warm: the server does not listen before they are."""
    return JSONResponse({"status": "ready", "models": len(service.engine.catalogue.bundles)})
