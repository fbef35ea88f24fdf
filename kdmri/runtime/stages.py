"""How the runtime tells a caller what it is busy with, without knowing who measures it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

StageName = Literal["parse", "queue", "sensitivities", "denoise", "data_consistency", "encode"]
Stage = Callable[[StageName], AbstractContextManager[None]]


def measure_nothing(stage: StageName) -> AbstractContextManager[None]:
    """A `Stage` for callers that measure nothing."""
    return nullcontext()
