"""Responses: an answer of the engine as HTTP."""

from fastapi import Response
from kdmri_service.engine.answer import Answer
from kdmri_service.observability.observation import Observation


def respond(answer: Answer, request: Observation) -> Response:
    """Return the answer with its headers, and the milliseconds of each stage as Server-Timing."""
    # Rendered here, because the time of encoding is known only now.
    headers = {**answer.headers, "Server-Timing": request.server_timing()}
    return Response(answer.body, media_type=answer.content_type, headers=headers)
