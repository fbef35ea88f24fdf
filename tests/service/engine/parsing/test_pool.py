"""An upload is read by a worker as it would be here, and a hostile one costs its own request alone."""

import asyncio
import errno
import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from kdmri_service.engine.parsing.pool import Nursery, ParserLimits, ParserPool, Worker
from kdmri_service.errors import Overloaded
from pydicom.data import get_testdata_file

from kdmri.errors import InvalidRequest, KdmriError, UnreadableInput, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import fastmri
from kdmri.operations import Operation, Reconstruct, SuperResolve
from kdmri.operations.operation import Input, Limits, SourceFile
from kdmri.phantoms import phantom, scan
from tests.shared_data import DATA

HOSTILE = Path(__file__).parents[5] / "shared" / "cases" / "hostile"


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    """Two workers."""
    pool = ParserPool(2, ParserLimits(seconds=2, memory=2**30, answer=2**29))
    pool.start()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def kspace(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One slice of 64 x 80 of one coil, in fastMRI layout."""
    path = tmp_path_factory.mktemp("kspace") / "scan.h5"
    fastmri.write(path, scan(phantom(64, 80), acceleration=4))
    return path.read_bytes()


def parse(pool: ParserPool, operation: Operation, *contents: bytes, client: str = "somebody") -> Input:
    """Have the pool parse files."""
    files = [SourceFile(io.BytesIO(content)) for content in contents]
    return asyncio.run(pool.parse(operation, files, Limits(2**29), client=client))


def here(operation: Operation, *contents: bytes) -> Input:
    """Parse files in this process."""
    with operation.parse([SourceFile(io.BytesIO(content)) for content in contents], Limits(2**29)) as source:
        return operation.from_records(source.records)


def test_a_scan_is_read_as_it_is_here(pool: ParserPool, kspace: bytes) -> None:
    there, own = parse(pool, Reconstruct(coils=3), kspace), here(Reconstruct(coils=3), kspace)
    assert there.jobs[0].batch_key == own.jobs[0].batch_key
    assert there.notes == own.notes
    (record,), (expected,) = there.records, own.records
    np.testing.assert_array_equal(record.samples, expected.samples)  # type: ignore[union-attr]
    np.testing.assert_array_equal(record.mask, expected.mask)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_every_encoding_is_read_as_it_is_here(pool: ParserPool, name: str) -> None:
    content = Path(str(get_testdata_file(name))).read_bytes()
    (there,), (own,) = parse(pool, SuperResolve(), content).records, here(SuperResolve(), content).records
    np.testing.assert_array_equal(there.images.pixels, own.images.pixels)  # type: ignore[union-attr]
    assert there.headers == own.headers  # type: ignore[union-attr]
    assert there.headers[0].file_meta == own.headers[0].file_meta  # type: ignore[union-attr]


@pytest.mark.parametrize("file", sorted((DATA / "kspace").glob("*.h5")), ids=lambda file: file.name)
def test_real_scans_need_no_module_that_a_worker_lacks(pool: ParserPool, file: Path) -> None:
    content = file.read_bytes()
    (there,), (own,) = parse(pool, Reconstruct(), content).records, here(Reconstruct(), content).records
    np.testing.assert_array_equal(there.samples, own.samples)  # type: ignore[union-attr]


@pytest.mark.parametrize("file", sorted((DATA / "dicom").glob("*/*.dcm"))[::9], ids=lambda file: file.name)
def test_real_series_need_no_module_that_a_worker_lacks(pool: ParserPool, file: Path) -> None:
    content = file.read_bytes()
    there, own = parse(pool, SuperResolve(), content), here(SuperResolve(), content)
    assert [record.headers for record in there.records] == [record.headers for record in own.records]  # type: ignore[union-attr]


def test_errors_are_those_of_the_reader(pool: ParserPool, kspace: bytes) -> None:
    with pytest.raises(UnreadableKSpace, match="expected an HDF5 file, got 10 bytes"):
        parse(pool, Reconstruct(), b"no k-space")
    with pytest.raises(InvalidRequest, match="expected one k-space file, got 2"):
        parse(pool, Reconstruct(), kspace, kspace)


HOSTILE_FILES = {file.name: file for file in sorted(HOSTILE.glob("*.*")) if file.suffix in (".h5", ".dcm", ".zip")}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_harms_nobody_else(pool: ParserPool, kspace: bytes, name: str) -> None:
    content = HOSTILE_FILES[name].read_bytes()
    operation = SuperResolve() if content[:2] == b"PK" or content[128:132] == b"DICM" else Reconstruct()

    async def both() -> tuple[object, object]:
        return tuple(
            await asyncio.gather(
                pool.parse(operation, [SourceFile(io.BytesIO(content))], Limits(2**29), client=name),
                pool.parse(Reconstruct(), [SourceFile(io.BytesIO(kspace))], Limits(2**29), client="good"),
                return_exceptions=True,
            )
        )

    hostile, good = asyncio.run(both())
    assert isinstance(hostile, Input | KdmriError), hostile
    assert isinstance(good, Input)


def test_a_worker_that_was_killed_from_outside_costs_no_request(pool: ParserPool, kspace: bytes) -> None:
    for worker in pool._idle:
        os.kill(worker.process, signal.SIGKILL)
    assert parse(pool, Reconstruct(), kspace).jobs


def test_a_nursery_that_was_killed_is_started_again(pool: ParserPool, kspace: bytes) -> None:
    process = pool._nursery._process
    assert process is not None
    process.kill()
    process.wait()

    async def at_once() -> list[Input]:
        """Use all workers, those that ended with the nursery too."""
        uploads = [[SourceFile(io.BytesIO(kspace))] for _ in range(4)]
        return await asyncio.gather(
            *(pool.parse(Reconstruct(), upload, Limits(2**29), client=str(n)) for n, upload in enumerate(uploads))
        )

    assert all(source.jobs for source in asyncio.run(at_once()))
    # One start is enough: the nursery that was started then is still the same.
    started = pool._nursery._process
    assert all(source.jobs for source in asyncio.run(at_once()))
    assert pool._nursery._process is started


def test_a_machine_out_of_processes_answers_later_and_recovers(
    pool: ParserPool, kspace: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Nursery) -> Worker:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(Nursery, "fork", refuse)
        for worker in list(pool._idle):
            signal.pidfd_send_signal(worker.handle, signal.SIGKILL)
            # A killed process may still take a request for a moment. Its pidfd becomes readable when it has ended.
            select.select([worker.handle], [], [])
        for _ in range(3):
            with pytest.raises(Overloaded, match="try later"):
                parse(pool, Reconstruct(), kspace)
    for _ in range(3):
        assert parse(pool, Reconstruct(), kspace).jobs


def test_memory_is_bounded(pool: ParserPool) -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        # Without a value written to it a chunk has no place in the file: 1.3 GB of zeros in a kilobyte.
        file.create_dataset("kspace", shape=(40, 4, 1024, 1024), dtype=np.complex64, chunks=(1, 1, 1024, 1024))
    with pytest.raises((UnsupportedInput, UnreadableInput)):
        parse(pool, Reconstruct(), buffer.getvalue())


@pytest.mark.parametrize("death", [lambda p: p.kill(), lambda p: p.terminate()], ids=["killed", "terminated"])
def test_workers_end_with_the_service(death: Callable[..., Awaitable[None]]) -> None:
    code = (
        "from kdmri_service.engine.parsing.pool import ParserPool, ParserLimits\n"
        "pool = ParserPool(2, ParserLimits(memory=2**28)); pool.start()\n"
        "print(pool._nursery._process.pid, *[w.process for w in pool._idle], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        processes = [int(number) for number in service.stdout.readline().split()]
        assert len(processes) == 3
        handles = [os.pidfd_open(number) for number in processes]
        death(service)
        for handle in handles:
            assert select.select([handle], [], [], 30)[0], "a process outlived the service"
            os.close(handle)
