"""Every answer is the recorded one: statuses, headers, figures, DICOM elements and pixels.

The record was first made at the commit before the rooms of the code were laid out anew. Where a change of the contract
is meant, `python -m tests.contract.record` writes the record anew, and its diff shows the change to a reviewer.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from kdmri_service.app import create_app

from kdmri.bundles.store import Bundle
from tests.contract import interface, precise
from tests.contract.commands import COMMANDS as LINES
from tests.contract.record import COMMANDS, IMAGES, INTERFACE, RECORD, SETTINGS
from tests.contract.requests import Call, calls, send, summary

CALLS = dict(calls())
RECORDED: dict[str, object] = json.loads(RECORD.read_text())
RUNS: dict[str, object] = json.loads(COMMANDS.read_text())
ARRAYS, FIGURES = 1e-3, 5e-3
"""Relative tolerances: processors differ in the order of their sums, and figures are rounded to few digits."""
ROUNDING = 1e-6
"""Absolute tolerance: a residual below it is the rounding of single precision, which differs from run to run."""
PRECISE, SEVERAL_COILS = 1e-5, 2e-4
"""Tolerances of projections, relative to the norm of the image that they are of. Reconstruction from several coils is
iterated, which amplifies rounding: at the recorded commit one thread instead of two moved the projections by 6e-5."""


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


def test_every_shipped_bundle_makes_the_images_it_made(client: TestClient, bundles: list[Bundle]) -> None:
    expected, found = json.loads(IMAGES.read_text()), precise.images(client)
    assert {name: list(models) for name, models in found.items()} == {
        name: list(models) for name, models in expected.items()
    }
    assert {model for models in found.values() for model in models} == {b.manifest.reference for b in bundles}
    for name, models in expected.items():
        tolerance = SEVERAL_COILS if "coils" in name else PRECISE
        for model, values in models.items():
            *products, norm = values
            *now, norm_now = found[name][model]
            np.testing.assert_allclose(now, products, rtol=0, atol=tolerance, err_msg=f"{model}, {name}")
            assert norm_now == pytest.approx(norm, rel=PRECISE)


@pytest.mark.parametrize("kind", ["metrics", "operations"])
def test_no_name_that_was_recorded_is_gone(client: TestClient, kind: str) -> None:
    """Names may be added: a client or a dashboard of then does not look for them."""
    for name in ("one coil as application/json", "MR_small x 2 as application/json"):
        assert send(client, CALLS[name]).status_code == 200
    expected = json.loads(INTERFACE.read_text())[kind]
    found = {"metrics": interface.metrics, "operations": interface.operations}[kind](client)
    gone = {name: set(values) - set(found.get(name, ())) for name, values in expected.items()}
    assert {name: values for name, values in gone.items() if values} == {}


@pytest.fixture(scope="module")
def runs() -> dict[str, object]:
    """Every command line, run by a process of its own: the command line configures its process as it starts."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.contract.commands"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", LINES)
def test_the_command_does_as_recorded(runs: dict[str, object], line: str) -> None:
    assert list(differences(RUNS[line], runs[line], "")) == []


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
    return abs(first - second) <= max(FIGURES * max(abs(first), abs(second)), ROUNDING)


def test_a_difference_is_seen() -> None:
    """The comparison itself: each of these is a change of the contract."""
    assert list(differences({"a": 1}, {"a": 2}, ""))
    assert list(differences({"a": 1}, {}, ""))
    assert list(differences({}, {"a": 1}, ""))
    assert list(differences([1.0, 2.0], [1.0, 2.1], ""))
    assert list(differences([1.0, 2.0], [1.0], ""))
    assert list(differences("a", "b", ""))
    assert not list(differences([1.0, 2.0], [1.0, 2.00001], ""))
