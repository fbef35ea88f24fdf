"""The engine: a request in, an answer out. Every transport calls it, and it knows none of them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync
from kdmri_service.engine import answer as answers
from kdmri_service.engine.answer import Answer
from kdmri_service.engine.catalogue import Catalogue
from kdmri_service.engine.inference import infer
from kdmri_service.engine.parsing.pool import ParserPool
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability.observation import Observation

from kdmri.errors import InvalidRequest
from kdmri.operations import Operation, encoding
from kdmri.operations.media_types import SIDE_BY_SIDE
from kdmri.operations.operation import BOTH, PREDICT_ABOVE, Input, Limits, Result, SourceFile
from kdmri.runtime.model import Model

ChooseType = Callable[[Sequence[str]], str]
"""Chooses the media type of the answer from those offered, the default first. Raises NotAcceptable."""


@dataclass(frozen=True)
class Request:
    """A request that was admitted: its models are chosen, and its files may be received."""

    operation: Operation
    models: Sequence[Model]
    choose_type: ChooseType
    observation: Observation
    client: str
    """Who sent it, for a fair share of the parser workers; never logged."""


@dataclass(frozen=True)
class Engine:
    """What answers requests: models, turns to run them, and parser workers."""

    catalogue: Catalogue
    scheduler: Scheduler
    limits: Limits
    parsers: ParserPool | None = None
    """Without parser workers uploads are parsed in this process."""
    predict_above: float = PREDICT_ABOVE
    """Acceleration above which the quality of an answer is predicted unless the request says otherwise."""

    def admit(
        self, operation: Operation, choose_type: ChooseType, observation: Observation, *, client: str = ""
    ) -> Request:
        """Check a request as far as that is possible without its files.

        Args:
            operation: The operation with its parameters.
            choose_type: The transport's choice of a media type.
            observation: Observes the request; it learns the role of the model that is chosen.
            client: The address of the client.

        Returns:
            The request to run once its files are there.

        Raises:
            InvalidRequest: The role does not exist.
            UnknownModel: There is no such model.
            NotAcceptable: No answer of this operation has an accepted type.
        """
        # Refused before the upload is received, if the parameters alone decide it.
        if (offered := operation.types_known_early) is not None:
            choose_type(offered)
        models = self.catalogue.choose(operation.task, operation.role, operation.model)
        if operation.role != BOTH:
            observation.role = models[0].manifest.role
        return Request(operation, models, choose_type, observation, client)

    async def run(self, request: Request, files: Sequence[SourceFile]) -> Answer:
        """Parse, run and encode. If this is cancelled, the work ends with the stage that it is at.

        Args:
            request: An admitted request.
            files: Its files. They are closed when this raises, else by `Answer.close`.

        Returns:
            The encoded answer.

        Raises:
            Overloaded: The queue is full.
            KdmriError: The files, the parameters or the accepted types do not fit.
        """
        observation, role = request.observation, request.operation.role
        async with _closing_on_error(files) as opened:
            with self.scheduler.request_in_flight():
                with observation("parse"):
                    source = await self._parse(request, files, opened)
                media_type = _choose_type(request, source)
                observation.slices_expected = sum(job.slices for job in source.jobs) * len(request.models)
                # One after the other: the jobs of one request must not take the turns of other requests.
                results = [
                    await infer(job, model, self.scheduler, observation, predict_above=self.predict_above)
                    for job in source.jobs
                    for model in request.models
                ]
                with observation("encode"):
                    body, content_type = await run_sync(_encode, source, results, media_type, observation)
            # The files go along with the answer: a replay may still read from the job.
            return Answer(
                body,
                content_type,
                answers.headers(results, observation.role, source.notes),
                type(request.operation),
                source.jobs[0],
                results[0],
                role,
                opened.pop_all().close,
            )

    async def _parse(self, request: Request, files: Sequence[SourceFile], opened: ExitStack) -> Input:
        operation = request.operation
        # Operations that a programme adds by `create_app` are unknown to the workers, which have imported kdmri's own.
        if self.parsers is None or not self.parsers.knows(operation):
            return await run_sync(opened.enter_context, operation.parse(files, self.limits))
        return await self.parsers.parse(operation, files, self.limits, client=request.client)


@asynccontextmanager
async def _closing_on_error(files: Sequence[SourceFile]) -> AsyncIterator[ExitStack]:
    """Provide a stack that closes the files, in a thread: closing a large temporary file blocks."""
    opened = ExitStack()
    for source in files:
        opened.callback(_close, source)
    try:
        yield opened
    finally:
        # Empty after `pop_all`: then the files are still in use, and closing them is up to the answer.
        await run_sync(opened.close)


def _close(source: SourceFile) -> None:
    # A path is the caller's file, of which parsing opened and closed its own handle.
    if not isinstance(source.file, Path):
        source.file.close()


def _choose_type(request: Request, source: Input) -> str:
    """Choose the answer's media type, now that the input is known."""
    if request.operation.role != BOTH:
        return request.choose_type(source.media_types)
    if len(source.jobs) > 1:
        raise InvalidRequest(f"role=both: expected images of one series and one size, got {len(source.jobs)} kinds")
    return request.choose_type(SIDE_BY_SIDE)


def _encode(source: Input, results: Sequence[Result], media_type: str, request: Observation) -> tuple[bytes, str]:
    if request.role == BOTH:
        figures = answers.figures_of_both(source, results, request)
        return source.encode_both(results, media_type, figures), media_type
    # Several DICOM objects need an envelope; every other type is one file.
    files = source.encode(results, media_type, answers.figures(source, results, request))
    return encoding.envelope(files, media_type)
