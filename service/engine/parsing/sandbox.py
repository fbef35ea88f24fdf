"""Confinement of a process to computing: no files, no network, no other processes, bounded memory.

Three mechanisms of Linux, none of which needs a privilege: resource limits (getrlimit(2)), Landlock for files and
network (landlock(7)), and a seccomp filter that allows only the system calls that reading a file from an open
descriptor needs (seccomp(2)). They are called by ctypes, because PyPI's `landlock` is a pre-release and `pyseccomp`
needs a shared library that slim images lack. Where a kernel lacks one, `Confinement` says so.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from dataclasses import dataclass
from pathlib import Path

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
SECCOMP_MODE_FILTER = 2
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
# Rights by the Landlock version that introduced them (landlock(7)): every right that the kernel knows is taken away.
FILE_RIGHTS = {1: 2**13 - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
NETWORK_RIGHTS = {4: 0b11}
SCOPES = {6: 0b11}
"""Abstract Unix sockets and signals to processes outside."""

# System calls that reading, computing and answering on open descriptors need, by architecture. There is no call among
# them that names a file, makes a socket or a process, or reaches another process: fcntl is missing because F_SETOWN
# makes the kernel signal any process of the same user, and clone because a thread could outlive a request.
SYSTEM_CALLS = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
        "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18,
        "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39,
        "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "exit": 60, "ftruncate": 77, "gettimeofday": 96,
        "getrlimit": 97, "getrusage": 98, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
        "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
        "newfstatat": 262, "ppoll": 271, "getrandom": 318, "memfd_create": 319, "rseq": 334,
    },
    "aarch64": {
        "read": 63, "write": 64, "close": 57, "fstat": 80, "lseek": 62, "mmap": 222, "mprotect": 226, "munmap": 215,
        "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "pread64": 67, "pwrite64": 68,
        "readv": 65, "writev": 66, "sched_yield": 124, "mremap": 216, "madvise": 233, "nanosleep": 101, "getpid": 172,
        "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "exit": 93, "ftruncate": 46,
        "gettimeofday": 169, "getrlimit": 163, "getrusage": 165, "sigaltstack": 132, "gettid": 178, "futex": 98,
        "sched_getaffinity": 123, "restart_syscall": 128, "clock_gettime": 113, "clock_getres": 114,
        "clock_nanosleep": 115, "exit_group": 94, "newfstatat": 79, "ppoll": 73, "getrandom": 278,
        "memfd_create": 279, "rseq": 293,
    },
}  # fmt: skip
# Numbers of system calls differ between architectures: the filter kills a call by any other (linux/audit.h).
AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Classic BPF, as seccomp takes it: load a word, compare, return (linux/filter.h, linux/seccomp.h).
LOAD_WORD, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x15, 0x35, 0x06
OFFSET_OF_CALL, OFFSET_OF_ARCHITECTURE = 0, 4
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
X32_CALLS = 0x40000000


@dataclass(frozen=True)
class Confinement:
    """The mechanisms that hold this process."""

    landlock: int
    """Version of Landlock in force, 0 where the kernel has none."""
    seccomp: bool

    @property
    def complete(self) -> bool:
        """True if files, network and other processes are out of reach."""
        return self.landlock > 0 and self.seccomp


def confine(*, memory: int, answer: int, descriptors: int = 64) -> Confinement:
    """Confine this process, for good.

    Args:
        memory: Bytes of address space that it may take beyond what it has mapped now.
        answer: Bytes that a file (or a memory file) written by it may have.
        descriptors: Open descriptors that it may have.

    Returns:
        The mechanisms that the kernel offers; the limits on memory and files hold in any case.
    """
    # No core file: it would hold the upload.
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, mapped_bytes() + memory)
    _limit(resource.RLIMIT_FSIZE, answer)
    _limit(resource.RLIMIT_NOFILE, descriptors)
    libc = ctypes.CDLL(None, use_errno=True)
    # Not dumpable: no core file, and /proc/<pid>/mem is closed to other processes of this user.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Without this promise the kernel takes neither a ruleset nor a filter from a process that is not privileged.
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Confinement(landlock=0, seccomp=False)
    landlock = _restrict_files(libc)
    return Confinement(landlock=landlock, seccomp=_filter_system_calls(libc))


def mapped_bytes() -> int:
    """Return the size of this process's address space in bytes (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit(kind: int, value: int) -> None:
    """Lower a resource limit for good; one that is lower already stays."""
    # A process without privileges may lower its hard limit but never raise it.
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _restrict_files(libc: ctypes.CDLL) -> int:
    """Take away every right to files and network that Landlock knows; returns its version, 0 without it."""
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return 0
    rights = [
        sum(bits for since, bits in known.items() if since <= version)
        for known in (FILE_RIGHTS, NETWORK_RIGHTS, SCOPES)
    ]
    # A kernel refuses a structure that is longer than its own only where the rest is not zero; older ones get less.
    ruleset = struct.pack("=QQQ", *rights)[: 8 if version < 4 else 16 if version < 6 else 24]
    descriptor = libc.syscall(LANDLOCK_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    if descriptor < 0:
        return 0
    held = libc.syscall(LANDLOCK_RESTRICT_SELF, descriptor, 0) == 0
    os.close(descriptor)
    return version if held else 0


def _filter_system_calls(libc: ctypes.CDLL) -> bool:
    """Refuse (EPERM) every system call that is not in `SYSTEM_CALLS`; returns whether the filter is in force."""
    machine = platform.machine()
    if machine not in SYSTEM_CALLS:
        return False
    program = _program(AUDIT_ARCHITECTURE[machine], sorted(SYSTEM_CALLS[machine].values()))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and where they are.
    header = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code))
    return int(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)) == 0


def _program(architecture: int, allowed: list[int]) -> bytes:
    """Assemble the filter: kill what comes by another architecture, allow what is listed, refuse the rest."""
    code = [
        (LOAD_WORD, 0, 0, OFFSET_OF_ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD_WORD, 0, 0, OFFSET_OF_CALL),
        # On x86-64 the x32 calls share the architecture and have other numbers.
        (JUMP_GREATER_EQUAL, len(allowed), 0, X32_CALLS),
        *((JUMP_EQUAL, len(allowed) - place, 0, number) for place, number in enumerate(allowed)),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
