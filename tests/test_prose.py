"""How the code reads, held in figures: names of functions, docstrings, parameters, comments.

CONTRIBUTING says how code and prose are written; this holds what can be counted, in every package.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLAUSE = re.compile(r"(What|Whether|Where|How|Who|Which|Why|Of|For|By|From|With|To|Within|Since|Asked|As)\b")
"""First words of docstrings that continue the line above them, and so say nothing to who reads them alone."""
PARTICIPLE = re.compile(r"_?[a-z]+(ed|en|ought|elt|aid|own|ept)")
"""Names of one word that tell neither what a function does nor what it returns."""
PARTICIPLES_AIM, CLAUSES_AIM, DOCUMENTED_AIM = 0.02, 0.01, 0.40
"""Shares: of functions, of docstrings, and of docstrings of functions with three parameters or more."""

# Comments are counted over the whole project, whose aim is 3 in a hundred lines: packages differ in how much they need.
COMMENTS_FLOOR = 0.029

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> Iterator[Path]:
    """Yield the project's modules without tests and examples."""
    for package in ("kdmri", "service", "training", "tools"):
        yield from sorted((ROOT / package).rglob("*.py"))


def package_of(file: Path) -> str:
    """Return the first two folders of a module, or one where it lies in no second."""
    return "/".join(file.relative_to(ROOT).parts[:-1][:2])


@cache
def functions(package: str) -> list[Function]:
    """Return functions and methods of a package; the names of special methods are Python's, so those are left out."""
    return [
        node
        for file in files()
        if package_of(file) == package
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, Function) and not node.name.startswith("__")
    ]


def parameters(function: Function) -> int:
    """Return the number of parameters that a caller gives."""
    return sum(a.arg not in ("self", "cls") for a in function.args.args + function.args.kwonlyargs)


PACKAGES = sorted({package_of(file) for file in files()})


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_named_by_verbs_and_nouns(package: str) -> None:
    names = [function.name for function in functions(package)]
    found = [name for name in names if PARTICIPLE.fullmatch(name)]
    assert len(found) <= PARTICIPLES_AIM * len(names), found


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_stand_alone(package: str) -> None:
    docstrings = [text for function in functions(package) if (text := ast.get_docstring(function))]
    found = [text.splitlines()[0] for text in docstrings if CLAUSE.match(text)]
    assert len(found) <= CLAUSES_AIM * len(docstrings), found


def test_parameters_are_documented() -> None:
    long = [
        "Args:" in text
        for package in PACKAGES
        for function in functions(package)
        if (text := ast.get_docstring(function)) and parameters(function) >= 3
    ]
    assert sum(long) >= DOCUMENTED_AIM * len(long)


def test_comments_do_not_become_fewer() -> None:
    lines = [line.strip() for file in files() for line in file.read_text().splitlines()]
    assert sum(line.startswith("#") for line in lines) >= COMMENTS_FLOOR * len(lines)
