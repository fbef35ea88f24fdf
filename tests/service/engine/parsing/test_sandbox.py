"""A confined process can compute and answer, and reach nothing else."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# Each line tries one way out and must end in PermissionError, or in whatever the comment says.
ESCAPES = {
    "open a file": "open('/etc/passwd')",
    "open its own programme": "open(sys.executable, 'rb')",
    "create a file": "open('/tmp/kdmri-escaped', 'w')",
    "list a folder": "os.listdir('/')",
    "read another process": "open('/proc/1/environ')",
    "remove a file": "os.unlink('/tmp/kdmri-escaped')",
    "make a folder": "os.mkdir('/tmp/kdmri-escaped')",
    "make a TCP socket": "socket.socket()",
    "make a UDP socket": "socket.socket(type=socket.SOCK_DGRAM)",
    "make a Unix socket": "socket.socket(socket.AF_UNIX)",
    "make a pair of sockets": "socket.socketpair()",
    "fork": "os.fork()",
    "execute": "os.execv('/bin/true', ['true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "signal its group": "os.kill(0, 0)",
    "have the kernel signal its parent": "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "trace its parent": "call(101, 16, os.getppid(), 0, 0)",
    "read its parent's memory": "call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "map a device": "call(16, 0, 0x5401, 0)",
    "mount": "call(165, b'x', b'/mnt', b'tmpfs', 0, 0)",
    "make a namespace": "call(272, 0x10000000)",
    "load a programme into the kernel": "call(321, 0, 0, 0)",
    "make an io_uring": "call(425, 8, 0)",
    "raise its limits": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "rename its host": "socket.sethostname('x')",
    "set the clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
}
PROGRAMME = """
import ctypes, errno, fcntl, mmap, os, resource, socket, sys, time
from kdmri_service.engine.parsing.sandbox import confine
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
held = confine(memory=2**28, answer=2**20)
if not held.complete:
    print("lacking", held.landlock, held.seccomp); sys.exit()
for way in eval(sys.argv[1]):
    try:
        eval(way)
        print("escaped")
    except (OSError, ValueError) as error:
        refused = isinstance(error, ValueError) or error.errno in (errno.EPERM, errno.EACCES)
        print("held" if refused else error)
"""


def confined(*ways: str) -> list[str]:
    """Run expressions one after the other in a confined process; returns a line for each."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAMME, repr(ways)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("lacking"):
        pytest.skip(f"this kernel has not both Landlock and seccomp: {done.stdout}")
    return done.stdout.splitlines()


def test_every_way_out_is_closed() -> None:
    ways = ESCAPES if os.uname().machine == "x86_64" else {k: v for k, v in ESCAPES.items() if "call(" not in v}
    assert dict(zip(ways, confined(*ways.values()), strict=True)) == dict.fromkeys(ways, "held")
    assert not Path("/tmp/kdmri-escaped").exists()


def test_memory_and_answers_are_bounded() -> None:
    programme = (
        PROGRAMME.partition("for way")[0]
        + """
try:
    mmap.mmap(-1, 2**29); print("escaped")
except (OSError, ValueError, MemoryError):
    print("held")
memory = os.memfd_create("x")
try:
    os.ftruncate(memory, 2**21); print("escaped")
except OSError:
    print("held")
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", programme], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["held", "held"], done.stderr


def test_open_descriptors_still_work() -> None:
    ours, theirs = socket.socketpair()
    programme = PROGRAMME.partition("for way")[0] + "os.write(int(sys.argv[1]), b'computed')"
    with ours, theirs:
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", programme, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            timeout=60,
            check=True,
        )
        assert ours.recv(64) == b"computed"
