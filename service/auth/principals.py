"""Principals: who sent a request, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """A right that a key or a token gives."""

    infer = "infer"
    """Send images, and read what models and parameters there are."""
    metrics = "metrics"
    """Read the metrics."""
    admin = "admin"
    """Everything."""


@dataclass(frozen=True)
class Principal:
    """Who sent a request: the name of a key, or the subject of a token."""

    name: str
    scopes: frozenset[Scope]
    kind: str = "key"
    """How it was recognised: by a key or by a token."""

    @property
    def owner(self) -> str:
        """Return what jobs belong to: a token's subject may have the name of a key, and must not see its jobs."""
        return f"{self.kind}:{self.name}"

    def may(self, scope: Scope) -> bool:
        """Return whether this principal has a right."""
        return scope in self.scopes or Scope.admin in self.scopes


ANYONE = Principal("anyone", frozenset({Scope.admin}))
"""Whoever reaches a service without authentication."""
