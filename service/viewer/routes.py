"""Routes of the web page: static files, which hold no patient data and need no key."""

from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, Response

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page runs its own scripts only, and talks to its own server only: a name in a file can't make it do more."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # A new version of the service must not meet the scripts of the old one.
    "Cache-Control": "no-cache",
}


@router.get("/")
async def page() -> Response:
    """The page that reconstructs or enlarges a file and compares student and teacher."""
    return _static("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A script, style or picture of the page."""
    return _static(name)


def _static(name: str) -> Response:
    path = STATIC / name
    # The name comes from a stranger: only files of this folder that are of a known type are served.
    if path.parent != STATIC or path.suffix not in TYPES or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return FileResponse(path, media_type=TYPES[path.suffix], headers=HEADERS)
