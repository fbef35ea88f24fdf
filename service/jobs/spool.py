"""The spool: a folder of sealed files, each named by its SHA-256.

A file is complete and synced before anything refers to it: it is written beside its place, synced, and moved there in
one step. What a crash leaves behind is a file that nothing refers to, whose key was never stored.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from kdmri_service.errors import StorageFull
from kdmri_service.jobs.records import Blob
from kdmri_service.jobs.sealing import CHUNK, seal, unseal

from kdmri.errors import KdmriError

UNFINISHED = ".part"
"""Suffix of files that are being written; one that is old was left behind by a crash."""


class Spool:
    """A folder of sealed files."""

    def __init__(self, folder: Path, *, spare_bytes: int) -> None:
        """Open a spool, which is created if there is none.

        Args:
            folder: Where the files lie; nobody but this user gets access.
            spare_bytes: Bytes of the disk that the spool leaves free.
        """
        self._folder = folder / "blobs"
        self._spare = spare_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def require_room(self, size: int) -> None:
        """Raise StorageFull if a file of this size would leave too little of the disk free."""
        free = shutil.disk_usage(self._folder).free
        if free - size < self._spare:
            raise StorageFull("expected room on the disk of the spool, there is not enough: try again later")

    def write(self, key: bytes, source: BinaryIO, media_type: str) -> Blob:
        """Seal a file, from its position to its end, and sync it to the disk.

        Args:
            key: The job's key.
            source: The content.
            media_type: The content's type.

        Returns:
            The sealed file, which is now durable.

        Raises:
            StorageFull: The disk became full meanwhile; nothing is left of the file.
        """
        digest = hashlib.sha256()
        # mkstemp gives the file the mode 0600.
        descriptor, draft = tempfile.mkstemp(dir=self._folder, suffix=UNFINISHED)
        try:
            with open(descriptor, "wb") as sink:  # noqa: PTH123
                for chunk in seal(key, source):
                    digest.update(chunk)
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
            blob = Blob(digest.hexdigest(), media_type)
            # The file first, then its name: after a crash a name never leads to content that is not on the disk.
            Path(draft).replace(self._path(blob.sha256))
            self._sync_folder()
        except OSError as error:
            Path(draft).unlink(missing_ok=True)
            raise StorageFull("expected room on the disk of the spool, a file could not be written") from error
        except KdmriError:
            Path(draft).unlink(missing_ok=True)
            raise
        return blob

    def read(self, key: bytes, blob: Blob) -> Iterator[bytes]:
        """Yield the content of a file in chunks. Raises UnreadableInput if it is not as it was sealed."""
        with self._path(blob.sha256).open("rb") as sealed:
            yield from unseal(key, sealed)

    def read_file(self, key: bytes, blob: Blob) -> BinaryIO:
        """Return the content as an open file, in memory if it is small, which vanishes when it is closed.

        Args:
            key: The job's key.
            blob: The sealed file.

        Raises:
            UnreadableInput: It is not as it was sealed.
        """
        # Unsealed as a whole before it is used: a file that was cut off shows that in its last chunk only.
        content = _temporary_file()
        try:
            for chunk in self.read(key, blob):
                content.write(chunk)
        except (KdmriError, OSError):
            content.close()
            raise
        content.seek(0)
        return content

    def delete(self, sha256: str) -> None:
        """Delete a file if it is there."""
        self._path(sha256).unlink(missing_ok=True)

    def names(self, *, older_than_seconds: float) -> list[str]:
        """Return the names of files that were last written so long ago, unfinished ones included."""
        before, found = time.time() - older_than_seconds, []
        for file in self._folder.iterdir():
            # Another process may delete a file meanwhile.
            with suppress(FileNotFoundError):
                if file.stat().st_mtime <= before:
                    found.append(file.name)
        return found

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _sync_folder(self) -> None:
        """Sync the folder's entries: without this a power cut may undo a rename (fsync(2))."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_file() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=CHUNK))
