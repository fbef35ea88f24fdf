"""The committed dashboards are the generated ones, ask for what the service exports, and fit a screen."""

import json
import re
from pathlib import Path

import pytest

from tools.dashboards import queries

DEPLOY = Path(__file__).parents[2] / "deploy"
# Prometheus' own word on a target.
OF_PROMETHEUS = {"up"}
COMMITTED = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


def test_committed_dashboards_are_the_generated_ones(tmp_path):
    dashboards = pytest.importorskip("tools.dashboards.__main__", reason="grafana-foundation-sdk is not installed")
    dashboards.write(tmp_path)
    generated = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert generated == {path.name: path.read_text() for path in COMMITTED}, "run make dashboards"


@pytest.mark.parametrize("query", list(queries.queries()), ids=lambda query: f"{query.dashboard}: {query.panel}")
def test_queries_name_only_what_the_service_exports(query, exported):
    names = queries.metric_names(query.expr)
    assert names
    assert names <= exported | OF_PROMETHEUS


def test_an_alert_that_has_data_answers_though_it_does_not_fire():
    expr = 'sum by (job) (rate(a{b!="c", d=~"e"}[5m])) > 0 or absent(f) == 1'
    assert queries.answer_always(expr) == 'sum by (job) (rate(a{b!="c", d=~"e"}[5m])) > bool 0 or absent(f) == bool 1'


def test_metric_names_reads_promql():
    expr = 'sum by (le, role) (rate(a_bucket{role=~"$x", s="b{c"}[5m])) / on () group_left () d or vector(1e3)'
    assert queries.metric_names(expr) == {"a_bucket", "d"}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_datasource_is_the_provisioned_one(path):
    provisioned = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    uid = re.search(r"uid: (\S+)", provisioned)[1]
    dashboard = json.loads(path.read_text())
    users = dashboard["panels"] + dashboard["templating"]["list"]
    assert {user["datasource"]["uid"] for user in users} == {uid}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_panels_are_explained_and_do_not_overlap(path):
    taken = set()
    for panel in json.loads(path.read_text())["panels"]:
        assert panel["description"], panel["title"]
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        taken |= cells


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_values_have_units_and_figures_limits_of_our_own(path):
    """Grafana's own limit for a figure is 80, and red from there."""
    for panel in json.loads(path.read_text())["panels"]:
        defaults = panel["fieldConfig"]["defaults"] if panel["type"] != "table" else {"unit": "text"}
        assert defaults["unit"], panel["title"]
        assert panel["type"] != "stat" or defaults["thresholds"]["steps"], panel["title"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_operation_role_and_model_can_be_chosen(path):
    dashboard = json.loads(path.read_text())
    asked = "".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["operation", "role", "model"]
    assert all(f"${variable['name']}" in asked for variable in dashboard["templating"]["list"])


def test_what_is_drawn_as_a_limit_is_where_an_alert_fires():
    panels = pytest.importorskip("tools.dashboards.panels", reason="grafana-foundation-sdk is not installed")
    assert (panels.alarm("KdmriStudentSsimDrifts"), panels.alarm("KdmriRequestsSlow")) == (-0.03, 60)
    (panel,) = (
        panel
        for panel in json.loads((COMMITTED[0].parent / "teacher-against-student.json").read_text())["panels"]
        if panel["title"] == "SSIM against the card"
    )
    drawn = {step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}
    assert drawn == {None, panels.alarm("KdmriStudentSsimDrifts")}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_transformations_carry_their_options(path):
    panels = json.loads(path.read_text())["panels"]
    transformations = [step for panel in panels for step in panel.get("transformations", [])]
    assert transformations
    assert all(step["options"] and not step.get("disabled") for step in transformations)
