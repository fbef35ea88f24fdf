"""Choice of what is worked on: magnitude MR images in grey levels, and a name for everything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset, uid

from kdmri.errors import UnreadableDicom
from kdmri.formats.dicom.attributes import component, frame_count, is_enhanced
from kdmri.formats.dicom.tiles import tile_name, tiling

GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Unsuitable:
    """Why an object is left out beside others, or refused alone."""

    expected: str
    got: str

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.got}"


def unsuitable(header: Dataset) -> Unsuitable | None:
    """Return why an object is no magnitude MR image, or None for one that is."""
    sop_class = uid.UID(str(header.get("SOPClassUID") or ""))
    is_mr_class = sop_class == uid.MRImageStorage or is_enhanced(header)
    modality = header.get("Modality") or ("MR" if is_mr_class else None)
    if modality != "MR":
        return Unsuitable("an MR image", _name("modality", modality))
    photometric = header.get("PhotometricInterpretation")
    samples = header.get("SamplesPerPixel", 1)
    if (photometric and photometric not in GREY) or (photometric and samples != 1):
        return Unsuitable("monochrome pixels", _name("photometric interpretation", photometric))
    if not is_mr_class:
        return Unsuitable("MR Image Storage or Enhanced MR Image Storage", _name("SOP class", sop_class.name))
    if not photometric:
        return Unsuitable("monochrome pixels", "no photometric interpretation")
    if "ModalityLUTSequence" in header:
        return Unsuitable("a linear rescale", "a modality lookup table")
    if not is_enhanced(header) and (name := tile_name(header)) and tiling(header) is None:
        return Unsuitable("one slice in an image", name)
    return _other_frames(header)


def magnitude_frames(header: Dataset) -> list[int]:
    """Return the numbers, from 0, of the frames that show magnitude."""
    return [frame for frame in range(frame_count(header)) if component(header, frame) == "magnitude"]


def check_complete(header: Dataset) -> int:
    """Return the pixels of an image over all frames, after a check that it has what an answer needs.

    Raises:
        UnreadableDicom: a needed attribute is absent.
    """
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not header.get(keyword):
            raise UnreadableDicom(f"expected an instance with a {keyword}, got none")
    rows, columns = (_integer(header, keyword) for keyword in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        raise UnreadableDicom(f"expected an image with rows and columns, got {rows} x {columns}")
    for keyword in ("BitsAllocated", "BitsStored"):
        if _integer(header, keyword) < 1:
            raise UnreadableDicom(f"expected {keyword}, got none")
    return rows * columns * frame_count(header)


def skipped_note(skipped: Sequence[Unsuitable], total: int) -> str:
    """Return a sentence that counts what was left out of an upload of `total` objects."""
    # Equal reasons are counted together, in the order in which they first occurred.
    counts = {reason.got: [other.got for other in skipped].count(reason.got) for reason in skipped}
    listed = ", ".join(f"{count} x {got}" for got, count in counts.items())
    return f"{len(skipped)} of {total} objects were left out: {listed}."


def _integer(header: Dataset, keyword: str) -> int:
    value = header.get(keyword)
    return int(value) if isinstance(value, int) else 0


def _other_frames(header: Dataset) -> Unsuitable | None:
    """Return why an object's frames can't be worked on."""
    if is_enhanced(header):
        described = len(header.get("PerFrameFunctionalGroupsSequence") or ())
        if frame_count(header) != described:
            return Unsuitable(f"as many frames as are described, {described}", str(frame_count(header)))
    elif frame_count(header) != 1:
        return Unsuitable("one frame in an object of class MR Image Storage", f"{frame_count(header)} frames")
    if not magnitude_frames(header):
        return Unsuitable("magnitude images", component(header, 0))
    return None


def _name(what: str, value: Any) -> str:
    """Return a coded value for a message: short and printable, because it comes from outside."""
    printable = "".join(letter for letter in str(value or "")[:48] if letter.isalnum() or letter in " _-.")
    return f"{what} {printable}" if printable else f"no {what}"
