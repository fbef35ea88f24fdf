"""Packed k-space and streams are read inside the sandbox as they are outside: nothing they need is opened later."""

import gzip
import io
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from kdmri_service.engine.parsing.pool import ParserLimits, ParserPool

from kdmri.data.kspace import KSpace
from kdmri.errors import UnreadableKSpace, UnsupportedInput
from kdmri.operations import Reconstruct
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile
from tests.formats.kspace.test_packed import bart, npy, zipped
from tests.formats.kspace.test_stream import serialize
from tests.service.engine.parsing.test_pool import parse

FULL = scan(phantom(40, 36), coils=3)


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    """Return one worker, whose time leaves room for a busy machine."""
    pool = ParserPool(1, ParserLimits(seconds=60, memory=2**30, answer=2**29))
    pool.start()
    yield pool
    pool.close()


def uploads() -> dict[str, bytes]:
    cfl, hdr = bart(FULL.samples)
    return {
        "npy": npy(FULL.samples),
        "npy in gzip": gzip.compress(npy(FULL.samples)),
        "npz": zipped(kspace__npy=npy(FULL.samples), mask__npy=npy(np.ones(36, bool))),
        "bart": zipped(scan__cfl=cfl, scan__hdr=hdr),
        "stream": serialize(MrdFile.of(FULL)),
    }


@pytest.mark.parametrize("kind", uploads())
def test_packed_k_space_is_read_inside_the_sandbox(pool: ParserPool, kind: str) -> None:
    (record,) = parse(pool, Reconstruct(), uploads()[kind]).records
    assert isinstance(record, KSpace)
    np.testing.assert_array_equal(record.samples, FULL.samples)


def test_bombs_and_damage_are_refused_inside_the_sandbox(pool: ParserPool) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("scan.h5", "w") as member:
        for _ in range(600):
            member.write(bytes(2**20))
    with pytest.raises(UnsupportedInput, match="at most 536870912 bytes unpacked"):
        parse(pool, Reconstruct(), stream.getvalue())
    with pytest.raises(UnreadableKSpace, match="header can't be read"):
        parse(pool, Reconstruct(), b"\x93NUMPY\x01\x00\x10\x00{'descr': evil()}")
