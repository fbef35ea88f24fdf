"""Every answer is the recorded one: statuses, headers, figures, DICOM elements and pixels.

The record was first made at the commit before the rooms of the code were laid out anew. Where a change of the contract
is meant, `python -m tests.contract.record` writes the record anew, and its diff shows the change to a reviewer.
"""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from kdmri_service.app import create_app

from tests.contract.record import RECORD, SETTINGS
from tests.contract.requests import Call, calls, send, summary

CALLS = dict(calls())
RECORDED: dict[str, object] = json.loads(RECORD.read_text())
ARRAYS, FIGURES = 1e-3, 5e-3
"""Relative tolerances: processors differ in the order of their sums, and figures are rounded to few digits."""


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """The service as the record was made with."""
    with TestClient(create_app(SETTINGS), raise_server_exceptions=False) as running:
        yield running


def test_every_request_is_recorded() -> None:
    assert CALLS.keys() == RECORDED.keys()


@pytest.mark.parametrize(("name", "call"), CALLS.items(), ids=CALLS)
def test_the_answer_is_the_recorded_one(client: TestClient, name: str, call: Call) -> None:
    answer = json.loads(json.dumps(summary(send(client, call))))
    assert list(differences(RECORDED[name], answer, "")) == []


def differences(expected: object, found: object, place: str) -> Iterator[str]:
    """Yield where two summaries differ by more than rounding."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected | found:
            yield from differences(expected.get(key, "nothing"), found.get(key, "nothing"), f"{place}/{key}")
    elif is_numbers(expected) and is_numbers(found) and len(expected) == len(found):  # type: ignore[arg-type]
        largest = max(map(abs, expected), default=0)  # type: ignore[call-overload]
        worst = max((abs(a - b) for a, b in zip(expected, found, strict=True)), default=0)  # type: ignore[call-overload]
        if worst > ARRAYS * largest:
            yield f"{place}: differs by {worst:.3g} where the largest value is {largest:.3g}"
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, pair in enumerate(zip(expected, found, strict=True)):
            yield from differences(*pair, f"{place}[{number}]")
    elif is_close(expected, found):
        return
    elif expected != found:
        yield f"{place}: expected {expected!r}, got {found!r}"


def is_numbers(value: object) -> bool:
    """Return whether a value is a list of numbers."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, int | float) for item in value)


def is_close(expected: object, found: object) -> bool:
    """Return whether two numbers, or texts that are numbers, differ by rounding alone."""
    try:
        first, second = float(str(expected)), float(str(found))
    except ValueError:
        return False
    return abs(first - second) <= FIGURES * max(abs(first), abs(second))


def test_a_difference_is_seen() -> None:
    """The comparison itself: each of these is a change of the contract."""
    assert list(differences({"a": 1}, {"a": 2}, ""))
    assert list(differences({"a": 1}, {}, ""))
    assert list(differences({}, {"a": 1}, ""))
    assert list(differences([1.0, 2.0], [1.0, 2.1], ""))
    assert list(differences([1.0, 2.0], [1.0], ""))
    assert list(differences("a", "b", ""))
    assert not list(differences([1.0, 2.0], [1.0, 2.00001], ""))
