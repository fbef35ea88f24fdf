"""Reference pages leave nothing out of the code that they are made from."""

import re

from kdmri_service.app import create_app
from kdmri_service.observability import metrics
from kdmri_service.settings import Settings
from kdmri_service.transports.http.openapi import HEADERS
from kdmri_service.transports.http.problems import STATUS, problem_kind

from tools.site.commands import commands_page
from tools.site.http import http_page
from tools.site.markdown import cell, table
from tools.site.metrics import metrics_page
from tools.site.settings import settings_page


def test_each_setting_has_a_row_with_a_meaning() -> None:
    rows = dict(re.findall(r"^\| `(KDMRI_\w+)` \|.*\| ([^|]+) \|$", settings_page(), re.MULTILINE))
    assert set(rows) == {f"KDMRI_{name.upper()}" for name in Settings.model_fields}
    assert all(len(meaning) > 20 for meaning in rows.values())


def test_each_metric_has_a_row_with_its_labels() -> None:
    page = metrics_page()
    families = {family.name for family in metrics.REGISTRY.collect() if family.name.startswith("kdmri_")}
    assert families == {
        name.removesuffix("_total") for name in re.findall(r"^\| `(kdmri_\w+)` \| [a-z]+ \|", page, re.M)
    }
    assert "| `kdmri_requests_total` | counter | `operation`, `role`, `status` |" in page


def test_each_parameter_header_and_problem_is_listed() -> None:
    page = http_page()
    for path, methods in create_app().openapi()["paths"].items():
        for method, operation in methods.items():
            section = page.split(f"## {method.upper()} {path}\n")[1].split("\n## ")[0]
            assert all(f"| `{parameter['name']}` |" in section for parameter in operation.get("parameters", []))
            answer = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            assert all(f"`{kind}`" in section for kind in answer.get("content", {}))
    assert all(f"| `{header}` |" in page for header in HEADERS)
    served = [error for error, status in STATUS.items() if status != 408]
    assert all(f"urn:kdmri:problem:{problem_kind(error)}`" in page for error in served)


def test_each_command_is_listed_with_its_options() -> None:
    page = commands_page()
    names = re.findall(r"^## kdmri (.+)$", page, re.MULTILINE)
    assert {"reconstruct", "super-resolve", "undersample", "models", "serve", "train", "export"} <= set(names)
    assert "| `--acceleration` | number, at least 1 | required |" in page


def test_cells_are_text_and_not_markup() -> None:
    assert cell("a <b> | `c <d>`\n e") == "a &lt;b&gt; \\| `c <d>` e"
    assert table(["a"], [("x|y",)]).splitlines() == ["| a |", "| --- |", "| x\\|y |"]
