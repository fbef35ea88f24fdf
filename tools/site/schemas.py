"""JSON schemas in words."""

from typing import Any

from tools.site.markdown import code

LIMITS = {"minimum": "at least", "maximum": "at most"}
KINDS = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}


def allowed_values(schema: dict[str, Any]) -> str:
    """Return the values that a schema allows, in words; null, which stands for a default, is left out."""
    schema = next((kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"), schema)
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "pattern" in schema:
        return "matches " + code(schema["pattern"])
    if schema.get("format") == "path":
        return "folder"
    limits = [f"{words} {schema[limit]}" for limit, words in LIMITS.items() if limit in schema]
    return ", ".join([KINDS.get(schema.get("type", ""), "text"), *limits])
