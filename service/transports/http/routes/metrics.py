"""The route that Prometheus scrapes."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from kdmri_service.observability.metrics import exposition

router = APIRouter()


@router.get("/metrics", response_class=Response)
async def metrics(accept: Annotated[str | None, Header()] = None) -> Response:
    """Prometheus metrics."""
    content, content_type = exposition(accept)
    return Response(content, media_type=content_type)
