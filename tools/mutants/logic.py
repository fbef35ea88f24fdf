"""Mutations that count: one wrong condition, loop or sign in code that computes or decides.

cosmic-ray offers more than two hundred operators. Those left out change what no test should hold (numbers of
tolerances, messages, annotations), or give code that fails for any input (a sum of floats turned into a shift of bits),
so that they would raise the share of killed mutants without a merit of the tests.
"""

import ast
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec

COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt")
IDENTITY = ("Is_IsNot", "IsNot_Is")
ARITHMETIC = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul")
SETS_AND_MASKS = ("BitAnd_BitOr", "BitOr_BitAnd")
OPERATORS = frozenset(
    [
        *(f"core/ReplaceComparisonOperator_{change}" for change in (*COMPARISONS, *IDENTITY)),
        *(f"core/ReplaceBinaryOperator_{change}" for change in (*ARITHMETIC, *SETS_AND_MASKS)),
        "core/ReplaceUnaryOperator_Delete_Not",
        "core/ReplaceUnaryOperator_Delete_USub",
        "core/ReplaceUnaryOperator_Delete_Invert",
        "core/ReplaceAndWithOr",
        "core/ReplaceOrWithAnd",
        "core/ReplaceTrueWithFalse",
        "core/ReplaceFalseWithTrue",
        "core/ReplaceBreakWithContinue",
        "core/ReplaceContinueWithBreak",
        "core/AddNot",
        "core/ZeroIterationForLoop",
    ]
)
"""Names of cosmic-ray's operators whose mutations count."""

Place = tuple[int, int]


def mutations(modules: Sequence[Path]) -> list[MutationSpec]:
    """Return all mutations of logic in modules, in the order of the source."""
    # cosmic-ray finds mutations only into a database; one in memory is gone with the object.
    database = WorkDB(":memory:", WorkDB.Mode.create)
    init(modules, database, {})
    found = [mutation for item in database.work_items for mutation in item.mutations]
    database.close()
    trees = {module: ast.parse(module.read_text()) for module in modules}
    ignored = {module: list(_extents_without_logic(tree)) for module, tree in trees.items()}
    signs = {module: list(_signs(tree)) for module, tree in trees.items()}

    def counts(mutation: MutationSpec) -> bool:
        place, module, operator = mutation.start_pos, mutation.module_path, mutation.operator_name
        if operator not in OPERATORS or any(start <= place < end for start, end in ignored[module]):
            return False
        # cosmic-ray takes the stars of arguments and of unpacking for products and powers.
        return "BinaryOperator" not in operator or any(start <= place < end for start, end in signs[module])

    return sorted(filter(counts, found), key=lambda m: (str(m.module_path), m.start_pos, m.operator_name))


def sample(counted: Sequence[MutationSpec], size: int, seed: int) -> list[MutationSpec]:
    """Draw places of the source, and one of the mutations of each: the same for the same code and seed.

    Args:
        counted: Mutations of `mutations`.
        size: Number of places, at most as many as there are.
        seed: Seed of the draw.

    Returns:
        The mutations, in the order of the source.
    """
    # Drawn by place, because a comparison can be wrong in two ways and would otherwise count twice.
    places: dict[tuple[Path, Place], list[MutationSpec]] = defaultdict(list)
    for mutation in counted:
        places[mutation.module_path, mutation.start_pos].append(mutation)
    rng = random.Random(seed)
    drawn = rng.sample(sorted(places), min(size, len(places)))
    return [rng.choice(places[place]) for place in sorted(drawn)]


def _extents_without_logic(tree: ast.AST) -> Iterator[tuple[Place, Place]]:
    """Yield beginning and end of code that holds no logic: types, decorators, log lines and text of messages."""
    parts: Sequence[ast.expr | ast.Raise | None]
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                parts = [*node.decorator_list, node.returns]
            case ast.ClassDef():
                parts = [*node.decorator_list]
            case ast.arg() | ast.AnnAssign():
                parts = [node.annotation]
            case ast.Raise() | ast.JoinedStr():
                parts = [node]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"))):
                parts = [node]
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, types]):
                parts = [types]
            case _:
                continue
        yield from (_extent(part) for part in parts if part is not None)


def _signs(tree: ast.AST) -> Iterator[tuple[Place, Place]]:
    """Yield where the signs of arithmetic stand: between the end of the left operand and the begin of the right one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            yield _extent(node.left)[1], _extent(node.right)[0]
        if isinstance(node, ast.AugAssign):
            yield _extent(node.target)[1], _extent(node.value)[0]


def _extent(node: ast.expr | ast.Raise) -> tuple[Place, Place]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
