"""What a check says, and what every check is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Document", "Finding", "items", "mapping", "text"]

Level = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong.

    Args:
        level: an error is refused by the API server, the operator or our own rules; a warning is not.
        rule: short name of the check: `schema`, `cel`, `operator`, `core`, `pod-security`, `entrypoint`, `image`,
            `secret`, `version`.
        where: kind and name of the document, and the path in it.
        message: what is wrong, the value, the rule, what to set.
    """

    level: Level
    rule: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.message} [{self.rule}]"


@dataclass(frozen=True)
class Document:
    """One object of a manifest: a plain value, of which nothing is sure but that it is a mapping."""

    value: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its kind, or nothing."""
        return text(self.value.get("kind"))

    @property
    def name(self) -> str:
        """Kind and name, for messages."""
        metadata = mapping(self.value.get("metadata"))
        return f"{self.kind or 'object'}/{text(metadata.get('name')) or '?'}"

    def error(self, rule: str, path: str, message: str) -> Finding:
        """An error at a path."""
        return Finding("error", rule, f"{self.name} {path}".rstrip(), message)

    def warning(self, rule: str, path: str, message: str) -> Finding:
        """A warning at a path."""
        return Finding("warning", rule, f"{self.name} {path}".rstrip(), message)


def mapping(value: object) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one: its type is the schema's business."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """The value if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""
