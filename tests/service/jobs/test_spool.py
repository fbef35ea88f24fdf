"""Sealed files: only the key reads them, changes are noticed, nothing half-written is ever named."""

import io
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdmri_service.errors import StorageFull
from kdmri_service.jobs.sealing import CHUNK, TAG, new_key, seal, unseal
from kdmri_service.jobs.spool import UNFINISHED, Spool

from kdmri.errors import UnreadableInput

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK)


def opened(key: bytes, sealed: bytes) -> bytes:
    return b"".join(unseal(key, io.BytesIO(sealed)))


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_comes_back(size: int) -> None:
    key, content = new_key(), bytes(range(251)) * (size // 251 + 1)
    assert opened(key, b"".join(seal(key, io.BytesIO(content[:size])))) == content[:size]


@given(st.data())
def test_every_change_is_noticed(data: st.DataObject) -> None:
    key = new_key()
    sealed = b"".join(seal(key, io.BytesIO(bytes(CHUNK + 100))))
    place = data.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[place] ^= data.draw(st.integers(1, 255))
    for changed in (bytes(flipped), sealed[:place], sealed + b"x"):
        with pytest.raises(UnreadableInput, match="changed or cut off"):
            opened(key, changed)


def test_chunks_can_not_be_left_out_or_swapped() -> None:
    key, whole = new_key(), CHUNK + TAG
    sealed = b"".join(seal(key, io.BytesIO(bytes(3 * CHUNK))))
    prefix, first, second, third = sealed[:7], sealed[7 : 7 + whole], sealed[7 + whole : -whole], sealed[-whole:]
    for changed in (prefix + first + second, prefix + first + third, prefix + second + first + third):
        with pytest.raises(UnreadableInput):
            opened(key, changed)


def test_another_key_reads_nothing() -> None:
    sealed = b"".join(seal(new_key(), io.BytesIO(b"Doe^Jane")))
    with pytest.raises(UnreadableInput):
        opened(new_key(), sealed)


def test_files_are_their_users_own_and_say_nothing(tmp_path: Path) -> None:
    spool, key = Spool(tmp_path / "spool", spare_bytes=0), new_key()
    blob = spool.write(key, io.BytesIO(b"Doe^Jane" * 1000), "application/dicom")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.name == blob.sha256
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert b"Doe" not in file.read_bytes()
    assert spool.read_file(key, blob).read() == b"Doe^Jane" * 1000
    spool.delete(blob.sha256)
    spool.delete(blob.sha256)
    assert not file.exists()


class Broken(io.BytesIO):
    """A source that fails after its first chunk."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().read(size)


def test_a_file_that_could_not_be_written_whole_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, spare_bytes=0)
    with pytest.raises(StorageFull):
        spool.write(new_key(), Broken(bytes(2 * CHUNK)), "application/dicom")
    assert spool.names(older_than_seconds=0) == []


def test_what_a_crash_left_is_listed_with_its_age(tmp_path: Path) -> None:
    spool = Spool(tmp_path, spare_bytes=0)
    (tmp_path / "blobs" / f"abc{UNFINISHED}").touch()
    assert spool.names(older_than_seconds=0) == [f"abc{UNFINISHED}"]
    assert spool.names(older_than_seconds=3600) == []


def test_a_disk_that_would_become_full_takes_no_more(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    Spool(tmp_path, spare_bytes=0).require_room(1)
    with pytest.raises(StorageFull, match="room on the disk"):
        Spool(tmp_path, spare_bytes=2 * free).require_room(1)
