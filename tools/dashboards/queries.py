"""Run the query of every panel and rule, and fail if one has no data.

    python tools/dashboards/queries.py http://127.0.0.1:9090

Standard library only: test_stack.sh runs it with any Python.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

DASHBOARDS = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
# What Grafana would put in; windows wide enough for a Prometheus that has only just begun.
VARIABLES = {"$__rate_interval": "2m", "$__range": "5m", "$operation": ".*", "$role": ".*", "$model": ".*"}
COMPARISON = re.compile(r"(==|!=|>=|<=|>|<)(?!\s*bool)")
KEYWORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}


class Query(NamedTuple):
    dashboard: str
    panel: str
    legend: str
    expr: str


def queries(folder: Path = DASHBOARDS) -> Iterator[Query]:
    """List the queries of all committed dashboards."""
    for path in sorted(folder.glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield Query(dashboard["title"], panel["title"], target.get("legendFormat", ""), target["expr"])


def rules(prometheus: str) -> Iterator[Query]:
    """List the rules that a Prometheus has loaded; alerts are rewritten so that they answer wherever there is data."""
    for group in _get(prometheus, "rules")["groups"]:
        for rule in group["rules"]:
            expr = rule["query"]
            yield Query(group["name"], rule["name"], "", answer_always(expr) if rule["type"] == "alerting" else expr)


def metric_names(expr: str) -> set[str]:
    """List the names of the series that a PromQL expression selects."""
    # In this order: texts may hold braces, selectors hold label names, and clauses list labels as functions do series.
    expr = re.sub(r'"[^"]*"', "", expr)
    expr = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expr)
    expr = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", expr)
    # What a parenthesis follows is a function; the exponent of a number has no word boundary before it.
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", expr)) - KEYWORDS


def fill_variables(expr: str, variables: dict[str, str] = VARIABLES) -> str:
    """Return the expression as Grafana sends it, with its variables replaced."""
    for name, value in variables.items():
        expr = expr.replace(name, value)
    return expr


def answer_always(expr: str) -> str:
    """Rewrite an alert's expression so that it answers 0, not nothing, if there is data and no reason to alarm."""
    # Selectors are left alone: their = and != compare labels, not values.
    parts = re.split(r"(\{[^}]*\})", expr)
    return "".join(part if part.startswith("{") else COMPARISON.sub(r"\1 bool", part) for part in parts)


def answer(prometheus: str, expr: str, variables: dict[str, str] = VARIABLES) -> list[float]:
    """Query Prometheus for the present values of an expression, without those that are not numbers.

    Args:
        prometheus: Address of the server.
        expr: PromQL.
        variables: Values of Grafana's variables.
    """
    return [value for _, value in instant(prometheus, expr, variables)]


def instant(
    prometheus: str, expr: str, variables: dict[str, str] = VARIABLES, *, time: float | None = None
) -> list[tuple[dict[str, str], float]]:
    """Query Prometheus for the labels and value of each series, without those that are not numbers.

    Args:
        prometheus: Address of the server.
        expr: PromQL.
        variables: Values of Grafana's variables.
        time: Seconds since 1970; by default now.
    """
    at = {} if time is None else {"time": time}
    found = _ask(prometheus, "query", query=fill_variables(expr, variables), **at)
    # Prometheus writes numbers as texts, because JSON has neither NaN nor infinity.
    answers = [(series["metric"], float(series["value"][1])) for series in found]
    return [(labels, value) for labels, value in answers if not math.isnan(value)]


def over_time(
    prometheus: str, expr: str, variables: dict[str, str], *, start: float, end: float, step: float
) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
    """Query Prometheus for the labels of each series, and its values with their times.

    Args:
        prometheus: Address of the server.
        expr: PromQL.
        variables: Values of Grafana's variables.
        start: Seconds since 1970.
        end: Seconds since 1970.
        step: Seconds between values.
    """
    found = _ask(prometheus, "query_range", query=fill_variables(expr, variables), start=start, end=end, step=step)
    return [(series["metric"], [(time, float(value)) for time, value in series["values"]]) for series in found]


def _ask(prometheus: str, what: str, **parameters: object) -> list[dict]:
    return _get(prometheus, f"{what}?{urlencode(parameters)}")["result"]


def _get(prometheus: str, what: str) -> dict:
    with urlopen(f"{prometheus}/api/v1/{what}", timeout=10) as response:
        return json.load(response)["data"]


def main(prometheus: str) -> int:
    """Print each query's answer, and return how many had none."""
    missing = 0
    for query in (*queries(), *rules(prometheus)):
        values = answer(prometheus, query.expr)
        shown = ", ".join(f"{value:.4g}" for value in values)
        missing += not values
        sys.stdout.write(f"{query.dashboard} | {query.panel} | {shown or 'NO DATA'}\n")
    return missing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/")) > 0)
