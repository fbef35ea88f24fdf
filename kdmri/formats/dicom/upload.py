"""Files of an upload to data sets: the images to work on, and counts of everything else."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from kdmri.errors import KdmriError, UnreadableDicom, UnsupportedInput
from kdmri.formats.dicom import archive
from kdmri.formats.dicom.attributes import printable
from kdmri.formats.dicom.parsing import HEAD, looks_like_dicom, parse
from kdmri.formats.dicom.selection import Unsuitable, unsuitable


class Upload:
    """Data sets of an upload, and what else was in it."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes_left = max_bytes
        self.images: list[Dataset] = []
        self.skipped: list[Unsuitable] = []
        self.notes: list[str] = []
        self.total = 0
        self.has_zip = False

    def add(self, source: bytes | BinaryIO | Path) -> None:
        # Whatever else lies in a folder may be of any size, so that a file is not read whole before its kind is known.
        if isinstance(source, Path) and not may_be_dicom(source):
            self._skip_other()
            return
        content = source if isinstance(source, bytes) else _content(source)
        if content.startswith(archive.SIGNATURES):
            self.add_zip(io.BytesIO(content))
        else:
            self._add_file(content)

    def add_zip(self, file: BinaryIO) -> None:
        self.has_zip = True
        for content in archive.members(file, self.bytes_left):
            self.bytes_left -= len(content)
            self._add_file(content)

    def _add_file(self, content: bytes) -> None:
        if not looks_like_dicom(content[:HEAD]):
            self._skip_other()
            return
        self.total += 1
        try:
            dataset, notes, size = parse(content, self.bytes_left)
        except UnreadableDicom as error:
            raise UnreadableDicom(f"{error}; it is object {self.total} of the upload") from error
        # A deflated data set unpacks to more than its file: the sum over an upload is bounded, not each alone.
        self.bytes_left -= max(0, size - len(content))
        with naming(dataset):
            reason = unsuitable(dataset)
        if reason is None:
            self.images.append(dataset)
            self.notes += [note for note in notes if note not in self.notes]
        else:
            self.skipped.append(reason)

    def _skip_other(self) -> None:
        self.total += 1
        self.skipped.append(Unsuitable("a DICOM file", "something else"))

    def nothing_left(self) -> KdmriError:
        """Return the error for an upload without any magnitude MR image."""
        reasons = dict.fromkeys(self.skipped)
        beside = [reason for reason in reasons if reason.got != "something else"]
        if not beside:
            only_file = self.total == 1 and not self.has_zip
            expected, got = ("a DICOM file", "something else") if only_file else ("at least one DICOM image", "none")
            return UnreadableDicom(f"expected {expected}, got {got}")
        if len(beside) == 1:
            return UnsupportedInput(str(beside[0]))
        return UnsupportedInput(f"expected a magnitude MR image, got {', '.join(reason.got for reason in beside)}")


def may_be_dicom(path: Path) -> bool:
    """True if a file begins as DICOM or as a zip."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head.startswith(archive.SIGNATURES) or looks_like_dicom(head)


def _content(source: BinaryIO | Path) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source.read()


@contextmanager
def naming(dataset: Dataset) -> Iterator[None]:
    """Name series and instance number in the errors of an image; others than kdmri's own become UnreadableDicom."""
    numbers = [printable(dataset.get(keyword, "none")) for keyword in ("SeriesNumber", "InstanceNumber")]
    place = "series {}, instance {}".format(*numbers)
    try:
        yield
    except KdmriError as error:
        raise type(error)(f"{error} ({place})") from error
    except Exception as error:  # A value of the wrong kind, anywhere in a data set.
        message = f"expected a well-formed MR image, got a damaged one ({type(error).__name__}, {place})"
        raise UnreadableDicom(message) from error
