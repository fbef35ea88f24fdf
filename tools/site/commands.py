"""The command-line page, made from the commands' own declarations."""

import html
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from kdmri.cli.main import add_commands, app
from tools.site.markdown import code, page, table

INTRODUCTION = """\
The command `kdmri` exits with 0 on success, 2 on a usage error, and 1 with one line that says what was expected and
what came on any other error. `kdmri --debug COMMAND` shows the traceback of such an error."""

KINDS: dict[object, str] = {int: "whole number", float: "number", bool: "switch", Path: "path"}
Parameter = TyperArgument | TyperOption


def commands_page() -> str:
    """Return the page: one section for each command, with its arguments and options."""
    # A copy takes the commands of other packages: the real one would have them twice once the command line runs.
    complete = typer.Typer(add_completion=False)
    complete.registered_commands = list(app.registered_commands)
    add_commands(complete)
    group = typer.main.get_command(complete)
    assert isinstance(group, TyperGroup)
    return page("Command line", INTRODUCTION, _sections(group, "kdmri"))


def _sections(group: TyperGroup, path: str) -> Iterator[str]:
    """Yield heading, help text and table of each command, those of groups within the group included."""
    for name, entry in group.commands.items():
        if isinstance(entry, TyperGroup):
            yield from _sections(entry, f"{path} {name}")
            continue
        yield f"## {path} {name}"
        yield html.escape(inspect.cleandoc(entry.help or ""), quote=False)
        own = (parameter for parameter in entry.params if parameter.name != "help")
        rows = [_row(parameter) for parameter in own if isinstance(parameter, TyperArgument | TyperOption)]
        if rows:
            yield table(["Parameter", "Values", "Default", "Meaning"], rows)


def _row(parameter: Parameter) -> tuple[str, str, str, str]:
    names = parameter.opts if isinstance(parameter, TyperOption) else [parameter.metavar or parameter.opts[0].upper()]
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        values = ", ".join(code(choice.value) for choice in kind)
    else:
        bounds = (("at least", parameter.min), ("at most", parameter.max))
        limits = [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
        values = ", ".join([KINDS.get(kind, "text"), *limits])
    # A path's default lies on the machine that builds the page.
    shown = parameter.default is not None and kind is not Path
    default = code(getattr(parameter.default, "value", parameter.default)) if shown else ""
    return ", ".join(map(code, names)), values, "required" if parameter.required else default, parameter.help or ""
