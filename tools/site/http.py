"""The HTTP page, made from the application's OpenAPI document and its table of errors."""

from typing import Any

from kdmri_service.app import create_app
from kdmri_service.transports.http.problems import DISCONNECTED, problem_kind, status_of

from kdmri.errors import KdmriError
from tools.site.markdown import code, page, table
from tools.site.schemas import allowed_values

INTRODUCTION = """\
A request's body is one file: either as it is, with its media type as `Content-Type`, or as the part `file` of
`multipart/form-data`. The `Accept` header chooses the format of the answer; the first media type of an operation's
answers is the default. A running service shows the same document under `/docs` and `/openapi.json`.

Every answer has an `X-Request-ID`: the request's own if it is harmless, otherwise a new one. The service's log lines
carry it too."""
PROBLEMS = """\
Errors are `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) with the members `type`,
`title`, `status` and `detail`. `detail` says in one line what was expected and what came, and holds no path and no
patient data. A 503 has a `Retry-After` header. Errors of the framework itself, such as an unknown address, have the
type `urn:kdmri:problem:http`; an error that nobody foresaw is a 500 of the type `urn:kdmri:problem:unforeseen`."""


def http_page() -> str:
    """Return the page: each operation with parameters, bodies, answers and headers; then the problem types."""
    document = create_app().openapi()
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    rows = [
        (code(f"urn:kdmri:problem:{problem_kind(error)}"), str(status_of(error()).value), _summary(error))
        for error in sorted(_errors_below(KdmriError), key=lambda error: (status_of(error()), error.__name__))
        # No client receives the status of a request that its client abandoned.
        if status_of(error()) != DISCONNECTED
    ]
    errors = ["## Problems", PROBLEMS, table(["Type", "Status", "Meaning"], rows)]
    return page("HTTP API", INTRODUCTION, [*operations, *errors])


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    sections = [f"## {method.upper()} {path}", operation.get("description", "")]
    if parameters := operation.get("parameters"):
        rows = [_parameter(parameter) for parameter in parameters]
        sections += ["**Parameters**", table(["Name", "In", "Values", "Default", "Meaning"], rows)]
    if body := operation.get("requestBody"):
        sections += ["**Body**: " + ", ".join(code(kind) for kind in body["content"])]
    success = next(status for status in operation["responses"] if status.startswith("2"))
    answer = operation["responses"][success]
    kinds = ", ".join(code(kind) for kind in answer.get("content", {})) or "no body"
    sections += [f"**Answer**: {kinds}"]
    # FastAPI's own description of an answer that nobody described.
    if answer["description"] != "Successful Response":
        sections += [answer["description"]]
    if headers := answer.get("headers"):
        named = [(code(name), header["description"]) for name, header in headers.items()]
        sections += ["**Headers of the answer**", table(["Header", "Meaning"], named)]
    if refusals := [status for status in operation["responses"] if status != success]:
        sections += ["**Statuses of problems**: " + ", ".join(refusals)]
    return "\n\n".join(section for section in sections if section)


def _parameter(parameter: dict[str, Any]) -> tuple[str, ...]:
    schema = parameter["schema"]
    default = code(schema.get("default", ""))
    return code(parameter["name"]), parameter["in"], allowed_values(schema), default, parameter.get("description", "")


def _errors_below(base: type[KdmriError]) -> set[type[KdmriError]]:
    """Return the errors below a base class."""
    return {error for child in base.__subclasses__() for error in (child, *_errors_below(child))}


def _summary(error: type[Exception]) -> str:
    """Return the first line of an error's docstring."""
    return (error.__doc__ or "").partition("\n")[0]
