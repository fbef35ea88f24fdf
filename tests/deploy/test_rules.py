"""Prometheus' own tool checks the rules and runs their tests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools.dashboards import queries

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool: Debian's package prometheus has it"
)


def rules() -> list[dict]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


@promtool
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", PROMETHEUS / "prometheus.yml"],
        ["check", "rules", *RULES],
        ["test", "rules", *TESTS],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_passes(command):
    ran = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_rules_name_only_what_is_exported_or_recorded(exported):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = set().union(*(queries.metric_names(rule["expr"]) for rule in rules()))
    assert named <= exported | recorded | {"up"}


def test_every_alert_has_a_test_in_which_it_fires():
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    fired = {
        case["alertname"]
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert alerts == fired


@pytest.mark.parametrize("rule", [rule for rule in rules() if "alert" in rule], ids=lambda rule: rule["alert"])
def test_alerts_say_what_to_do(rule):
    assert re.fullmatch(r"critical|warning|info", rule["labels"]["severity"])
    assert set(rule["annotations"]) == {"summary", "description"}
