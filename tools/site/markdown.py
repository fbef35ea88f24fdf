"""Pieces of Markdown that the reference pages are made of."""

import html
import re
from collections.abc import Iterable, Sequence

CODE = re.compile(r"(`[^`]*`)")


def cell(text: object) -> str:
    """Return a text as one line that may stand in a table's cell."""
    pieces = CODE.split(" ".join(str(text).split()).replace("|", "\\|"))
    # Outside typewriter letters <split> would be taken for HTML.
    return "".join(piece if CODE.fullmatch(piece) else html.escape(piece, quote=False) for piece in pieces)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def code(text: object) -> str:
    """Return a text in typewriter letters; nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def page(title: str, introduction: str, sections: Iterable[str]) -> str:
    """Return a page: title, introduction, sections."""
    return "\n\n".join([f"# {title}", introduction, *sections]) + "\n"
