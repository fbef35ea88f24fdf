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


def answered(*kinds: str, description: str) -> Described:
    """The types answered, by the client's Accept, and the problems."""
    return {200: {"description": description, "content": {kind: {} for kind in kinds}}, **PROBLEMS}
