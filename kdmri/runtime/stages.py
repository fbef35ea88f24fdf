"""Stages of the work: the runtime announces them to its caller, without knowing who measures them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

# The names are labels of metrics, entries of Server-Timing and spans of traces: renaming one breaks dashboards.
StageName = Literal["parse", "queue", "sensitivities", "denoise", "data_consistency", "encode"]
# A stage may be entered several times, by one cascade or batch after the other: its times add up.
Stage = Callable[[StageName], AbstractContextManager[None]]


def measure_nothing(stage: StageName) -> AbstractContextManager[None]:
    """Return a context that does nothing, as the `Stage` of callers that measure nothing."""
    return nullcontext()
