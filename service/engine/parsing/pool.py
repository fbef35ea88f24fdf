"""Warm parser workers: an upload goes to one of them, arrays come back.

A worker that ends, overruns its time or lies costs its own request one error; a fork of the nursery takes its place in
milliseconds. Processor time is bounded rather than time on the clock, so that a busy machine refuses no honest file;
time on the clock has a wider bound against a worker that waits for nothing.
"""

import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import structlog
from anyio.to_thread import run_sync
from kdmri_service.engine.parsing.messages import BrokenMessage, Json, Message, SenderEnded, receive, send
from kdmri_service.engine.parsing.sandbox import Confinement
from kdmri_service.engine.parsing.turns import FairTurns
from kdmri_service.engine.parsing.worker import error_named
from kdmri_service.errors import Overloaded
from kdmri_service.observability import metrics
from kdmri_service.storage import temporary_storage
from pydantic import JsonValue

from kdmri.errors import UnreadableInput
from kdmri.operations import OPERATIONS, Operation
from kdmri.operations.operation import Input, Limits, SourceFile
from kdmri.operations.packing import unpack

log = structlog.get_logger()

INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""Environment variables that the nursery gets: no other, for the rest may hold secrets."""
# Workers may not start threads (sandbox.SYSTEM_CALLS), and the service's cores are for inference.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
START_SECONDS = 120
"""Longest time that the nursery's imports may take on a busy machine: torch alone takes seconds."""
IN_MEMORY = 2**26
"""Bytes of an upload that are gathered in memory rather than in a temporary file."""
BYTES_PER_SECOND = 8 * 2**20
"""Each further so many bytes of an upload may take a second more: the slowest legal files are compressed JPEGs."""
PATIENCE = 4
"""Bound on the time on the clock, in multiples of the bound on processor time."""
WAITING = 256
"""Uploads that may wait for a worker."""
TICKS = os.sysconf("SC_CLK_TCK")
"""Units of processor time per second in /proc/<pid>/stat."""


@dataclass(frozen=True)
class ParserLimits:
    """Bounds on the reading of one upload."""

    seconds: int = 2
    """Processor time, for a small upload."""
    memory: int = 2**31
    """Bytes of memory, beyond what a worker has mapped before it reads."""
    answer: int = 2**31
    """Bytes of the arrays and headers that are read."""


@dataclass(eq=False)
class Worker:
    """A parser process."""

    connection: socket.socket
    process: int
    handle: int
    """A pidfd: it names this process for ever, whereas its number may be given to another one."""
    confinement: Confinement

    def is_running(self) -> bool:
        """Return whether the process has not ended: a pidfd can be read once it has (pidfd_open(2))."""
        # poll(2), not select(2), which knows no descriptor above 1023: a busy service has more.
        poller = select.poll()
        poller.register(self.handle, select.POLLIN)
        return not poller.poll(0)

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used (proc(5), stat fields 14 and 15)."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class WorkerEnded(Exception):
    """A worker ended, overran or lied while it read a file; the text says how, in one word for the metrics."""


@dataclass
class Nursery:
    """The process that workers are forked from, restarted if it ends."""

    limits: ParserLimits
    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fork(self) -> Worker:
        """Return a new worker. Raises OSError where none can be started."""
        with self._lock:
            try:
                return self._fork()
            except (OSError, BrokenMessage):
                # The nursery has ended, or was never started; one that can't be started raises OSError to the caller.
                self._start()
                return self._fork()

    def reap(self, worker: Worker) -> int | None:
        """Kill a worker, and return its exit code, negative for a signal; None if the nursery has ended, too."""
        with self._lock, suppress(OSError, ValueError):
            # By pidfd: the number of a worker that has ended may belong to another process by now.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker.handle, signal.SIGKILL)
            if self._control is not None:
                self._control.send(f"reap {worker.process}".encode())
                return int(self._control.recv(64))
        return None

    def close(self) -> None:
        """End the nursery, and with it every worker."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _start(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_SECONDS)
        with theirs:
            numbers = (theirs.fileno(), self.limits.memory, self.limits.answer)
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "kdmri_service.engine.parsing.nursery", *map(str, numbers)],
                pass_fds=[theirs.fileno()],
                env={name: os.environ[name] for name in INHERITED if name in os.environ} | ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        if self._control.recv(64) != b"ready":
            raise OSError("expected the parser nursery to start, it ended")

    def _fork(self) -> Worker:
        if self._control is None:
            raise OSError("the nursery has not been started")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            number, handles, _, _ = socket.recv_fds(self._control, 64, 1)
        if not handles:
            raise OSError("expected a parser worker, the nursery ended")
        ours.settimeout(START_SECONDS)
        hello, _ = receive(ours, limit=2**16)
        held = cast(dict[str, int], hello.data)
        return Worker(ours, int(number), handles[0], Confinement(held["landlock"], bool(held["seccomp"])))


class ParserPool:
    """Workers for all requests of a service process."""

    def __init__(self, size: int, limits: ParserLimits = ParserLimits()) -> None:
        self._limits = limits
        self._nursery = Nursery(limits)
        self._idle: list[Worker] = []
        self._size = size
        self._turns = FairTurns(size, capacity=WAITING)

    def start(self) -> Confinement:
        """Start all workers and return what confines them. It takes seconds, and blocks."""
        self._idle = [self._nursery.fork() for _ in range(self._size)]
        return self._idle[0].confinement

    def close(self) -> None:
        """End all workers."""
        self._nursery.close()
        for worker in self._idle:
            _forget(worker)
        self._idle.clear()

    def knows(self, operation: Operation) -> bool:
        """Return whether workers can parse this operation: they have the operations that kdmri ships."""
        return type(operation) in OPERATIONS

    async def parse(self, operation: Operation, files: Sequence[SourceFile], limits: Limits, *, client: str) -> Input:
        """Have a worker parse the files of a request.

        Args:
            operation: The operation with its parameters.
            files: Open files.
            limits: Bounds that the operation itself observes.
            client: Whose request this is, for a fair share.

        Returns:
            The parsed input, in memory.

        Raises:
            Overloaded: Too many uploads wait for a worker.
            KdmriError: What the operation raises, and UnreadableInput where reading ended the worker.
        """
        async with self._turns.turn(client):
            try:
                return await run_sync(self._parse, operation, files, limits)
            except WorkerEnded as ended:
                self._turns.strike(client)
                metrics.PARSERS_ENDED.labels(str(ended)).inc()
                log.warning("a parser worker ended while it read an upload", reason=str(ended))
                raise UnreadableInput(
                    f"expected a file that can be read within {self._limits.seconds} s and "
                    f"{self._limits.memory >> 20} MiB, reading it ended by: {ended}"
                ) from None

    def _parse(self, operation: Operation, files: Sequence[SourceFile], limits: Limits) -> Input:
        with temporary_storage():
            places, upload = _gather(files)
        request = Message(
            {
                "operation": operation.name,
                "parameters": operation.model_dump(),
                "files": cast(Json, places),
                "limits": vars(limits),
            }
        )
        size = sum(size for _, size, _ in places)
        try:
            answer = self._exchange(request, upload, self._limits.seconds + size // BYTES_PER_SECOND)
        finally:
            os.close(upload)
        data = cast(dict[str, Json], answer.data) if isinstance(answer.data, dict) else {}
        if "error" in data:
            raise error_named(data["error"], data.get("detail"))
        return operation.from_records(unpack(cast(JsonValue, data.get("records")), answer.arrays))

    def _exchange(self, request: Message, upload: int, seconds: int) -> Message:
        """Send a request to an idle worker and wait for its answer; a worker that fails is replaced.

        A worker that somebody else killed, such as the kernel for want of memory, is no verdict on the file: another
        one reads it, once.

        Args:
            request: Operation, parameters and the places of the files in the upload.
            upload: Descriptor of the upload, open for reading only.
            seconds: Processor time that reading may take.

        Raises:
            WorkerEnded: Reading the file ended the worker.
        """
        try:
            return self._ask(request, upload, seconds)
        except WorkerEnded as ended:
            if str(ended) != "killed":
                raise
            return self._ask(request, upload, seconds)

    def _ask(self, request: Message, upload: int, seconds: int) -> Message:
        worker = self._take()
        try:
            # The kernel's limit counts from the start of the process, which may have read other files before.
            used = worker.cpu_seconds()
            resource.prlimit(worker.process, resource.RLIMIT_CPU, (int(used) + seconds + 1, resource.RLIM_INFINITY))
            worker.connection.settimeout(PATIENCE * seconds)
            send(worker.connection, request, [upload])
            answer, extra = receive(worker.connection, limit=self._limits.answer)
            for descriptor in extra:
                os.close(descriptor)
        except (OSError, BrokenMessage) as failure:
            reason = self._replace(worker, failure)
            raise WorkerEnded(reason) from None
        except BaseException:
            # The worker may be at any point of its work, and its next answer would be one to this request.
            self._replace(worker, None)
            raise
        self._idle.append(worker)
        return answer

    def _take(self) -> Worker:
        """Take an idle worker, or a new one if all have ended. Turns are as many as workers.

        Raises:
            Overloaded: No worker is idle, and none can be started.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.is_running():
                return worker
            # It ended while it was idle: with the nursery, or for want of memory.
            self._nursery.reap(worker)
            _forget(worker)
        try:
            return self._nursery.fork()
        except (OSError, BrokenMessage) as error:
            raise Overloaded("expected a process to read the upload, none can be started now: try later") from error

    def _replace(self, worker: Worker, failure: Exception | None) -> str:
        """End a worker, start another one in its place, and return the reason in one word."""
        code = self._nursery.reap(worker)
        _forget(worker)
        # Where no process can be started now, the next request tries again: `_take`.
        with suppress(OSError, BrokenMessage):
            self._idle.append(self._nursery.fork())
        if isinstance(failure, TimeoutError) or code == -signal.SIGXCPU:
            return "time"
        # A worker that sent nonsense was alive until `reap` killed it; one whose connection closed was not.
        ended_by_itself = isinstance(failure, SenderEnded | ConnectionError)
        return "killed" if code is None or (code == -signal.SIGKILL and ended_by_itself) else "crash"


def _forget(worker: Worker) -> None:
    # Both descriptors of a worker are the service's own; a busy service would run out of them.
    worker.connection.close()
    with suppress(OSError):
        os.close(worker.handle)


def _new_upload(size: int) -> BinaryIO:
    """Return an empty file for an upload: in memory for one of usual size, else in the temporary folder."""
    if size <= IN_MEMORY:
        return os.fdopen(os.memfd_create("kdmri-upload", os.MFD_CLOEXEC), "wb")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _gather(files: Sequence[SourceFile]) -> tuple[list[tuple[int, int, str]], int]:
    """Put the files of a request behind one read-only descriptor.

    Returns:
        Offset, size and media type of each file, and the descriptor, which the caller has to close.
    """
    # One descriptor for all files: a worker may have few open, and a message carries at most MAX_DESCRIPTORS.
    contents = [source.file.open("rb") if isinstance(source.file, Path) else source.file for source in files]
    sizes = [content.seek(0, os.SEEK_END) for content in contents]
    places, start = [], 0
    with _new_upload(sum(sizes)) as target:
        for source, content, size in zip(files, contents, sizes, strict=True):
            content.seek(0)
            shutil.copyfileobj(content, target, 2**20)
            content.seek(0)
            places.append((start, size, source.media_type))
            start += size
        target.flush()
        # Opened anew, for reading only: a descriptor's rights go with it to the worker.
        return places, os.open(f"/proc/self/fd/{target.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
