"""The files of a folder that may hold DICOM."""

from pathlib import Path

from kdmri.errors import UnreadableDicom
from kdmri.formats.dicom.upload import may_be_dicom


def files(folder: Path) -> list[Path]:
    """Find the files at any depth of a folder, sorted by path; a DICOMDIR is not one.

    Files of other kinds are among them, so that the reader counts what it leaves out.

    Raises:
        UnreadableDicom: none of them is DICOM or a zip.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    if any(map(may_be_dicom, found)):
        return found
    raise UnreadableDicom(f"expected DICOM objects in the folder, got {len(found)} other files")
