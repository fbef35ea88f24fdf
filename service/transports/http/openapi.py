"""The API's description of streamed bodies, which no parameter declares, and of problems."""

from http import HTTPStatus
from typing import Any

from kdmri_service.transports.http.problems import STATUS

from kdmri.operations import Operation
from kdmri.operations.media_types import SIDE_BY_SIDE

Responses = dict[int | str, dict[str, Any]]
"""FastAPI's own type of documented responses."""

ROLE_BOTH = (
    "The images. For role=both: HDF5 with the datasets `student`, `teacher` and `difference` (student minus teacher) "
    "and the figures as attributes, a PNG with the three side by side (the difference five times as bright), "
    "or the figures as JSON: psnr_db and ssim of the student against the teacher, speedup, and each one's own."
)
HEADERS = {
    "KDMRI-Model": "name@version; for role=both the student's and the teacher's",
    "KDMRI-Role": "student, teacher or both",
    "KDMRI-Acceleration": "grid points over measured points, of k-space",
    "KDMRI-Residual": "share of the measurement that the images do not explain, as a ratio of norms",
    "KDMRI-Noise": "standard deviation of the input's noise, relative to bright tissue",
    "KDMRI-Distance": "factors of two by which the input lies outside what the model was trained on, by quantity",
    "KDMRI-Predicted-Error": "relative error that the answer is predicted to have; absent if it was not predicted",
    "KDMRI-Predicted-PSNR": "PSNR in dB that the answer is predicted to have; absent if it was not predicted",
    "KDMRI-Predicted-PSNR-Interval": "lower and upper bound of the 90% interval of the predicted PSNR",
    "KDMRI-Warning": "why the answer may be worse than the model card states; absent if nothing suggests that",
    "KDMRI-Notes": "what was left out or chosen while the input was read; absent if nothing was",
    "Server-Timing": "milliseconds of each stage",
    "X-Request-ID": "the request's, or a new one",
}


def _problems() -> Responses:
    """Return every status of the error table, described by its errors."""
    descriptions: dict[int, list[str]] = {}
    for error, status in STATUS.items():
        # Errors of the operator, such as a corrupt bundle, are no part of what a client can bring about.
        if status != HTTPStatus.INTERNAL_SERVER_ERROR:
            summary = (error.__doc__ or "").partition("\n")[0].rstrip(".")
            descriptions.setdefault(status.value, []).append(summary)
    return {
        status: {"description": "; or: ".join(texts), "content": {"application/problem+json": {}}}
        for status, texts in sorted(descriptions.items())
    }


PROBLEMS = _problems()


def documented_body(operation: type[Operation]) -> dict[str, Any]:
    """Return the request body: multipart/form-data with parts `file`, or a file of one of the operation's types."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": {"type": "array", "items": binary}}, "required": ["file"]}
    content: dict[str, Any] = {media_type: {"schema": binary} for media_type in operation.documented_types}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **content}}}


def documented_answer(operation: type[Operation]) -> Responses:
    """Return the types that an operation answers with, their headers, and the problems."""
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()}
    content: dict[str, Any] = {media_type: {} for media_type in (*operation.answer_types, *SIDE_BY_SIDE)}
    return {200: {"description": ROLE_BOTH, "headers": headers, "content": content}, **PROBLEMS}
