import json
import logging
import warnings

import pytest
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
