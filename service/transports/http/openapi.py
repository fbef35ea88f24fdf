"""What OpenAPI says of bodies that are streamed, and so declared by no parameter."""

from typing import Any

Described = dict[int | str, dict[str, Any]]

PROBLEMS: Described = {
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


def body(*kinds: str) -> dict[str, Any]:
    """A request body: multipart/form-data with parts `file`, or one of the given types as it is."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": {"type": "array", "items": binary}}, "required": ["file"]}
    content: dict[str, Any] = {kind: {"schema": binary} for kind in kinds}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **content}}}


HEADERS = {
    "KDMRI-Model": "name@version; for role=both the student's and the teacher's",
    "KDMRI-Role": "student, teacher or both",
    "KDMRI-Acceleration": "grid points over measured points, of k-space",
    "KDMRI-Residual": "share of what was measured that is not in the answer, as a ratio of norms",
    "KDMRI-Noise": "standard deviation of the input's noise, relative to bright tissue",
    "KDMRI-Distance": "factors of two by which the input lies outside what the model was trained on, by quantity",
    "KDMRI-Warning": "why the answer may be worse than the model card says; absent where nothing suggests so",
    "Server-Timing": "milliseconds of each stage",
    "X-Request-ID": "the request's, or a new one",
}


def answered(*kinds: str, description: str) -> Described:
    """The types answered, by the client's Accept, with their headers, and the problems."""
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()}
    content: dict[str, Any] = {kind: {} for kind in kinds}
    return {200: {"description": description, "headers": headers, "content": content}, **PROBLEMS}
