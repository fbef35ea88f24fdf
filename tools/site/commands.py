"""The command-line page, made from the commands' own declarations."""

from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from kdmri.cli.main import app
from tools.site.markdown import code, page, table

INTRODUCTION = """\
The command `kdmri` exits with 0 on success, 2 on a usage error, and 1 with one line that says what was expected and
what came on any other error. `kdmri --debug COMMAND` shows the traceback of such an error."""

KINDS: dict[object, str] = {int: "whole number", float: "number", bool: "switch", Path: "path"}
Parameter = TyperArgument | TyperOption


def commands_page() -> str:
    """Return the page: one section for each command, with its arguments and options."""
    # The service and training add their commands when the command line starts: a copy takes them here.
    complete = typer.Typer(add_completion=False)
    complete.registered_commands = list(app.registered_commands)
    for command in entry_points(group="kdmri.commands"):
        complete.command(name=command.name)(command.load())
    group = typer.main.get_command(complete)
    assert isinstance(group, TyperGroup)
    sections = []
    for name, entry in group.commands.items():
        parameters = [
            one for one in entry.params if isinstance(one, TyperArgument | TyperOption) and one.name != "help"
        ]
        head = ["Parameter", "Values", "Default", "Meaning"]
        sections += [f"## kdmri {name}", entry.help or "", table(head, map(_row, parameters)) if parameters else ""]
    return page("Command line", INTRODUCTION, [section for section in sections if section])


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
