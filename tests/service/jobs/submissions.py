"""Submissions for tests of the store, whose files nobody reads."""

import uuid

from kdmri_service.jobs.records import Blob, Outcome, Submission
from kdmri_service.jobs.sealing import new_key


def submission(
    identity: str = "", *, owner: str = "mri-1", fingerprint: str = "", batch_key: str = "same"
) -> Submission:
    """Return a submission, by default one unlike any other."""
    job_id = uuid.uuid4().hex
    return Submission(
        id=job_id,
        owner=owner,
        operation="reconstruct",
        parameters={"role": "student"},
        accept=None,
        preferred=None,
        inputs=[Blob("0" * 64, "application/x-hdf5")],
        input_bytes=1000,
        identity=identity or job_id,
        fingerprint=fingerprint or identity or job_id,
        key=new_key(),
        batch_key=batch_key,
    )


def outcome(name: str) -> Outcome:
    """Return an answer that can be told from others."""
    return Outcome(Blob(name, "application/json"), {"KDMRI-Role": "student"})
