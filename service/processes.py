"""Processes of the service: children that end with their parent."""

import ctypes
import os
import resource
import signal
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""Number of the option in prctl(2), linux/prctl.h."""


def disable_core_dumps() -> None:
    """Have the kernel write no memory of this process, or of those that it starts, to a disk when it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent(parent: int) -> None:
    """Have Linux kill this process when the thread that started it ends, even if both are stopped or killed.

    Other systems have no such call: there, a process whose parent is killed ends when it next uses the parent's pipes.

    Args:
        parent: The id of the process that is expected to be the parent. If that has ended before this call, the signal
            would never come, so this process ends at once.
    """
    # Neither libc nor prctl is everywhere: CDLL raises OSError, an unknown function AttributeError.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # No clean-up: handlers at exit may wait for the parent that has ended.
        os._exit(1)
