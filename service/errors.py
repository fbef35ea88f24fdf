"""The errors of serving, without HTTP: leaves of `kdmri.errors.KdmriError`.

    KdmriError
    ├── TooLarge
    ├── Overloaded
    ├── UnsupportedMedia
    ├── Cancelled
    └── MissingTraces

Each transport maps them to its own protocol; HTTP does so in transports/http/problems.py.
"""

from kdmri.errors import KdmriError


class TooLarge(KdmriError):
    """The upload is over the limit."""


class Overloaded(KdmriError):
    """The queue has no free place."""


class UnsupportedMedia(KdmriError):
    """The type of the request's body is not one of those that are read."""


class Cancelled(KdmriError):
    """The client disconnected, so the work on its request ended early."""


class MissingTraces(KdmriError):
    """Traces are enabled, and the packages that make them are not installed."""
