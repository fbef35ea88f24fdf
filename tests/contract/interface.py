"""Names that clients and dashboards rely on: the metrics, and what the OpenAPI document declares."""

from typing import TypedDict

import httpx2
from prometheus_client.parser import text_string_to_metric_families


def metrics(client: httpx2.Client) -> dict[str, list[str]]:
    """Return, by metric, its type and the label names of its samples. Help texts may be reworded, so they are left out.

    A metric with labels has no samples before its first event: send requests of both tasks beforehand.
    """
    return {
        family.name: [family.type, *sorted({name for sample in family.samples for name in sample.labels})]
        for family in text_string_to_metric_families(client.get("/metrics").text)
        # The client library adds a time of creation to each metric in this format alone; no dashboard reads it.
        if family.name.startswith("kdmri_") and not family.name.endswith("_created")
    }


def operations(client: httpx2.Client) -> dict[str, list[str]]:
    """Return, by method and path, the parameters, body types, statuses, answer types and headers that are declared."""
    document: dict[str, dict[str, dict[str, Operation]]] = client.get("/openapi.json").json()
    return {
        f"{method} {path}": sorted(_declarations(operation))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _declarations(operation: "Operation") -> set[str]:
    declared = {
        f"parameter {parameter['name']} in {parameter['in']}, default {parameter['schema'].get('default')}"
        for parameter in operation.get("parameters", [])
    }
    declared |= {f"body {kind}" for kind in operation.get("requestBody", {"content": {}})["content"]}
    for status, response in operation["responses"].items():
        declared |= {f"{status} as {kind}" for kind in response.get("content", {})}
        declared |= {f"{status} with {header}" for header in response.get("headers", {})}
    return declared


Parameter = TypedDict("Parameter", {"name": str, "in": str, "schema": dict[str, object]})


class Content(TypedDict, total=False):
    """Media types of a body, and headers where it is an answer."""

    content: dict[str, object]
    headers: dict[str, object]


class Operation(TypedDict, total=False):
    """The part of an OpenAPI operation that a client depends on."""

    parameters: list[Parameter]
    requestBody: Content
    responses: dict[str, Content]
