"""The DICOM files of a folder."""

from pathlib import Path

from kdmri.errors import UnreadableDicom
from kdmri.formats.dicom.reader import looks_like_dicom

HEAD = 1024
"""Bytes of a file that are looked at."""


def files(folder: Path) -> list[Path]:
    """Find the DICOM objects at any depth of a folder, sorted by path; a DICOMDIR is not one.

    Raises:
        UnreadableDicom: there are none.
    """
    # A DICOMDIR begins like an object and indexes the files that are found here anyway.
    candidates = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    if objects := [path for path in candidates if _begins_as_dicom(path)]:
        return objects
    raise UnreadableDicom(f"expected DICOM objects in the folder, got {len(candidates)} other files")


def _begins_as_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return looks_like_dicom(file.read(HEAD))
