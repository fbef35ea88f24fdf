"""Answers: the headers and the JSON figures say the same, and nothing that parsing left out stays unsaid."""

from dataclasses import replace

import pytest
from kdmri_service.engine import answer
from kdmri_service.observability.observation import Observation

from kdmri.bundles.manifest import Manifest
from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.operations.operation import Result
from kdmri.operations.reconstruction import ReconstructionInput
from kdmri.phantoms import phantom, scan

SCAN = scan(phantom(16, 24).repeat(2, axis=0), acceleration=2)
STUDENT, TEACHER = Images(phantom(16, 24).repeat(2, axis=0)), Images(0.9 * phantom(16, 24).repeat(2, axis=0))


def manifest(bundles: list[Bundle], role: str) -> Manifest:
    return next(b.manifest for b in bundles if (b.manifest.task, b.manifest.role) == ("reconstruction", role))


def result(bundles: list[Bundle], role: str, images: Images) -> Result:
    job = ReconstructionInput(SCAN).jobs[0]
    return Result(manifest(bundles, role), images, job.assess(images))


def request() -> Observation:
    """A request whose teacher took three times the student's time for two slices."""
    observed = Observation("reconstruct")
    for role, seconds in (("student", 2.0), ("teacher", 6.0)):
        run = observed.run_of(role)
        run.seconds["denoise"] = seconds
        run.slices = 2
    return observed


@pytest.mark.parametrize("notes", [(), ("a note",), ("a note", "another")])
def test_notes_are_in_header_and_figures_if_there_are_any(bundles: list[Bundle], notes: tuple[str, ...]) -> None:
    source = ReconstructionInput(replace(SCAN, notes=notes))
    pair = [result(bundles, "student", STUDENT), result(bundles, "teacher", TEACHER)]
    expected = list(source.notes)
    assert set(notes) <= set(expected)
    for figures in (
        answer.figures(source, pair[:1], request()),
        answer.figures_of_both(source, pair, request()),
    ):
        assert figures.get("notes", []) == expected
        assert ("notes" in figures) == bool(expected)
    headers = answer.headers(pair, "both", source.notes)
    assert headers.get("KDMRI-Notes", "") == "; ".join(expected)
    assert ("KDMRI-Notes" in headers) == bool(expected)


def test_times_are_those_of_a_slice_of_each_role(bundles: list[Bundle]) -> None:
    pair = [result(bundles, "student", STUDENT), result(bundles, "teacher", TEACHER)]
    found = answer.figures_of_both(ReconstructionInput(SCAN), pair, request())
    assert found["speedup"] == 3
    for role, milliseconds in (("student", 1000), ("teacher", 3000)):
        figures = found[role]
        assert isinstance(figures, dict)
        assert figures["milliseconds_per_slice"] == milliseconds
        assert figures["model"] == manifest(bundles, role).reference
        assert "role" not in figures


def test_headers_name_each_model_once_and_the_acceleration_of_the_scan(bundles: list[Bundle]) -> None:
    student = result(bundles, "student", STUDENT)
    headers = answer.headers([student, student], "student")
    assert headers["KDMRI-Model"] == student.manifest.reference
    assert headers["KDMRI-Role"] == "student"
    assert float(headers["KDMRI-Acceleration"]) == pytest.approx(SCAN.acceleration, abs=0.005)
    warned = answer.figures(ReconstructionInput(SCAN), [student], request()).get("warning")
    assert headers.get("KDMRI-Warning") == warned
