"""Every panel's query, run: `python deploy/grafana/queries.py http://127.0.0.1:9090` fails where one has no data.

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

DASHBOARDS = Path(__file__).with_name("dashboards")
# What Grafana would put in; windows wide enough for a Prometheus that has only just begun.
VARIABLES = {"$__rate_interval": "2m", "$__range": "5m", "$operation": ".*", "$role": ".*"}
# Shadow runs may be switched off: their panels are empty then.
OPTIONAL = "kdmri_shadow_"
KEYWORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}


class Query(NamedTuple):
    dashboard: str
    panel: str
    expr: str


def queries(folder: Path = DASHBOARDS) -> Iterator[Query]:
    """Every query of every dashboard, as committed."""
    for path in sorted(folder.glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield Query(dashboard["title"], panel["title"], target["expr"])


def metric_names(expr: str) -> set[str]:
    """Names of the series that a PromQL expression selects."""
    expr = re.sub(r'"[^"]*"', "", expr)
    expr = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expr)
    expr = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", expr)
    # What a parenthesis follows is a function; the exponent of a number has no word boundary before it.
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", expr)) - KEYWORDS


def answer(prometheus: str, expr: str) -> list[float]:
    """The values that Prometheus has for the expression now."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    with urlopen(f"{prometheus}/api/v1/query?{urlencode({'query': expr})}", timeout=10) as response:
        result = json.load(response)["data"]["result"]
    return [float(series["value"][1]) for series in result]


def main(prometheus: str) -> int:
    """Write each query's answer; how many had none."""
    missing = 0
    for query in queries():
        values = [value for value in answer(prometheus, query.expr) if not math.isnan(value)]
        shown = ", ".join(f"{value:.4g}" for value in values)
        if not values:
            optional = any(name.startswith(OPTIONAL) for name in metric_names(query.expr))
            missing += not optional
            shown = "no data (shadow runs are off)" if optional else "NO DATA"
        sys.stdout.write(f"{query.dashboard} | {query.panel} | {shown}\n")
    return missing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/")) > 0)
