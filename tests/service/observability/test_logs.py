import json
import logging
import warnings

import pytest
import structlog
from kdmri_service.observability import logs


def written(record: logging.LogRecord) -> dict[str, str]:
    return json.loads(logs.formatter().format(record))


def record(logger: str, message: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(logger, logging.WARNING, "valuerep.py", 440, message, (), info)


@pytest.mark.parametrize("logger", ["pydicom", "py.warnings", "h5py._conv", "uvicornlike"])
def test_what_other_libraries_quote_is_withheld(logger: str) -> None:
    line = written(record(logger, "Invalid value for VR PN: 'Doe^John'"))
    assert "Doe" not in json.dumps(line)
    assert (line["event"], line["where"]) == ("message withheld", "valuerep:440")


def test_the_servers_messages_stay_but_no_traceback_of_an_error() -> None:
    line = written(record("uvicorn.error", "Exception in ASGI application", ValueError("Doe^John")))
    assert (line["event"], line["error"]) == ("Exception in ASGI application", "ValueError")
    assert "Doe" not in json.dumps(line)


def test_warnings_go_where_they_are_withheld() -> None:
    shown = warnings.showwarning
    try:
        logging.captureWarnings(False)
        logs.configure("info")
        assert warnings.showwarning.__module__ == "logging"
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = shown


def test_a_line_and_its_end_are_written_at_once() -> None:
    """Several processes share one output: what two writes make can have another process's line in between."""
    written: list[str] = []

    class Output:
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    before = structlog.get_config()
    try:
        logs.configure("info")
        factory = structlog.get_config()["logger_factory"]
        type(factory)(Output())().msg('{"event": "ready"}')
    finally:
        structlog.configure(**before)
    assert written == ['{"event": "ready"}\n']
