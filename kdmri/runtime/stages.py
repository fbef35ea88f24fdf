"""Stages of the work: the runtime announces them to its caller, without knowing who measures them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal

# The names are labels of metrics, entries of Server-Timing and spans of traces: renaming one breaks dashboards.
StageName = Literal["parse", "queue", "sensitivities", "denoise", "data_consistency", "predict", "encode"]
# A stage may be entered several times, by one cascade or batch after the other: its times add up.
Stage = Callable[[StageName], AbstractContextManager[None]]


def measure_nothing(stage: StageName) -> AbstractContextManager[None]:
    """Return a context that does nothing, as the `Stage` of callers that measure nothing."""
    return nullcontext()


def _count_nothing(slices: int) -> None:
    """Ignore the progress, for callers that show none."""


_COUNTER: ContextVar[Callable[[int], None]] = ContextVar("slices", default=_count_nothing)


@contextmanager
def counting_slices(count: Callable[[int], None]) -> Iterator[None]:
    """Have the runtime tell `count` the number of slices that it has just finished, for work begun inside."""
    token = _COUNTER.set(count)
    try:
        yield
    finally:
        _COUNTER.reset(token)


def report_slices(slices: int) -> None:
    """Tell whoever started this work that so many more slices are done."""
    _COUNTER.get()(slices)
