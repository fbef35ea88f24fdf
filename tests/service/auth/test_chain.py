"""A chain shows each line that was changed, removed, moved or cut, across writers and rotations."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdmri_service.auth.chain import GENESIS, Break, Head, append, find, head_file, verify

LINES = 6


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A chain of some lines."""
    path = tmp_path / "audit.jsonl"
    for number in range(LINES):
        append(path, {"status": 200 + number})
    return path


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file with their ends."""
    return path.read_bytes().splitlines(keepends=True)


def test_a_chain_as_it_was_written_holds(trail: Path) -> None:
    end = verify([trail])
    assert isinstance(end, Head)
    assert end.sequence == LINES
    assert GENESIS.encode() in lines_of(trail)[0]
    assert find([trail], end.digest)
    assert not find([trail], GENESIS)


def test_only_the_owner_can_read_it(trail: Path) -> None:
    assert [stat.S_IMODE(file.stat().st_mode) for file in (trail, head_file(trail))] == [0o600, 0o600]


@pytest.mark.parametrize("number", range(LINES))
def test_a_changed_line_is_found(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    lines[number] = lines[number].replace(b'"status":2', b'"status":5')
    trail.write_bytes(b"".join(lines))
    found = verify([trail])
    assert isinstance(found, Break)
    # The line after it holds the hash of what it was; for the last one the head does.
    assert found.line == min(number + 2, LINES)


@pytest.mark.parametrize("number", range(LINES))
def test_a_removed_line_is_found(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    trail.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    # Without its first line a file could be the rest of a rotated chain, which its owner knows: `contains` tells.
    assert isinstance(verify([trail]), Break) or (number == 0 and b'"sequence":2' in lines_of(trail)[0])


@pytest.mark.parametrize("number", range(LINES - 1))
def test_swapped_lines_are_found(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
    trail.write_bytes(b"".join(lines))
    assert isinstance(verify([trail]), Break)


@given(st.integers(min_value=1, max_value=10**6))
def test_a_file_cut_short_anywhere_is_found(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        for number in range(3):
            append(path, {"status": number})
        os.truncate(path, max(0, path.stat().st_size - 1 - cut % path.stat().st_size))
        assert isinstance(verify([path]), Break)


def test_lines_written_after_damage_do_not_hide_it(trail: Path) -> None:
    os.truncate(trail, trail.stat().st_size - 40)
    append(trail, {"status": 1})
    assert isinstance(verify([trail]), Break)


def test_rotation_keeps_the_chain(trail: Path) -> None:
    rotated = trail.rename(trail.with_suffix(".1"))
    append(trail, {"status": 1})
    append(trail, {"status": 2})
    end = verify([rotated, trail])
    assert isinstance(end, Head)
    assert end.sequence == LINES + 2
    # The current file alone holds, too, for older ones may have been removed after their time.
    assert verify([trail]) == end
    assert isinstance(verify([trail, rotated]), Break)


def test_a_rotated_file_that_lost_its_end_is_found(trail: Path) -> None:
    rotated = trail.rename(trail.with_suffix(".1"))
    append(trail, {"status": 1})
    rotated.write_bytes(b"".join(lines_of(rotated)[:-1]))
    assert isinstance(verify([rotated, trail]), Break)


def test_a_writer_that_was_killed_before_it_noted_the_head_breaks_nothing(trail: Path) -> None:
    before = head_file(trail).read_bytes()
    append(trail, {"status": 1})
    head_file(trail).write_bytes(before)
    assert isinstance(verify([trail]), Head)
    append(trail, {"status": 2})
    end = verify([trail])
    assert isinstance(end, Head)
    assert end.sequence == LINES + 2


def test_a_damaged_head_is_no_new_beginning(trail: Path) -> None:
    head_file(trail).write_bytes(b"0")
    assert isinstance(verify([trail]), Break)
    with pytest.raises(OSError, match="expected the head"):
        append(trail, {"status": 1})


WRITER = """
import sys
from pathlib import Path
from kdmri_service.auth.chain import append
for number in range(100):
    append(Path(sys.argv[1]), {"writer": sys.argv[2], "status": number})
"""


def test_several_processes_extend_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(number)]) for number in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    end = verify([path])
    assert isinstance(end, Head)
    assert end.sequence == 300


FULL = """
import resource, signal, sys
from pathlib import Path
from kdmri_service.auth.chain import append
path = Path(sys.argv[1])
# A limit on the size of files has the kernel take a part of the line, as a full disk does.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, resource.RLIM_INFINITY))
try:
    append(path, {"status": 1})
except OSError:
    sys.exit(7)
"""


def test_a_line_that_does_not_fit_leaves_the_chain_as_it_was(trail: Path) -> None:
    before = trail.read_bytes()
    assert subprocess.run([sys.executable, "-c", FULL, trail], check=False, timeout=60).returncode == 7
    assert trail.read_bytes() == before
    append(trail, {"status": 2})
    assert isinstance(verify([trail]), Head)


def test_core_dumps_are_off() -> None:
    code = (
        "import resource; from kdmri_service.processes import disable_core_dumps\n"
        "disable_core_dumps(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str((0, 0))
