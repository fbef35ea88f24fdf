"""Live answers made again by the other role, on time that nobody wants: what the student costs, seen in production.

Two things keep a live request from waiting: the thread runs at the lowest priority that the system has, and before
each stage of the model it waits until the scheduler is idle. It takes models of its own, so that the threads they
start inherit that priority. Memory is bounded: one input runs, one waits, each no larger than a batch of the runtime.
"""

import contextvars
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import structlog

from kdmri.bundle import Bundle
from kdmri.records import Images, KSpace
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import BATCH_SAMPLES
from kdmri.runtime.stages import StageName
from kdmri.runtime.superresolver import BATCH_PIXELS
from service import telemetry
from service.comparison import Comparison, compare
from service.inference import Answer, Job, reconstruction, super_resolution
from service.models import Models, load_warm
from service.scheduler import Scheduler
from service.telemetry import Observation

log = structlog.get_logger()


class Stopped(Exception):
    """The service ends; a shadow run is not worth waiting for."""


@dataclass(frozen=True)
class Sample:
    """A live answer and what is needed to make it again."""

    operation: str
    job: Job
    live: Answer
    """With the slices only that `job` makes again."""
    other: Bundle


def of_reconstruction(measured: KSpace, live: Answer, other: Bundle) -> Sample:
    """The middle slices of a scan, a batch at most."""
    kept = _middle(len(measured.samples), BATCH_SAMPLES // measured.samples[0].size)
    part = _copied(measured.part(kept))
    return Sample("reconstruct", reconstruction(part), _cut(live, kept), other)


def _copied(part: KSpace) -> KSpace:
    """Arrays of its own: views would keep the whole scan in memory."""
    calibration = part.calibration and _copied(part.calibration)
    return replace(part, samples=part.samples.copy(), mask=part.mask.copy(), calibration=calibration)


def of_super_resolution(images: Images, scale: int, live: Answer, other: Bundle) -> Sample:
    """The middle slices of a series, a batch at most."""
    kept = _middle(len(images.pixels), BATCH_PIXELS // live.images.pixels[0].size)
    part = Images(images.pixels[kept].copy())
    return Sample("super_resolve", super_resolution(part, scale), _cut(live, kept), other)


def _middle(count: int, at_most: int) -> slice:
    """Up to `at_most` slices around the middle one, where there is most to see."""
    kept = min(count, max(at_most, 1))
    start = count // 2 - kept // 2
    return slice(start, start + kept)


def _cut(live: Answer, kept: slice) -> Answer:
    return replace(live, images=Images(live.images.pixels[kept].copy()))


class Shadow:
    """The low-priority slot. `rate` in [0, 1] is the share of live requests that are run again."""

    def __init__(self, models: Models, scheduler: Scheduler, *, rate: float) -> None:
        self.rate = rate
        self._models = models
        self._scheduler = scheduler
        self._room = threading.BoundedSemaphore(2)  # one runs, one waits
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=_lowest_priority)
        self._own: dict[str, Model] = {}

    def drawn(self, answer: Answer) -> Bundle | None:
        """The bundle to run a live request again with; None where it was not drawn, or has no counterpart."""
        return self._models.counterpart(answer.manifest) if random.random() < self.rate else None

    async def offer(self, sample: Callable[[], Sample]) -> None:
        """Compare when there is time; drop the sample, counted, where another one waits already.

        A coroutine, so that FastAPI calls it on the event loop once the answer is sent.
        """
        if self._stopping.is_set() or not self._room.acquire(blocking=False):
            telemetry.SHADOW_DROPPED.inc()
            return
        try:
            # In the request's context, so that log lines carry its id.
            self._thread.submit(contextvars.copy_context().run, self._run, sample())
        except BaseException:
            self._room.release()
            raise

    def close(self) -> None:
        """Stop at the next stage. The scheduler must be closed first: a run may be waiting for it to be idle."""
        self._stopping.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, sample: Sample) -> None:
        try:
            comparison, undisturbed = self._compared(sample)
            telemetry.shadowed(sample.operation, comparison, timed=undisturbed)
            figures = {"psnr_db": round(comparison.psnr_db, 2), "ssim": comparison.ssim and round(comparison.ssim, 4)}
            log.info("shadow compared", operation=sample.operation, timed=undisturbed, **figures)
        except Stopped:
            pass
        except Exception as error:
            # Named, not quoted: its message may hold what the input holds. Nobody waits for this answer.
            log.error("shadow failed", operation=sample.operation, error=type(error).__name__)
        finally:
            self._room.release()

    def _compared(self, sample: Sample) -> tuple[Comparison, bool]:
        """The comparison, and whether no live request came in between: only then does its time mean anything."""
        model = self._model(sample.other)
        stage = _Polite(self._wait)
        self._wait()
        arrived = self._scheduler.arrived
        again = sample.job.run(model, stage).pixels
        undisturbed = arrived == self._scheduler.arrived
        self._wait()
        live, seconds = sample.live, stage.model_seconds / len(again)
        answers: dict[str, tuple[Images, float]] = {
            live.manifest.role: (live.images, live.seconds),
            sample.other.manifest.role: (Images(again), seconds),
        }
        (student, student_seconds), (teacher, teacher_seconds) = answers["student"], answers["teacher"]
        comparison = compare(
            student.pixels, teacher.pixels, student_seconds=student_seconds, teacher_seconds=teacher_seconds
        )
        return comparison, undisturbed

    def _wait(self) -> None:
        self._scheduler.idle.wait()
        if self._stopping.is_set():
            raise Stopped

    def _model(self, bundle: Bundle) -> Model:
        reference = bundle.manifest.reference
        if reference not in self._own:
            self._wait()
            self._own[reference] = load_warm(bundle, device=self._models.device, threads=self._models.threads)
        return self._own[reference]


class _Polite(Observation):
    """Times stages, and waits before each."""

    def __init__(self, wait: Callable[[], None]) -> None:
        super().__init__()
        self._wait = wait

    @contextmanager
    def __call__(self, stage: StageName) -> Iterator[None]:
        """Time spent inside belongs to `stage`, time waited to none."""
        self._wait()
        with super().__call__(stage):
            yield


def _lowest_priority() -> None:
    """This thread, and threads it starts, run when no other wants to. Linux; elsewhere waiting must do."""
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
