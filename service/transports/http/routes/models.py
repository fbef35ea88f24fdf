"""Routes of the models that the service offers."""

from fastapi import APIRouter
from kdmri_service.transports.http.dependencies import RunningService
from kdmri_service.transports.http.openapi import PROBLEMS

from kdmri.bundles.manifest import Manifest

router = APIRouter()


@router.get("/models")
async def list_models(service: RunningService) -> list[Manifest]:
    """The manifest of every model served."""
    return service.engine.catalogue.manifests()


@router.get("/models/{name}", responses={404: PROBLEMS[404]})
async def show_model(service: RunningService, name: str) -> Manifest:
    """The manifest of NAME (its newest version) or NAME@VERSION."""
    return service.engine.catalogue.find(name)
