"""Every query of every panel and rule, asked of a Prometheus that scrapes a service under mixed traffic."""

import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import yaml
from PIL import Image

from tools.dashboards import queries
from tools.harness import traffic
from tools.harness.live import RULES, until

DECLARED = [
    rule
    for path in sorted(RULES.glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
EXPRESSIONS = {
    **{f"{query.dashboard}: {query.panel}: {query.legend}": query.expr for query in queries.queries()},
    **{rule["record"]: rule["expr"] for rule in DECLARED if "record" in rule},
    # An alert that does not fire answers nothing: ask what it compares.
    **{rule["alert"]: queries.answer_always(rule["expr"]) for rule in DECLARED if "alert" in rule},
}


@pytest.fixture(scope="module")
def answers(prometheus: str, client: httpx2.Client) -> dict[str, list[float]]:
    """What Prometheus has for each expression: traffic until all have data, or two and a half minutes."""
    found: dict[str, list[float]] = {}

    def all_answered() -> bool:
        traffic.send_mixed(client)
        traffic.crowd(client, 4)
        # Without a key of its own, the same file would be the same job, which has ended.
        key = {"Idempotency-Key": str(time.monotonic_ns())}
        files = {"file": traffic.small_kspace()}
        client.post("/jobs", params={"operation": "reconstruct"}, files=files, headers=key).raise_for_status()
        found.update({name: queries.answer(prometheus, expr) for name, expr in EXPRESSIONS.items()})
        return all(found.values())

    # Where one never answers, its test says so.
    with suppress(TimeoutError):
        # The pause is what shadow runs need: they wait for a service that nobody asks anything.
        until(all_answered, seconds=150, what="an answer to every query", pause=2)
    return found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_queries_have_data(name: str, answers: dict[str, list[float]]) -> None:
    assert answers[name], queries.fill_variables(EXPRESSIONS[name])


def test_rules_are_loaded_and_healthy(prometheus: str) -> None:
    groups = httpx2.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}
    assert health == {rule.get("record") or rule["alert"]: ("ok", "") for rule in DECLARED}


def test_rules_are_asked_for_as_prometheus_has_them(prometheus: str, answers: dict[str, list[float]]) -> None:
    """What make test-stack asks, where no file is at hand."""
    asked = list(queries.rules(prometheus))
    assert {query.panel for query in asked} == {rule.get("record") or rule["alert"] for rule in DECLARED}
    assert all(queries.answer(prometheus, query.expr) for query in asked)


@pytest.mark.parametrize("dashboard", sorted(queries.DASHBOARDS.glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_can_be_drawn(
    dashboard: Path, prometheus: str, answers: dict[str, list[float]], tmp_path: Path
) -> None:
    pictures = pytest.importorskip("tools.reports.pictures", reason="no matplotlib: the extra train has it")
    now = time.time()
    pictures.draw(dashboard, pictures.Run(prometheus, now - 120, now, 1), tmp_path / "page.png")
    assert Image.open(tmp_path / "page.png").width == 1280
