"""The community files agree with the project that they describe."""

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def threat_model_tests() -> Iterator[tuple[str, str]]:
    """Yield file and function of each test that SECURITY.md names; `::name` continues with the file before it."""
    file = ""
    for path, name in re.findall(r"`([\w/]*\.py|)::(\w+)`", (ROOT / "SECURITY.md").read_text()):
        file = path or file
        yield file, name


@pytest.mark.parametrize(("file", "name"), list(threat_model_tests()))
def test_each_test_of_the_threat_model_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


def test_each_threat_names_a_test() -> None:
    table = (ROOT / "SECURITY.md").read_text().split("## Threat model")[1].split("## What is not defended")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 5
    assert all("::test_" in row.split("|")[-2] for row in rows)


def test_the_citation_is_of_the_version_in_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_hooks_run_the_ruff_that_is_pinned() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    ruff = next(repository["rev"] for repository in hooks["repos"] if "ruff" in repository["repo"])
    assert f"ruff=={ruff.removeprefix('v')}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda file: file.stem)
def test_workflows_run_targets_of_the_makefile_and_may_only_read(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    run = {target for command in commands for target in re.findall(r"\bmake ([a-z-]+)", command)}
    assert run
    assert run <= targets
    assert workflow["permissions"] == {"contents": "read"}


def test_each_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text()
    assert [file.name for file in sorted(folder.glob("0*.md")) if f"]({file.name})" not in index] == []


def test_glossary_terms_are_explained_once() -> None:
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    terms = [term for term, text in itertools.pairwise(lines) if text.startswith(":   ")]
    assert len(terms) > 30
    assert len(terms) == len(set(terms))
