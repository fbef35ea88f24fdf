"""Cancellation of running work: a thread can't be stopped, so a cancelled request ends where its next stage begins."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from kdmri_service.errors import Cancelled

from kdmri.runtime.stages import Stage, StageName


def cancellable(stage: Stage, cancelled: threading.Event) -> Stage:
    """Return a stage that raises Cancelled on entry once the event is set."""

    def begin(name: StageName) -> AbstractContextManager[None]:
        if cancelled.is_set():
            raise Cancelled("expected the client to wait for its answer, it disconnected")
        return stage(name)

    return begin


def combine(stages: Sequence[Stage]) -> Stage:
    """Return one stage for a batch of requests; it goes on until all of them are cancelled, and raises then."""

    @contextmanager
    def begin(name: StageName) -> Iterator[None]:
        with ExitStack() as entered:
            cancellations: list[Cancelled] = []
            for stage in stages:
                try:
                    entered.enter_context(stage(name))
                except Cancelled as error:
                    cancellations.append(error)
            if len(cancellations) == len(stages):
                raise cancellations[0]
            yield

    return begin
