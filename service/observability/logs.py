"""Log lines: JSON on standard output, with the request's id and without what the request holds.

The service's own lines name routes, statuses, models and figures, never what a client sent. Other libraries quote what
they read, and a value in a DICOM header may be a name: of their lines and warnings only the place is kept.
"""

import logging
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

TRUSTED = "uvicorn"
"""The one library whose messages are kept, since they name processes and addresses only; tracebacks are not."""

UVICORN: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "kdmri_service.observability.logs.formatter"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
    "root": {"handlers": ["stdout"], "level": "INFO"},
}
"""Configuration of the standard library's logging, which uvicorn applies in each of its processes."""


def configure(level: str) -> None:
    """Configure the service's own lines from a level on; Python's warnings are treated as lines of other libraries."""
    structlog.configure(
        processors=[*_common_processors(), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # One write for a line and its end: lines of several worker processes would be torn otherwise.
        logger_factory=structlog.WriteLoggerFactory(),
    )
    logging.captureWarnings(True)


def formatter() -> logging.Formatter:
    """Return a formatter that gives lines of other libraries the form of the service's own."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_common_processors(),
        processors=[
            _without_content,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )


def _common_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _without_content(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    # The place in the library's source tells an operator as much as most messages, and can't quote a file.
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    if record.name.split(".")[0] != TRUSTED:
        event["event"] = "message withheld"
        event["where"] = f"{record.module}:{record.lineno}"
    # Of an error only its class: its message may quote the file that caused it.
    if (info := event.pop("exc_info", None)) and info[0]:
        event["error"] = info[0].__name__
    return event
