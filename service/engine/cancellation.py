"""Cancellation of running work: a thread can't be stopped, so a cancelled request ends where its next stage begins."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from kdmri_service.errors import Cancelled

from kdmri.runtime.stages import Stage, StageName


def cancellable(stage: Stage, cancelled: threading.Event) -> Stage:
    """Return a stage that raises Cancelled on entry once the event is set."""

    # Checked on entry only: a stage that has begun is never left half done, and lasts a fraction of a second.
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
            # The work of a batch can't be split once it runs: it goes on for those who still wait.
            if len(cancellations) == len(stages):
                raise cancellations[0]
            yield

    return begin
