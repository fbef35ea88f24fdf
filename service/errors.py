"""The errors of serving, without HTTP: leaves of `kdmri.errors.KdmriError`.

    KdmriError
    ├── TooLarge
    ├── Overloaded
    │   └── StoreUnavailable
    ├── JobsDisabled
    ├── StorageFull
    ├── UnknownJob
    ├── UnfinishedJob
    ├── ErasedJob
    ├── DifferentJob
    ├── AuditFailed
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


class AuditFailed(KdmriError):
    """The audit trail can not be written, and work that is not recorded is not done."""


class UnsupportedMedia(KdmriError):
    """The type of the request's body is not one of those that are read."""


class Cancelled(KdmriError):
    """The client disconnected, so the work on its request ended early."""


class MissingTraces(KdmriError):
    """Traces are enabled, and the packages that make them are not installed."""


class StoreUnavailable(Overloaded):
    """The jobs database can't be reached."""


class JobsDisabled(KdmriError):
    """The service keeps no jobs: it has no spool."""


class StorageFull(KdmriError):
    """The spool has no room for another job."""


class UnknownJob(KdmriError):
    """No job of this id is there for this key."""


class UnfinishedJob(KdmriError):
    """The job has no result yet."""


class ErasedJob(KdmriError):
    """The job's result was erased."""


class DifferentJob(KdmriError):
    """The Idempotency-Key belongs to a job with another input or other parameters."""
