"""Whether live requests are being worked on, told to a process that wants to stay out of their way."""

from ctypes import c_bool, c_ulonglong
from multiprocessing.sharedctypes import RawValue


class Live:
    """Memory shared with a process that is started with it.

    Without a lock: the process runs at the lowest priority, and could be kept from running while it holds one.
    """

    def __init__(self) -> None:
        self._busy = RawValue(c_bool, False)
        self._arrived = RawValue(c_ulonglong, 0)

    @property
    def busy(self) -> bool:
        """A request waits for a model or has one."""
        return bool(self._busy.value)

    @busy.setter
    def busy(self, value: bool) -> None:
        self._busy.value = value

    @property
    def arrived(self) -> int:
        """Requests so far: where two readings agree, none came in between."""
        return int(self._arrived.value)

    def arrive(self) -> None:
        """One more. By one process only, the service's."""
        self._arrived.value += 1
