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
    """Models are loaded and warm, the service is not ending, and it can record what it has to."""
    if service.drain.draining:
        return JSONResponse({"status": "ending"}, HTTPStatus.SERVICE_UNAVAILABLE)
    audit = service.audit
    if audit is not None and audit.refuses_work:
        return JSONResponse({"status": "audit trail can't be written"}, HTTPStatus.SERVICE_UNAVAILABLE)
    state = {"audit": "failing"} if audit is not None and audit.failing else {}
    return JSONResponse({"status": "ready", "models": len(service.engine.catalogue.bundles), **state})
