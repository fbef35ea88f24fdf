"""Full disks and descriptor tables: operating-system errors that pass, as errors of the service."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from kdmri_service.errors import Overloaded, StorageFull

FULL = (errno.ENOSPC, errno.EDQUOT)
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@contextmanager
def temporary_storage() -> Iterator[None]:
    """Use the temporary folder inside.

    Raises:
        StorageFull: The folder has no room left.
        Overloaded: No file can be opened now.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull("expected room in the temporary folder, there is none: try again later") from None
        if error.errno in OUT_OF_DESCRIPTORS:
            raise Overloaded("expected a free file descriptor, there is none: try again later") from None
        raise
