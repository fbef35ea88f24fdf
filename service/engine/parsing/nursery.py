"""The process that forks parser workers: it has imported every reader, and never sees an upload itself.

Run as `python -m kdmri_service.engine.parsing.nursery FD MEMORY ANSWER` by `pool`. A fork of it is ready in
milliseconds, where a new interpreter takes seconds for its imports. It is told one word at a time: `fork`, with the
worker's end of a connection, is answered by a pidfd, by which the service can kill exactly this worker; `reap PID` by
how the worker ended.
"""

import importlib
import os
import pkgutil
import signal
import socket
import sys
from contextlib import suppress

PACKAGES = (
    "kdmri.formats",
    "kdmri.operations",
    "encodings",
    "ismrmrd",
    "libjpeg",
    "numpy.fft",
    "numpy.lib",
    "numpy.linalg",
    "numpy.ma",
    "numpy.polynomial",
    "numpy.random",
    "openjpeg",
    "pydicom",
    "pylibjpeg",
    "rle",
)
"""Packages of which every module is imported before the first fork."""
MODULES = ("_strptime", "bz2", "decimal", "hashlib", "lzma", "numpy.char", "numpy.rec", "numpy.strings", "zoneinfo")
"""Modules that the standard library and numpy import on first use."""
LEFT_OUT = ("test", "cli", "__main__", "examples", "encodings.mbcs", "encodings.oem")
"""Parts of module names that no reader needs."""
WORD = 64
"""Bytes of the longest word, `reap` with a process id."""


def main(descriptor: int, memory: int, answer: int) -> None:
    """Fork workers for the service until it closes the connection, or ends.

    Args:
        descriptor: The nursery's end of the connection to the service.
        memory: Bytes that reading may take in a worker.
        answer: Bytes that a worker's answer may have.
    """
    # It ends with the service because its connection closes. The kernel's parent-death signal would not do: it follows
    # the thread that started this process, and a thread of a pool may end long before the service.
    # An interrupt at the terminal reaches every process of the group; the service decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import_readers()
    from kdmri_service.engine.parsing import worker

    control = socket.socket(fileno=descriptor)
    control.send(b"ready")
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, WORD, 1)
        if word == b"fork":
            connection = socket.socket(fileno=descriptors[0])
            nursery = os.getpid()
            # This process has one thread, so that no lock can be held by another one in the fork.
            if (child := os.fork()) == 0:
                control.close()
                with suppress(BrokenPipeError, ConnectionResetError):
                    worker.serve(connection, nursery, memory=memory, answer=answer)
                # Not sys.exit: a worker must not run the handlers that the nursery has registered for its own end.
                os._exit(0)
            connection.close()
            handle = os.pidfd_open(child)
            socket.send_fds(control, [str(child).encode()], [handle])
            os.close(handle)
        elif word.startswith(b"reap "):
            try:
                _, status = os.waitpid(int(word[5:]), 0)
                control.send(str(os.waitstatus_to_exitcode(status)).encode())
            except ChildProcessError:
                # A child of a nursery before this one: it ended with that, and how is not known.
                control.send(b"unknown")
        else:
            return


def import_readers() -> None:
    """Import all that reading may need, for a worker can open no file: modules, codecs, tables."""
    import torch

    # A worker has no right to start threads, and a fork would not inherit them.
    torch.set_num_threads(1)
    torch.fft.fft2(torch.zeros(8, 8, dtype=torch.complex64))
    for name in MODULES:
        importlib.import_module(name)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}.", onerror=lambda _: None):
            if not any(part in module.name for part in LEFT_OUT):
                # Optional parts of libraries fail to import where their own dependencies are missing.
                with suppress(Exception):
                    importlib.import_module(module.name)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
