"""Mutants: which mutations count, how they are drawn, and what the report makes of them."""

from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="no cosmic-ray: the extra dev has it")

from cosmic_ray.plugins import operator_names

from tools.mutants import logic, page, suites
from tools.mutants.trial import Trial

SOURCE = """
def best(first: int | None, *others: int, flag: bool = True) -> int | None:
    if not isinstance(others, tuple | list):
        raise ValueError(f"expected others, got {len(others) + 1 - 1}")
    options = {**{}, "a": first}
    for other in others:
        if other > 3 and flag:
            continue
    return -first * 2
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[logic.MutationSpec]:
    """Mutations of SOURCE."""
    module = tmp_path_factory.mktemp("package") / "module.py"
    module.write_text(SOURCE)
    return logic.mutations([module])


def test_each_operator_is_one_of_cosmic_rays() -> None:
    assert set(operator_names()) >= logic.OPERATORS


def test_logic_is_mutated_and_text_annotations_and_stars_are_not(counted: list[logic.MutationSpec]) -> None:
    found = {(mutation.start_pos[0], mutation.operator_name.removeprefix("core/")) for mutation in counted}
    assert found == {
        (2, "ReplaceTrueWithFalse"),
        (3, "AddNot"),
        (3, "ReplaceUnaryOperator_Delete_Not"),
        (6, "ZeroIterationForLoop"),
        (7, "AddNot"),
        (7, "ReplaceAndWithOr"),
        (7, "ReplaceComparisonOperator_Gt_GtE"),
        (7, "ReplaceComparisonOperator_Gt_LtE"),
        (8, "ReplaceContinueWithBreak"),
        (9, "ReplaceBinaryOperator_Mul_Div"),
        (9, "ReplaceUnaryOperator_Delete_USub"),
    }


@pytest.mark.parametrize("size", [1, 3, 99])
def test_a_sample_depends_on_its_seed_and_takes_a_place_once(counted: list[logic.MutationSpec], size: int) -> None:
    places = {mutation.start_pos for mutation in counted}
    for seed in range(5):
        drawn = logic.sample(counted, size, seed)
        assert drawn == logic.sample(counted, size, seed)
        assert len({mutation.start_pos for mutation in drawn}) == len(drawn) == min(size, len(places))


def test_each_module_with_logic_has_tests_that_exist() -> None:
    for package in suites.PACKAGES.values():
        modules = {str(file.relative_to(suites.ROOT)) for file in (suites.ROOT / package).glob("*.py")}
        without = {name for name in modules - set(suites.SUITES) if logic.mutations([suites.ROOT / name])}
        assert without == set()
    for module, tests in suites.SUITES.items():
        assert (suites.ROOT / module).is_file()
        assert [test for test in tests if not (suites.ROOT / test).is_file()] == []


def test_equivalent_mutants_are_of_lines_that_are_there() -> None:
    for mutant in page.equivalents():
        lines = [line.strip() for line in (suites.ROOT / mutant.module).read_text().splitlines()]
        assert mutant.before in lines
        assert mutant.reason


def test_the_share_leaves_equivalent_mutants_out_and_the_page_lists_every_survivor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def trial(after: str, *, killed: bool) -> Trial:
        return Trial(module="m.py", before="a < b", after=after, operator="Lt", killed=killed)

    trials = [trial("1", killed=True), trial("a <= b", killed=False), trial("a >= b", killed=False)]
    known = page.Equivalent(module="m.py", before="a < b", after="a <= b", reason="a is never b")
    monkeypatch.setattr(page, "equivalents", lambda: [known])
    monkeypatch.setattr(page, "FIGURES", tmp_path)
    page.write(page.Figures(date="2020-01-02", commit="abc", seed=1, mutations=9, trials=trials), "physics")
    text = page.page()
    assert "| `kdmri/physics` | 3 of 9, seed 1 | 1 | 1 | 1 | **50%** | 2020-01-02, `abc` |" in text
    equivalent, survivors = text.split("## Equivalent mutants")[1].split("## Survivors")
    assert "a is never b" in equivalent
    assert "`a >= b`" in survivors
    assert "`a <= b`" not in survivors
