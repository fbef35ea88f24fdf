"""pydicom without its complaints, while kdmri reads or writes DICOM.

pydicom's validation mode, its logger and Python's warning filters belong to the whole process, so kdmri changes them
only for as long as it works on DICOM, and restores them afterwards.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pydicom import config

_lock = threading.Lock()
_users = 0
_previous = ExitStack()


@contextmanager
def lenient_pydicom() -> Iterator[None]:
    """Accept values that break the standard, and report none of them, until the block ends.

    Scanners write values that the standard does not allow; one of them must not cost the image. pydicom's warnings and
    log lines quote the value, which may be about a patient: they must not reach a log or a terminal.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    """Apply the lenient settings unless another thread has applied them already."""
    global _users
    with _lock:
        # The settings are shared by all threads: the first to come changes them and the last to go restores them.
        # Were each thread to save and restore on its own, one could restore what another had set.
        if _users == 0:
            logger = logging.getLogger("pydicom")
            _previous.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
            # pydicom's property reports a derived value where none is set: the attribute tells the two apart.
            _previous.callback(setattr, config.settings, "_reading_validation_mode", _reading_mode())
            config.settings.reading_validation_mode = config.IGNORE
            _previous.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="pydicom")
        _users += 1


def _leave() -> None:
    """Restore the settings found before if no other thread needs the lenient ones."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _previous.close()


def _reading_mode() -> int | None:
    """Return the validation mode that the importer set, or None."""
    mode: int | None = config.settings._reading_validation_mode
    return mode
