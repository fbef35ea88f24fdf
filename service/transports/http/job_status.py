"""The status of a job, as clients see it."""

from datetime import UTC, datetime

from kdmri_service.jobs.records import Job, State
from kdmri_service.transports.http.problems import failure_problem
from pydantic import BaseModel, ConfigDict, Field


class JobProblem(BaseModel):
    """Why a job failed, as a problem of RFC 9457."""

    type: str
    status: int
    detail: str
    stage: str | None = Field(description="the stage that it failed in")


class JobStatus(BaseModel):
    """How far a job has come."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: State
    operation: str
    position: int | None = Field(description="number of jobs ahead of it while it waits")
    attempt: int = Field(description="number of times that a worker took it")
    stage: str | None = Field(description="what it is at, while it runs")
    slices_done: int
    slices: int | None = Field(description="slices that it will have; unknown until its input is read")
    cancelling: bool = Field(description="true if it was cancelled and still runs")
    model: str | None = Field(description="NAME@VERSION, once it is done")
    warning: str | None = Field(description="why the answer may be worse than the model card states")
    notes: str | None = Field(description="what was left out or chosen while the input was read")
    problem: JobProblem | None
    created: datetime
    ended: datetime | None
    erased: datetime | None


def job_status(job: Job, position: int | None) -> JobStatus:
    """Return the status of a job with so many ahead of it."""
    headers = job.result.headers if job.result else {}
    return JobStatus(
        id=job.id,
        state=job.state,
        operation=job.operation,
        position=position,
        attempt=job.attempt,
        stage=job.stage if job.state == State.running else None,
        slices_done=job.slices_done,
        slices=job.slices,
        cancelling=job.cancel_requested and not job.state.is_final,
        model=headers.get("KDMRI-Model"),
        warning=headers.get("KDMRI-Warning"),
        notes=headers.get("KDMRI-Notes"),
        problem=_problem(job),
        created=_time(job.created),
        ended=None if job.ended is None else _time(job.ended),
        erased=None if job.erased is None else _time(job.erased),
    )


def _problem(job: Job) -> JobProblem | None:
    if job.error is None:
        return None
    status, kind = failure_problem(job.error.error, job.error.detail)
    return JobProblem(
        type=f"urn:kdmri:problem:{kind}", status=status.value, detail=job.error.detail, stage=job.error.stage
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
