"""Predicted quality: it takes evidence and a calibration, and a request that asks for it learns why there is none."""

from dataclasses import replace

import pytest

from kdmri.bundles.manifest import Calibration, Manifest
from kdmri.bundles.store import Bundle
from kdmri.data.evidence import Evidence
from kdmri.data.images import Images
from kdmri.operations.operation import Result, with_prediction
from kdmri.operations.reconstruction import ReconstructionJob
from kdmri.phantoms import phantom, scan

SCAN = scan(phantom(32, 256), acceleration=6)
IMAGES = Images(phantom(32, 256))
EVIDENCE = Evidence(error=1.0, withheld=10.0, missing=20.0, total=100.0, noise=0.1)


@pytest.fixture(scope="module")
def calibrated(bundles: list[Bundle]) -> Manifest:
    """A shipped model with a calibration that only the withheld samples decide."""
    calibration = Calibration(
        coefficients={"constant": 0.0}, half_width=0.5, coverage=0.9, warn_above=0.5, calibrated_on="this test"
    )
    return bundles[0].manifest.model_copy(update={"predicted_quality": calibration})


def result(manifest: Manifest, job: ReconstructionJob) -> Result:
    return Result(manifest, IMAGES, job.assess(IMAGES))


@pytest.mark.parametrize("asked", ["auto", "true"])
def test_evidence_and_a_calibration_give_a_prediction_without_a_note(calibrated: Manifest, asked: str) -> None:
    job = replace(ReconstructionJob(SCAN), prediction=asked)
    found = with_prediction(result(calibrated, job), job, EVIDENCE)
    assert found.quality.prediction is not None
    assert found.notes == ()


@pytest.mark.parametrize("asked", ["auto", "true"])
@pytest.mark.parametrize("lacking", ["evidence", "calibration", "both"])
def test_without_either_there_is_none_and_a_note_says_why_if_it_was_asked_for(
    calibrated: Manifest, asked: str, lacking: str
) -> None:
    job = replace(ReconstructionJob(SCAN), prediction=asked)
    without = calibrated.model_copy(update={"predicted_quality": None})
    manifest = calibrated if lacking == "evidence" else without
    found = with_prediction(result(manifest, job), job, EVIDENCE if lacking == "calibration" else None)
    assert found.quality.prediction is None
    if asked == "auto":
        assert found.notes == ()
        return
    (note,) = found.notes
    assert ("samples" in note) == (lacking == "evidence")
    assert ("calibration" in note) == (lacking != "evidence")
    assert manifest.reference in note


def test_a_request_may_insist_or_decline_and_else_the_acceleration_decides() -> None:
    job = ReconstructionJob(SCAN)
    limit = SCAN.acceleration
    for asked, expected in {"true": (True, True), "false": (False, False), "auto": (True, False)}.items():
        reduced = [replace(job, prediction=asked).without_withheld(above) for above in (0.9 * limit, limit)]
        assert tuple(one is not None for one in reduced) == expected
    assert replace(job, prediction="true").requires_prediction
    assert not job.requires_prediction
